"""A VISA small enough for tests, of the sizes of the golden data's config.json, and its published names."""

from __future__ import annotations

from functools import partial

from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig

from model.chat_univi.visa import VisaModel, build_visa
from model.sam.build import Sam
from model.sam.import_segment_anything import modeling

LLAMA = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
CLIP = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 224,
    "patch_size": 14,
}
SAM = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "img_size": 256,
    "patch_size": 16,
    "mlp_ratio": 4,
    "window_size": 4,
    "global_attn_indexes": [1],
}
SEG = 511

# Our modules and what they are called in VISA's checkpoints.
PUBLISHED = {
    "language.": "",
    "tower.vision.": "model.vision_tower.vision_tower.vision_model.",
    "projector.": "model.mm_projector.",
    "seg_head.": "model.text_hidden_fcs.0.",
    "visual_model.": "model.visual_model.",
}


def published_name(name: str) -> str:
    """What one of our parameters is called in a checkpoint."""
    ours, theirs = next(pair for pair in PUBLISHED.items() if name.startswith(pair[0]))
    return theirs + name.removeprefix(ours)


def tiny_sam(
    embed_dim: int,
    depth: int,
    num_heads: int,
    img_size: int,
    patch_size: int,
    mlp_ratio: float,
    window_size: int,
    global_attn_indexes: list[int],
) -> Sam:
    """SAM with a small ViT; prompt encoder and mask decoder have their real sizes."""
    encoder = modeling.ImageEncoderViT(
        img_size=img_size,
        patch_size=patch_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        out_chans=256,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window_size,
        global_attn_indexes=tuple(global_attn_indexes),
    )
    return Sam(encoder, img_size)


def tiny_visa(
    llama: dict = LLAMA, clip: dict = CLIP, sam: dict | None = SAM, seg_token_id: int = SEG, **options: object
) -> VisaModel:
    """VISA with initial weights; ``options`` are those of `build_visa`."""
    return build_visa(
        LlamaConfig(**llama),
        CLIPVisionConfig(**clip),
        None if sam is None else tiny_sam(**sam),
        seg_token_id=seg_token_id,
        **options,
    )
