"""A VideoLISA small enough for tests: frames of 28 pixels and 4 patches, a Phi-3 of two layers."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import CLIPVisionConfig

from model.llava_phi3.language import phi3_config
from model.llava_phi3.videolisa import VideoLisaModel, build_videolisa
from model.mllm.splicing import IMAGE_TOKEN
from tests.tiny_visa import tiny_sam

VOCABULARY, SEG, IMAGE_SIZE, PATCHES = 40, 39, 28, 4
PHI3 = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CLIP = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": 14,
}
SAM = {
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 2,
    "img_size": 64,
    "patch_size": 16,
    "mlp_ratio": 2,
    "window_size": 2,
    "global_attn_indexes": [0],
}


def tiny_videolisa(
    window: int | None = None,
    attention: str = "sdpa",
    seg_state: str = "predicting",
    *,
    layers: int = 2,
    sam: bool = False,
    seed: int = 0,
) -> VideoLisaModel:
    """Random weights, larger than the initial ones so that every token tells."""
    torch.manual_seed(seed)
    language = phi3_config({**PHI3, "num_hidden_layers": layers, "sliding_window": window})
    language._attn_implementation = attention
    model = build_videolisa(
        language,
        CLIPVisionConfig(**CLIP),
        tiny_sam(**SAM) if sam else None,
        seg_token_id=SEG,
        seg_state=seg_state,
    )
    with torch.no_grad():
        for parameter in model.language.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model.eval()


def frames(count: int = 3, seed: int = 0) -> Tensor:
    """Frames as CLIP's preprocessing leaves them, float [T, 3, S, S]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)


def conversation(question: list[int], answer: list[int]) -> Tensor:
    """Ids of a conversation about one video: two words, the placeholder, the question, the answer."""
    return torch.tensor([1, 7, IMAGE_TOKEN, *question, *answer])
