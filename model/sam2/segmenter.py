"""Frames to features, prompts to masks: SAM 2 with the face of `model.sam.SamSegmenter`.

Ravi et al. 2024 (arXiv 2408.00714), the image part. Embedding prompts enter as in Sa2VA (Yuan et al. 2025,
arXiv 2501.04001): after the sparse prompt tokens. Coordinates are (x, y) pixels of the S x S input, to which
`FrameFeatures.to_input` brings those of the video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.prompt import Prompt
from model.sam2.images import stretched
from model.sam2.network import FrameMaps, Sam2Network
from model.segmentation import FrameFeatures, MaskPrediction

MULTIMASKS = 3


class Sam2Segmenter:
    """Encodes frames and decodes prompts with one SAM 2.

    Args:
        network: shared with the tracker where there is one.
    """

    def __init__(self, network: Sam2Network) -> None:
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    @property
    def image_size(self) -> int:
        """S, the side of the network's input in pixels."""
        return self.network.side

    def encode(self, frames: np.ndarray | Tensor, *, chunk: int = 1, levels: bool = True) -> FrameFeatures:
        """Frames of one video to features.

        Args:
            frames: uint8 [T, H, W, 3], RGB, T >= 1, any size.
            chunk: frames per pass of the encoder.
            levels: of no effect: SAM 2's decoder needs the inner maps. A frame takes 16 MB in float32.

        Returns:
            Features of the T frames, in the dtype that the network computes in.

        Raises:
            ValueError: no frame, or another shape or dtype.
        """
        if len(frames) == 0:
            raise ValueError("encode needs at least one frame, got none; check the video")
        found = [
            self.network.encode(
                stretched(frames[start : start + chunk], self.image_size, self.network.device)
            )
            for start in range(0, len(frames), chunk)
        ]
        return FrameFeatures(
            embedding=torch.cat([maps.embedding for maps in found]),
            levels=tuple(torch.cat(level) for level in zip(*(maps.levels for maps in found), strict=True)),
            input_size=(self.image_size, self.image_size),
            original_size=(int(frames.shape[1]), int(frames.shape[2])),
        )

    def decode(
        self,
        features: FrameFeatures,
        prompts: Prompt | Sequence[Prompt],
        *,
        frame_index: int | Tensor = 0,
        multimask: bool = False,
    ) -> MaskPrediction:
        """Prompts to masks, each frame on its own: nothing is remembered. Differentiable.

        Args:
            features: of `encode`.
            prompts: one prompt, or several which together describe the same N objects (N may be 0).
            frame_index: which frame of `features`: one for all, or int64 [N] one for each object.
            multimask: three masks per object for ambiguous prompts instead of one.

        Raises:
            ValueError: no prompt, two boxes or masks, or prompts or frames for different numbers of objects.
        """
        sparse, dense = self.network.embed_prompts(prompts)
        maps = frame_maps(features, _indices(frame_index, len(sparse), features.embedding.device))
        if not len(sparse):
            nothing = features.embedding.new_zeros(0, MULTIMASKS if multimask else 1, dtype=torch.float32)
            side = self.image_size // 4
            return MaskPrediction(
                nothing[..., None, None].expand(-1, -1, side, side), nothing, nothing.new_zeros(0)
            )
        marked = FrameMaps(self.network.without_memory(maps.embedding), maps.levels)
        drawn = self.network.draw(marked, sparse, dense, multimask=multimask)
        return MaskPrediction(drawn.mask_logits, drawn.iou, drawn.presence)

    def to_frame(self, mask_logits: Tensor, features: FrameFeatures) -> Tensor:
        """Mask logits [N, M, S/4, S/4] to float32 [N, M, H, W] at the video's size, bilinear."""
        return functional.interpolate(
            mask_logits.float(), features.original_size, mode="bilinear", align_corners=False
        )


def frame_maps(features: FrameFeatures, indices: Tensor) -> FrameMaps:
    """The maps of the frames ``indices``, int64 [B]."""
    return FrameMaps(features.embedding[indices], tuple(level[indices] for level in features.levels))


def _indices(frame_index: int | Tensor, count: int, device: torch.device) -> Tensor:
    if not isinstance(frame_index, Tensor):
        return torch.tensor([frame_index], device=device)
    if frame_index.shape != (count,):
        raise ValueError(
            f"frame_index must have shape [{count}] (one frame per object), got {list(frame_index.shape)}"
        )
    return frame_index.to(device)
