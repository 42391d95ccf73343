"""The MLLM of the embedded system: built from its public parts, its glue saved, loaded and merged."""

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from model.deeplab import VOC_CLASSES, DeepLabMobileNetV2
from model.efficientnet import EfficientNetLite0
from model.mllm.cells import ClassifierTower
from model.mllm.mllm import MLLM
from visa.language_model import load_language_model

LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What of the MLLM is trained in full; with the LoRA and SAM's decoder it makes the glue file.
FULL_PARTS = ("projector.", "head.", "seg_embedding", "seg_output")


def read_class_names(path: Path) -> list[str]:
    """One name a class from lines ``wordnet-id<TAB>name, synonyms``; lines that begin with # are comments."""
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    return [line.split("\t")[1].split(",")[0].strip() for line in lines]


def build_mllm(
    gguf_path: Path, tower_path: Path, semantic_path: Path, class_names: list[str], area: int
) -> MLLM:
    """The MLLM with untrained glue, LoRA adapters in place."""
    language, tokenizer = load_language_model(gguf_path)
    language.requires_grad_(False)
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers has since given up.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(language, LoraConfig(target_modules=LORA_TARGETS, **LORA))
    classifier = EfficientNetLite0()
    classifier.load_state_dict(torch.load(tower_path, map_location="cpu", weights_only=True))
    semantic = DeepLabMobileNetV2()
    semantic.load_state_dict({name: value.float() for name, value in load_file(semantic_path).items()})
    tower = ClassifierTower(classifier.eval(), semantic.eval(), area).requires_grad_(False)
    return MLLM(adapted, tokenizer, tower, [*class_names, *VOC_CLASSES[1:]], feature_dim=classifier.width)


def glue_state(mllm: MLLM, mask_decoder: nn.Module) -> dict[str, torch.Tensor]:
    """Everything that training changes, by name, in bfloat16."""
    state = {f"mllm.{k}": v for k, v in mllm.state_dict().items() if k.startswith(FULL_PARTS)}
    state |= {f"lora.{name}": value for name, value in get_peft_model_state_dict(mllm.language).items()}
    state |= {f"mask_decoder.{name}": value for name, value in mask_decoder.state_dict().items()}
    return {name: value.detach().to(torch.bfloat16).contiguous().clone() for name, value in state.items()}


def save_glue(path: Path, mllm: MLLM, mask_decoder: nn.Module) -> None:
    """Write the glue to one safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(glue_state(mllm, mask_decoder), path)


def load_glue(path: Path, mllm: MLLM, mask_decoder: nn.Module) -> None:
    """Put a glue file into a built MLLM and SAM's mask decoder.

    Raises:
        ValueError: the file lacks keys of the glue, or has others.
    """
    glue = load_file(path)
    expected = {name: value.shape for name, value in glue_state(mllm, mask_decoder).items()}
    missing, unexpected = sorted(expected.keys() - glue.keys()), sorted(glue.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(
            f"{path} is not this system's glue: missing {missing[:5]}, unexpected {unexpected[:5]}"
        )
    if wrong := [name for name, shape in expected.items() if glue[name].shape != shape]:
        raise ValueError(f"{path} is not this system's glue: other shapes of {wrong[:5]}")

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v.float() for k, v in glue.items() if k.startswith(prefix)}

    mllm.load_state_dict(part("mllm."), strict=False)
    set_peft_model_state_dict(mllm.language, part("lora."))
    mask_decoder.load_state_dict(part("mask_decoder."))


def merge_lora(mllm: MLLM) -> None:
    """Fold the adapters into the LM, for speed; it cannot be trained on from there."""
    if isinstance(mllm.language, PeftModel):
        mllm.language = mllm.language.merge_and_unload()
