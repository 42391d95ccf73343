"""SAM built to the measure of its weights: the ViT image encoder's sizes are read off the tensors' shapes."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import nn

from model.sam.build import EMBEDDING_WIDTH, STRIDE, Sam
from model.sam.import_segment_anything import modeling
from visa.checkpoints.tensor_files import Shape
from visa.errors import InputError

POSITIONS = "image_encoder.pos_embed"
BLOCK = "image_encoder.blocks."
# Blocks of the published encoders by their width: ViT-B, -L and -H.
DEPTHS = {768: 12, 1024: 24, 1280: 32}


def build_sam_like(shapes: Mapping[str, Shape], where: object) -> Sam:
    """SAM with the ViT encoder that fits the given weights: ViT-H, -L, -B, or one of any other size.

    Args:
        shapes: of SAM's tensors by their published names.
        where: the checkpoint, for the message.

    Raises:
        InputError: the shapes are not those of SAM with a ViT.
    """
    try:
        _, rows, cols, width = shapes[POSITIONS]
        blocks = [name for name in shapes if name.startswith(BLOCK) and name.endswith(".attn.rel_pos_h")]
        # Attention over a window of S has 2S - 1 relative positions, S = rows where it is global.
        spans = {int(name.split(".")[2]): (shapes[name][0] + 1) // 2 for name in blocks}
        head_width = shapes[f"{BLOCK}0.attn.rel_pos_h"][1]
        hidden = shapes[f"{BLOCK}0.mlp.lin1.weight"][0]
        windows = {span for span in spans.values() if span != rows}
        if rows != cols or len(windows) > 1 or sorted(spans) != list(range(len(spans))) or width % head_width:
            raise ValueError("its blocks disagree")
        if len(spans) != DEPTHS.get(width, len(spans)):
            raise ValueError(f"it has {len(spans)} of {DEPTHS[width]} blocks")
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{where}: the mask network is not SAM with a ViT image encoder ({error})"
        ) from error
    encoder = modeling.ImageEncoderViT(
        img_size=rows * STRIDE,
        patch_size=STRIDE,
        embed_dim=width,
        depth=len(spans),
        num_heads=width // head_width,
        mlp_ratio=hidden / width,
        out_chans=EMBEDDING_WIDTH,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=windows.pop() if windows else rows,
        global_attn_indexes=tuple(index for index, span in spans.items() if span == rows),
    )
    return Sam(encoder, rows * STRIDE).eval()


def sam_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of one of SAM's tensors when the system runs in ``dtype``.

    Only the image encoder is cast, and only to bfloat16: its last layers overflow float16. The prompt
    encoder and the mask decoder are small and decide where the mask's edge lies.
    """
    return dtype if dtype == torch.bfloat16 and name.startswith("image_encoder.") else torch.float32
