"""Vision-language models of every family in miniature: random weights, two layers, width 64, nothing fetched.

One row here per family, see FAMILIES; the tests of all families run on them.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel, PreTrainedTokenizerFast

from model.backbones.families import backbone_for
from model.backbones.transformers_backbone import TransformersBackbone

CONTROL = {
    "qwen": [
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ],
    "internvl": ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
    "llava_onevision": ["<|im_start|>", "<|im_end|>", "<image>", "<video>"],
    "smolvlm": ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>"],
}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "bos_token_id": None,
}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN_VISION = {
    "depth": 2,
    "num_heads": 2,
    "in_channels": 3,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def _qwen(tokens: dict[str, int], size: int, text: dict, **vision: Any) -> dict[str, Any]:
    return {
        "text_config": {**TEXT, "vocab_size": size, **text},
        "vision_config": {**QWEN_VISION, **vision},
        "image_token_id": tokens["<|image_pad|>"],
        "video_token_id": tokens["<|video_pad|>"],
        "vision_start_token_id": tokens["<|vision_start|>"],
        "vision_end_token_id": tokens["<|vision_end|>"],
    }


def _qwen2_vl(tokens: dict[str, int], size: int) -> dict[str, Any]:
    return _qwen(
        tokens, size, {"rope_parameters": ROPE}, embed_dim=32, hidden_size=64, mlp_ratio=2, patch_size=14
    )


def _qwen2_5_vl(tokens: dict[str, int], size: int) -> dict[str, Any]:
    return _qwen(
        tokens, size, {"rope_parameters": ROPE}, hidden_size=32, out_hidden_size=64, intermediate_size=48,
        patch_size=14, window_size=56, fullatt_block_indexes=[1], tokens_per_second=2,
    )  # fmt: skip


def _qwen3_vl(tokens: dict[str, int], size: int) -> dict[str, Any]:
    return _qwen(
        tokens, size, {"rope_parameters": ROPE, "head_dim": 16}, hidden_size=32, out_hidden_size=64,
        intermediate_size=48, patch_size=16, num_position_embeddings=64, deepstack_visual_indexes=[0],
    )  # fmt: skip


def _internvl(tokens: dict[str, int], size: int) -> dict[str, Any]:
    return {
        "text_config": {**TEXT, "model_type": "qwen2", "vocab_size": size},
        "vision_config": {**VISION, "image_size": [56, 56], "patch_size": [7, 7]},
        "image_token_id": tokens["<IMG_CONTEXT>"],
        "downsample_ratio": 0.5,
    }


def _llava_onevision(tokens: dict[str, int], size: int) -> dict[str, Any]:
    side = 56
    return {
        "text_config": {**TEXT, "model_type": "qwen2", "vocab_size": size},
        "vision_config": {
            **VISION, "model_type": "siglip_vision_model", "image_size": side, "patch_size": 14,
            "vision_use_head": False,
        },
        "image_token_index": tokens["<image>"],
        "video_token_index": tokens["<video>"],
        "image_grid_pinpoints": [[side * row, side * col] for row in (1, 2, 3) for col in (1, 2, 3)],
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }  # fmt: skip


def _smolvlm(tokens: dict[str, int], size: int) -> dict[str, Any]:
    return {
        "text_config": {**TEXT, "model_type": "llama", "vocab_size": size, "pad_token_id": 0},
        "vision_config": {**VISION, "image_size": 64, "patch_size": 8},
        "image_token_id": tokens["<image>"],
        "scale_factor": 2,
        "pad_token_id": 0,
    }


# For each family: its control tokens, and its configuration from their ids and the number of words.
FAMILIES = {
    "qwen2_vl": ("qwen", _qwen2_vl),
    "qwen2_5_vl": ("qwen", _qwen2_5_vl),
    "qwen3_vl": ("qwen", _qwen3_vl),
    "internvl": ("internvl", _internvl),
    "llava_onevision": ("llava_onevision", _llava_onevision),
    "smolvlm": ("smolvlm", _smolvlm),
}

# A picture is not made larger before it is pressed into the square, so that a cell's pixels stay its own.
SETTINGS = {"smolvlm": {"size": {"longest_edge": 64}}}


def tiny_tokenizer(family: str, *more: str) -> PreTrainedTokenizerFast:
    """Bytes, a few merges, and the family's control tokens; ``more`` are added behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("t", "h"), ("th", "e"), ("i", "s"), ("Ġ", "is"), (".", ".")]
    words = [*alphabet, *dict.fromkeys(first + second for first, second in merges)]
    backend = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    control = CONTROL[FAMILIES[family][0]]
    end = next(token for token in control if "end" in token and "vision" not in token)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, pad_token=end)
    tokenizer.add_special_tokens({"additional_special_tokens": [*control, *more]})
    return tokenizer


def tiny_model(family: str, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> PreTrainedModel:
    """A model of the family with random weights, in evaluation mode."""
    fields = FAMILIES[family][1](tokenizer.get_vocab(), len(tokenizer))
    config = AutoConfig.for_model(family, **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Larger than the initial ones: a network of two layers says nothing otherwise.
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def tiny_backbone(family: str, seed: int = 0, **settings: Any) -> TransformersBackbone:
    """A backbone of the family with random weights."""
    tokenizer = tiny_tokenizer(family)
    return backbone_for(
        tiny_model(family, tokenizer, seed), tokenizer, **{**SETTINGS.get(family, {}), **settings}
    )
