"""CLIP's image tower: pictures, and places in a frame, become points in the space it shares with words.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", for the network,
which is that of transformers. Points of places: Zhou et al. 2022, "Extract Free Dense Labels from CLIP"
(arXiv 2112.01071), and Wang et al. 2023, "SCLIP" (arXiv 2312.01597): in the last layer a place draws from
places like itself, by its own queries and values, in place of what the class token needs. What a point is
called is told by `model.name_table`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

# Pixels that are seen of a frame, about; more are not better, as the tower learnt on pictures of 224 x 224.
FRAME_AREA = 84_000
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, in [0, 1]
_SPREAD = (0.26862954, 0.26130258, 0.27577711)


def base_config() -> CLIPVisionConfig:
    """ViT-B/16 on pictures of 224 pixels, points of 512."""
    return CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        projection_dim=512,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=16,
        image_size=224,
    )


class ClipPictures(nn.Module):
    """The tower; `network` is under transformers' names.

    Args:
        config: of the image tower.
        frame_area: pixels that `places` sees of a frame, about.
    """

    def __init__(self, config: CLIPVisionConfig | None = None, frame_area: int = FRAME_AREA):
        super().__init__()
        self.config = config or base_config()
        self.network = CLIPVisionModelWithProjection(self.config)
        self.frame_area = frame_area

    @property
    def side(self) -> int:
        """S, the side of a picture in pixels."""
        return self.config.image_size

    @property
    def width(self) -> int:
        """P, the length of a point."""
        return self.config.projection_dim

    @torch.inference_mode()
    def forward(self, pictures: np.ndarray) -> torch.Tensor:
        """Points of whole pictures.

        Args:
            pictures: uint8 [N, S, S, 3], RGB.

        Returns:
            float32 [N, P], not normalised.
        """
        if (
            pictures.ndim != 4
            or pictures.shape[1:] != (self.side, self.side, 3)
            or pictures.dtype != np.uint8
        ):
            raise ValueError(
                f"pictures must be uint8 [N, {self.side}, {self.side}, 3], "
                f"got {pictures.dtype} {pictures.shape}"
            )
        if not len(pictures):
            return torch.zeros(0, self.width)
        return self.network(pixel_values=self._normalised(pictures)).image_embeds.float()

    @torch.inference_mode()
    def places(self, frames: np.ndarray) -> torch.Tensor:
        """Points of the patches of frames.

        Args:
            frames: uint8 [T, H, W, 3], RGB, of any size.

        Returns:
            float32 [T, P, r, c] of length 1, on a grid of patches about as square as in training.
        """
        rows, cols = self.grid(*frames.shape[1:3])
        patch = self.config.patch_size
        pixels = self._normalised(frames, (rows * patch, cols * patch))
        network = self.network.vision_model
        states = network.pre_layrnorm(network.embeddings(pixels, interpolate_pos_encoding=True))
        *layers, last = network.encoder.layers
        for layer in layers:
            states = layer(states, None)
        drawn = self._drawn_by_likeness(last.self_attn, last.layer_norm1(states))
        points = self.network.visual_projection(network.post_layernorm(drawn))[:, 1:].float()
        points = functional.normalize(points, dim=-1)
        return points.unflatten(1, (rows, cols)).permute(0, 3, 1, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of such a frame (at most 8:1; thinner ones are stretched)."""
        ratio = min(max(width / height, 1 / 8), 8.0)
        patch = self.config.patch_size
        rows = max(1, round(math.sqrt(self.frame_area / ratio) / patch))
        return rows, max(1, round(self.frame_area / (rows * patch) / patch))

    @staticmethod
    def _drawn_by_likeness(attention: nn.Module, states: torch.Tensor) -> torch.Tensor:
        """What each token draws from those whose queries, and those whose values, are like its own."""

        def heads(tokens: torch.Tensor) -> torch.Tensor:
            return tokens.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

        values = heads(attention.v_proj(states))
        drawn = 0
        for tokens in (heads(attention.q_proj(states)), values):
            likeness = tokens @ tokens.transpose(-1, -2) * attention.scale
            mixed = likeness.float().softmax(-1).to(values.dtype) @ values
            drawn = drawn + attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return drawn

    def _normalised(self, pictures: np.ndarray, size: tuple[int, int] | None = None) -> torch.Tensor:
        """uint8 [N, h, w, 3] as the tower takes them, resized where a ``size`` is given."""
        weight = self.network.visual_projection.weight
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).to(weight.device).permute(0, 3, 1, 2)
        pixels = pixels.float() / 255
        if size is not None:
            pixels = functional.interpolate(
                pixels, size, mode="bilinear", antialias=True, align_corners=False
            ).clamp(0, 1)
        mean, spread = (torch.tensor(v, device=weight.device).view(3, 1, 1) for v in (_MEAN, _SPREAD))
        return ((pixels - mean) / spread).to(weight.dtype)
