"""A [SEG] system on a miniature backbone, in folders as a real one is: model, SAM, preset."""

from pathlib import Path
from typing import Any

import torch
import yaml
from tiny_backbones import SETTINGS, tiny_model, tiny_tokenizer

from visa.training.engine.tiny_system import tiny_sam


def write_backbone(folder: Path, family: str, seed: int = 0) -> Path:
    """A folder as one of the hub is."""
    import json

    tokenizer = tiny_tokenizer(family)
    tiny_model(family, tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS.get(family, {})))
    return folder


def write_sam(path: Path) -> Path:
    """SAM's own file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(tiny_sam().state_dict(), path)
    return path


def tiny_preset(folder: Path, **changes: Any) -> Path:
    """A preset in a folder that holds ``backbone`` and ``sam.pth``."""
    preset = {
        "backbone": "backbone",
        "weights": None,
        "load": {"dtype": "float32", "sam": "sam.pth"},
        "reason": {
            "seg_state": "predicting",
            "stream": "frame",
            "max_tokens": 32,
            "answer": "forced",
            "forced_answer": "It is [SEG].",
            "max_new_tokens": 8,
        },
        "segment": {"frames": "all", "threshold": 0.0},
        "sample": {"sampler": "middle", "num_references": 2},
        "propagate": {"xmem": None},
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(preset))
    return path


def write_system(folder: Path, family: str, **changes: Any) -> Path:
    """Backbone, SAM and preset; returns the preset."""
    folder.mkdir(parents=True, exist_ok=True)
    write_backbone(folder / "backbone", family)
    write_sam(folder / "sam.pth")
    return tiny_preset(folder, **changes)
