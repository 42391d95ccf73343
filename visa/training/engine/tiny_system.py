"""A published system in miniature, for smoke runs and tests: published layout, random weights, no download.

`write_tiny` makes a folder as a base model's on the hub is, so that everything behind it (reading names,
tokenizer, SAM, export) is what a real run goes through.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlamaTokenizer

from model.chat_univi.merging import IMAGE_STAGES, Stage
from model.chat_univi.visa import build_visa
from model.llava_phi3.language import phi3_config
from model.llava_phi3.videolisa import build_videolisa
from model.mllm.reasoning_model import ReasoningModel
from model.sam.build import STRIDE, Sam
from visa.checkpoints.sam_shapes import build_sam_like

SPECIAL = {
    "visa": (),
    "videolisa": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
}
SEG_TOKEN = "[SEG]"
CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
}
CLUSTERS = (8, 4, 2)
SAM_SIDE = 128


def write_tiny(folder: Path, system: str, seed: int = 0) -> Path:
    """Write a miniature of ``system`` ("visa" or "videolisa") with tower, SAM and tokenizer.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = _write_tokenizer(folder, system)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(system, words)
        for parameter in model.language.parameters():
            if parameter.ndim > 1:
                # Larger than the initial ones: a network of two layers says nothing otherwise.
                nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    state = {f"{prefix}{name}": value for prefix, part in _parts(model) for name, value in part.items()}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_configuration(system, model), indent=1))
    (folder / "clip").mkdir(exist_ok=True)
    tower = {"model_type": "clip_vision_model", **CLIP}
    (folder / "clip" / "config.json").write_text(json.dumps(tower, indent=1))
    return folder


def _write_tokenizer(folder: Path, system: str) -> int:
    """LLaMA's tokenizer of bytes and printable characters with [SEG] behind them; how many words it has."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    words += [chr(code) for code in range(33, 127)]
    words += SPECIAL[system]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=[], legacy=True)
    if SPECIAL[system]:
        tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[system])})
    tokenizer.add_tokens(SEG_TOKEN)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _language(words: int) -> dict[str, Any]:
    return {
        "vocab_size": words,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    }


def _build(system: str, words: int) -> ReasoningModel:
    language, tower = _language(words), CLIPVisionConfig(**CLIP)
    sam = tiny_sam()
    if system == "visa":
        stages = [Stage(n, stage.neighbours) for n, stage in zip(CLUSTERS, IMAGE_STAGES, strict=True)]
        return build_visa(LlamaConfig(**language), tower, sam, seg_token_id=words - 1, stages=stages)
    return build_videolisa(phi3_config(language), tower, sam, seg_token_id=words - 1)


def tiny_sam() -> Sam:
    """SAM with an image encoder of two layers; its decoder has its real size."""
    side, width, heads, window = SAM_SIDE // STRIDE, 32, 2, 2
    shapes = {
        "image_encoder.pos_embed": (1, side, side, width),
        "image_encoder.blocks.0.attn.rel_pos_h": (2 * window - 1, width // heads),
        "image_encoder.blocks.1.attn.rel_pos_h": (2 * side - 1, width // heads),
        "image_encoder.blocks.0.mlp.lin1.weight": (2 * width, width),
    }
    sam = build_sam_like(shapes, "the tiny system")
    # The package begins with positions at zero, and a random encoder of two layers would not see place.
    nn.init.normal_(sam.image_encoder.pos_embed, std=0.5)
    return sam


def _parts(model: ReasoningModel) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """Published prefixes and the tensors that stand under them."""
    return [
        ("", model.language.state_dict()),
        ("model.vision_tower.vision_tower.vision_model.", model.tower.vision.state_dict()),
        ("model.mm_projector.", model.projector.state_dict()),
        ("model.text_hidden_fcs.0.", model.seg_head.state_dict()),
        ("model.visual_model.", model.visual_model.state_dict()),
    ]


def _configuration(system: str, model: ReasoningModel) -> dict[str, Any]:
    rates = {f"spatial_cluster_rate{index}": clusters for index, clusters in enumerate(CLUSTERS)}
    own = {
        "visa": {"model_type": "ChatUniVi", "config": rates},
        "videolisa": {"model_type": "llava_phi", "mm_projector_type": "mlp2x_gelu"},
    }[system]
    words = model.language.config.vocab_size
    shared = {"mm_vision_tower": "clip", "mm_vision_select_layer": -2, "out_dim": 256}
    return {**_language(words), **own, **shared}
