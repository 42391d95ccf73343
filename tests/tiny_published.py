"""Tiny checkpoints of VISA and VideoLISA, written as the published ones are: the same names, other sizes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
KEYS = {"visa": GOLDEN / "visa" / "keys.json", "videolisa": GOLDEN / "videolisa" / "keys_224.json"}
TOWER_PREFIX = "model.vision_tower.vision_tower."
VOCABULARY = 512
SEG = VOCABULARY - 1
HIDDEN = 64
LORA = {"visa": ("q_proj", "v_proj"), "videolisa": ("qkv_proj",)}
LORA_RANK, LORA_ALPHA = 8, 16

CLIP = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 224,
    "patch_size": 14,
    "num_channels": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 64,
}
_LANGUAGE = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_hidden_size": 64,
    "mm_vision_tower": "clip",
    "vision_tower": "clip",
    "train_mask_decoder": True,
    "out_dim": 256,
    "torch_dtype": "bfloat16",
}
CONFIG = {
    "visa": {
        **_LANGUAGE,
        "architectures": ["VISAForCausalLM"],
        "model_type": "ChatUniVi",
        "config": {
            "use_cluster": True,
            "spatial_cluster_rate0": 64,
            "spatial_cluster_rate1": 32,
            "spatial_cluster_rate2": 16,
            "temporal_cluster_rate": 0.0625,
        },
    },
    "videolisa": {
        **_LANGUAGE,
        "architectures": ["VideoLISAForCausalLM"],
        "model_type": "llava_phi",
        "mm_projector_type": "mlp2x_gelu",
        "original_max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "sliding_window": 2047,
    },
}


def published_state(system: str, seed: int = 0) -> dict[str, Tensor]:
    """All tensors that the reference's model has in memory, by their published names, float32, random."""
    shapes = json.loads(KEYS[system].read_text())
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            state[name] = value / value[0].numel() ** 0.5
        else:
            state[name] = 1 + 0.1 * value if name.endswith("weight") else 0.02 * value
    return state


def merged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the published merging script saves: everything but the vision tower."""
    return {name: value for name, value in state.items() if "vision_tower" not in name}


def with_lora(
    system: str, state: dict[str, Tensor], seed: int = 1
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A training state, and the same with its adapters merged in double precision."""
    generator = torch.Generator().manual_seed(seed)
    apart, whole = {}, dict(state)
    for name, value in state.items():
        apart[f"base_model.model.{name}"] = value
        module = name.removesuffix(".weight")
        if name.startswith("model.layers.") and module.endswith(LORA[system]):
            first = torch.randn(LORA_RANK, value.shape[1], generator=generator) * 0.1
            second = torch.randn(value.shape[0], LORA_RANK, generator=generator) * 0.1
            apart[f"base_model.model.{module}.lora_A.default.weight"] = first
            apart[f"base_model.model.{module}.lora_B.default.weight"] = second
            product = second.double() @ first.double() * (LORA_ALPHA / LORA_RANK)
            whole[name] = (value.double() + product).float()
    return apart, whole


def write_tensors(folder: Path, state: dict[str, Tensor], layout: str) -> None:
    """Write tensors as ``safetensors``, ``bin``, or either ``sharded`` with or without an index."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in state.items()}
    stem, suffix = ("model", ".safetensors") if "safetensors" in layout else ("pytorch_model", ".bin")

    def save(part: dict[str, Tensor], path: Path) -> None:
        if suffix == ".bin":
            torch.save({name: value.clone() for name, value in part.items()}, path)
        else:
            save_file(part, path, metadata={"format": "pt"})

    if "sharded" not in layout:
        save(state, folder / f"{stem}{suffix}")
        return
    names, count, weight_map = list(state), 3, {}
    for index in range(count):
        file = f"{stem}-{index + 1:05d}-of-{count:05d}{suffix}"
        part = {name: state[name] for name in names[index::count]}
        save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    if "unindexed" not in layout:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))


def write_tower(folder: Path, state: dict[str, Tensor]) -> None:
    """Write the vision tower as the hub has it: a whole CLIP, its text encoder beside."""
    folder.mkdir(parents=True, exist_ok=True)
    vision = {k.removeprefix(TOWER_PREFIX): v for k, v in state.items() if k.startswith(TOWER_PREFIX)}
    other = {"text_model.final_layer_norm.bias": torch.zeros(4), "logit_scale": torch.zeros(())}
    other |= {"visual_projection.weight": torch.zeros(4, 4), "text_projection.weight": torch.zeros(4, 4)}
    positions = {"vision_model.embeddings.position_ids": torch.arange(257)[None]}
    save_file({**vision, **other, **positions}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": CLIP}))


def write_tokenizer(folder: Path, system: str, *, seg: bool = True) -> None:
    """A LLaMA tokenizer of single characters and bytes, 511 words and, where ``seg``, [SEG] behind them."""
    from transformers import LlamaTokenizer

    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    words += [chr(code) for code in range(33, 127)]
    words += [f"<filler{index}>" for index in range(SEG - len(words))]
    tokenizer = LlamaTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], legacy=True
    )
    if system == "videolisa":
        # In their vocabulary already, as in Phi-3's.
        words[-5:-1] = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
        tokenizer = LlamaTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])
        tokenizer.add_special_tokens({"additional_special_tokens": words[-5:-1]})
    if seg:
        tokenizer.add_tokens("[SEG]")
    tokenizer.save_pretrained(folder)


def write_published(
    folder: Path, system: str, layout: str = "safetensors", seed: int = 0
) -> dict[str, Tensor]:
    """A whole tiny checkpoint folder, the tower in ``clip`` beside its weights.

    Returns:
        Every tensor, the tower's too, as `published_state` names them.
    """
    state = published_state(system, seed)
    write_tensors(folder, merged(state), layout)
    write_tower(folder / "clip", state)
    write_tokenizer(folder, system)
    (folder / "config.json").write_text(json.dumps(CONFIG[system]))
    return state
