"""SAM's three networks, put together: `build_sam("vit_t" | "vit_b" | "vit_l" | "vit_h")`.

Kirillov et al. 2023, "Segment Anything" (arXiv 2304.02643). Prompt encoder, mask decoder and the
ViT image encoders are those of the `segment-anything` package; TinyViT is ours. The state dicts have
the published layouts (`sam_vit_h_4b8939.pth` and its sisters, `mobile_sam.pt`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from model.sam.images import PIXEL_MEAN, PIXEL_STD
from model.sam.import_segment_anything import builders, modeling
from model.sam.tiny_vit import TinyViT

NAMES = ("vit_t", "vit_b", "vit_l", "vit_h")
EMBEDDING_WIDTH = 256
STRIDE = 16


class PromptEncoder(modeling.PromptEncoder):
    """The package's prompt encoder, kept in float32 when the rest of SAM is cast.

    Its random Fourier frequencies turn a coordinate into an angle: bfloat16's eight bits would move
    points by several pixels.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def move_only(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        # The submodules have to be walked with the guarded function too.
        return super()._apply(move_only, recurse)


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder under the published names.

    Args:
        image_encoder: [B, 3, S, S] to [B, 256, S/16, S/16].
        image_size: S, the side of the padded input in pixels, a multiple of 16.
    """

    def __init__(self, image_encoder: nn.Module, image_size: int = 1024):
        super().__init__()
        grid = image_size // STRIDE
        self.image_size = image_size
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder(
            embed_dim=EMBEDDING_WIDTH,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        )
        self.mask_decoder = modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=EMBEDDING_WIDTH, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=EMBEDDING_WIDTH,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.pixel_mean.device


def build_sam(name: str, checkpoint: str | Path | None = None, image_size: int = 1024) -> Sam:
    """Build SAM, in evaluation mode.

    Args:
        name: "vit_t" (MobileSAM), "vit_b", "vit_l" or "vit_h".
        checkpoint: a published weight file, loaded strictly; None leaves the initial weights.
        image_size: side of the square input in pixels. The ViT encoders have position embeddings
            for 1024 only; TinyViT takes any multiple of 32.

    Returns:
        The network on the current default device.

    Raises:
        ValueError: unknown name, or a size that the encoder does not take.
        RuntimeError: the weight file has other keys or shapes.
    """
    if name not in NAMES:
        raise ValueError(f"unknown SAM {name!r}; expected one of {', '.join(NAMES)}")
    if image_size % 32 or image_size <= 0 or (name != "vit_t" and image_size != 1024):
        raise ValueError(
            f"{name} does not take {image_size} px input; use 1024"
            + (" or another multiple of 32" if name == "vit_t" else "")
        )
    encoder = TinyViT() if name == "vit_t" else builders.sam_model_registry[name]().image_encoder
    sam = Sam(encoder, image_size).eval()
    if checkpoint is not None:
        sam.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True), strict=True)
    return sam
