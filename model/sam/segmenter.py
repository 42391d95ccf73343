"""Frames to features, prompts to masks: SAM as the rest of the project uses it.

Preprocessing and postprocessing are those of Kirillov et al. 2023 as the `segment-anything` package
does them; embedding prompts enter as in LISA (Lai et al. 2023, arXiv 2308.00692) and VISA (Yan et al.
2024, arXiv 2407.11325), section 3: appended to the sparse prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.prompt import Prompt, join_prompts
from model.sam.build import STRIDE, Sam
from model.sam.images import input_size, resized
from model.sam.tiny_vit import TinyViT
from model.segmentation import FrameFeatures, MaskPrediction

__all__ = ["FrameFeatures", "MaskPrediction", "SamSegmenter"]


class SamSegmenter:
    """Encodes frames and decodes prompts with one SAM.

    Args:
        sam: from `build_sam`; used where and as it is (device, dtype, gradients).
        pad_input: pad frames to a square as SAM does. False spares encoder and decoder the padding,
            TinyViT only: a 16:9 frame costs half, and masks differ little (IoU .992 with the padded
            ones, and .002 lower with the truth, over 21 DAVIS frames prompted by their true box).
        encoder_dtype: autocast the image encoder to it; None computes in the encoder's own dtype.

    Raises:
        ValueError: `pad_input=False` with an encoder of fixed input size.
    """

    def __init__(self, sam: Sam, *, pad_input: bool = True, encoder_dtype: torch.dtype | None = None):
        if not pad_input and not isinstance(sam.image_encoder, TinyViT):
            raise ValueError("SAM's ViT encoders have a fixed input size; pad_input=False needs vit_t")
        self.sam = sam
        self.pad_input = pad_input
        self.encoder_dtype = encoder_dtype

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.sam.device

    @property
    def image_size(self) -> int:
        """S, the side of the network's input in pixels."""
        return self.sam.image_size

    def input_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a frame once its longer side is S pixels, at least one pixel each."""
        return input_size(original_size, self.sam.image_size)

    def preprocess(self, frames: np.ndarray | Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Resize (bilinear, antialiased) to the longer side S and normalise; no padding yet.

        Args:
            frames: uint8 [T, H, W, 3], RGB.

        Returns:
            float [T, 3, h, w] on SAM's device, and (h, w).

        Raises:
            ValueError: another shape or dtype, or an empty frame.
        """
        array = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
        small = resized(array, self.sam.image_size)
        images = torch.from_numpy(small).to(self.sam.device).permute(0, 3, 1, 2)
        return (images - self.sam.pixel_mean) / self.sam.pixel_std, (small.shape[1], small.shape[2])

    def encode(self, frames: np.ndarray | Tensor, *, chunk: int = 1, levels: bool = True) -> FrameFeatures:
        """Frames of one video to features.

        Args:
            frames: uint8 [T, H, W, 3], RGB, T >= 1, any size.
            chunk: frames per pass of the encoder.
            levels: keep the inner maps. A 1024x576 frame's take 15 MB in float32; pass False when
                many frames are encoded at once and only prompts follow.

        Returns:
            Features of the T frames, in the dtype of the encoder's output.

        Raises:
            ValueError: no frame, or another shape or dtype.
        """
        if len(frames) == 0:
            raise ValueError("encode needs at least one frame, got none; check the video")
        embeddings, maps = [], []
        for start in range(0, len(frames), chunk):
            images, size = self.preprocess(frames[start : start + chunk])
            embedding, inner = self._run_encoder(images)
            embeddings.append(embedding)
            maps.append(inner if levels else ())
        return FrameFeatures(
            embedding=torch.cat(embeddings),
            levels=tuple(torch.cat(level) for level in zip(*maps, strict=True)),
            input_size=size,
            original_size=(int(frames.shape[1]), int(frames.shape[2])),
        )

    def _run_encoder(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Normalised images [T, 3, h, w] to the embedding and the inner maps, cropped to the frame."""
        encoder = self.sam.image_encoder
        height, width = images.shape[-2:]
        if self.pad_input:
            below, right = self.sam.image_size - height, self.sam.image_size - width
        else:
            below, right = -height % STRIDE, -width % STRIDE
        images = functional.pad(images, (0, right, 0, below)).to(next(encoder.parameters()).dtype)
        with torch.autocast(images.device.type, self.encoder_dtype, enabled=self.encoder_dtype is not None):
            if not isinstance(encoder, TinyViT):
                return encoder(images), ()
            embedding, levels = encoder.forward_levels(images)
        cropped = tuple(
            level[..., : -(-height // stride), : -(-width // stride)]
            for level, stride in zip(levels, encoder.level_strides, strict=True)
        )
        return embedding, cropped

    def decode(
        self,
        features: FrameFeatures,
        prompts: Prompt | Sequence[Prompt],
        *,
        frame_index: int | Tensor = 0,
        multimask: bool = False,
    ) -> MaskPrediction:
        """Prompts to masks. Differentiable; autocast, where on, covers the decoder alone.

        Args:
            features: of `encode`.
            prompts: one prompt, or several which together describe the same N objects (N may be 0). Points,
                then the box, then embeddings make the sparse tokens; a mask prompt replaces
                SAM's "no mask" map.
            frame_index: which frame of `features`: one for all, or int64 [N] one for each object.
            multimask: three masks per object for ambiguous prompts instead of one.

        Returns:
            Mask logits and estimated IoU, float32.

        Raises:
            ValueError: no prompt, two boxes or masks, or prompts for different numbers of objects.
        """
        sparse, dense = self.embed_prompts(prompts)
        if not len(sparse):
            # The package's decoder cannot reshape nothing.
            side, channels = self.sam.image_size // 4, 3 if multimask else 1
            nothing = torch.zeros(0, channels, device=self.sam.device)
            return MaskPrediction(nothing[..., None, None].expand(-1, -1, side, side), nothing)
        rows, cols = features.embedding.shape[-2:]
        dense = dense[..., :rows, :cols]
        dtype = next(self.sam.mask_decoder.parameters()).dtype
        if isinstance(frame_index, Tensor):
            if frame_index.shape != (len(sparse),):
                raise ValueError(
                    f"frame_index must have shape [{len(sparse)}] (one frame per object), "
                    f"got {list(frame_index.shape)}"
                )
            # The decoder adds the dense prompt to one shared image: with the images in the dense
            # prompt and a zero image, each object gets its own.
            dense = dense + features.embedding[frame_index.to(features.embedding.device)]
            embedding = torch.zeros_like(features.embedding[:1])
        else:
            embedding = features.embedding[frame_index][None]
        mask_logits, iou = self.sam.mask_decoder(
            image_embeddings=embedding.to(dtype),
            image_pe=self.sam.prompt_encoder.get_dense_pe()[..., :rows, :cols].to(dtype),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=multimask,
        )
        # Repeating the edge keeps the interpolation of `to_frame` free of a border.
        side = self.sam.image_size // 4
        below, right = side - mask_logits.shape[-2], side - mask_logits.shape[-1]
        if below or right:
            mask_logits = functional.pad(mask_logits, (0, right, 0, below), mode="replicate")
        return MaskPrediction(mask_logits=mask_logits.float(), iou=iou.float())

    def embed_prompts(self, prompts: Prompt | Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """SAM's sparse tokens [N, K, 256] and dense map [N, 256, S/16, S/16], float32."""
        joined = join_prompts(prompts, self.sam.device)
        # Coordinates and their Fourier features need float32.
        with torch.autocast(self.sam.device.type, enabled=False):
            sparse, dense = self.sam.prompt_encoder(
                points=None if joined.points is None else (joined.points, joined.labels),
                boxes=joined.boxes,
                masks=joined.mask_logits,
            )
            # Without clicks, box and mask the package answers for one object.
            sparse = sparse.expand(joined.num_objects, -1, -1)
            dense = dense.expand(joined.num_objects, -1, -1, -1)
            return (sparse if joined.embeddings is None else torch.cat([sparse, joined.embeddings], 1)), dense

    def to_frame(self, mask_logits: Tensor, features: FrameFeatures) -> Tensor:
        """Mask logits [N, M, S/4, S/4] to float32 [N, M, H, W] at the video's size.

        As SAM does: bilinear to the padded input, without its padding, bilinear to the video.
        """
        side = self.sam.image_size
        height, width = features.input_size
        logits = functional.interpolate(
            mask_logits.float(), (side, side), mode="bilinear", align_corners=False
        )
        logits = logits[..., :height, :width]
        return functional.interpolate(logits, features.original_size, mode="bilinear", align_corners=False)
