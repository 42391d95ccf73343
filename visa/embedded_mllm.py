"""The MLLM of the embedded system: built from its public parts, its glue saved, loaded and merged."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from model.deeplab import VOC_CLASSES, DeepLabMobileNetV2
from model.efficientnet import EfficientNetLite0
from model.mllm.cells import ClassifierTower
from model.mllm.mllm import MLLM
from model.name_table import NameTable
from model.sam import fastest_encoder_dtype
from visa.clip_loading import load_clip_pictures
from visa.downloads import fetch
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


@dataclass(frozen=True)
class PublicParts:
    """Files of the MLLM's frozen parts, fetched or shipped, and what their outputs are called.

    language: GGUF. classifier: EfficientNet-Lite0. semantic: DeepLab. pictures: CLIP's image tower.
    classes: names of the classifier's classes, see `read_class_names`. names: those of CLIP's points.
    """

    language: Path
    classifier: Path
    semantic: Path
    pictures: Path
    classes: Path
    names: Path

    @classmethod
    def of(cls, reason: dict, folder: Path) -> "PublicParts":
        """Those that a preset's section ``reason`` describes; shipped ones lie in ``folder``."""
        fetched = {name: fetch(reason[name]) for name in ("language", "classifier", "pictures")}
        return cls(**fetched, **{name: folder / reason[name] for name in ("semantic", "classes", "names")})


def build_mllm(parts: PublicParts, area: int, device: torch.device | None = None) -> MLLM:
    """The MLLM with untrained glue, LoRA adapters in place.

    Args:
        area: pixels of a frame that the classifier sees.
        device: where it will run, which decides how precise CLIP is.
    """
    language, tokenizer = load_language_model(parts.language)
    language.requires_grad_(False)
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers has since given up.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(language, LoraConfig(target_modules=LORA_TARGETS, **LORA))
    classifier = EfficientNetLite0()
    classifier.load_state_dict(torch.load(parts.classifier, map_location="cpu", weights_only=True))
    semantic = DeepLabMobileNetV2()
    semantic.load_state_dict({name: value.float() for name, value in load_file(parts.semantic).items()})
    names = NameTable.load(parts.names)
    dtype = fastest_encoder_dtype(device or torch.device("cpu")) or torch.float32
    pictures = load_clip_pictures(parts.pictures, dtype)
    tower = ClassifierTower(classifier.eval(), semantic.eval(), pictures, names.cell_centre, area)
    class_names = [*read_class_names(parts.classes), *VOC_CLASSES[1:]]
    return MLLM(
        adapted, tokenizer, tower.requires_grad_(False), class_names, names, feature_dim=classifier.width
    )


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
