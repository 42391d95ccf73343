"""The whole recipe of the embedded system: scenes, words, pictures, tracker.

    python train_ds.py --config train/embedded

What is done is kept in the run's folder and not done again: a broken-off run goes on where it was.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from dataset.synthetic.lexicon import Lexicon
from dataset.synthetic.library import PUBLIC_FILES, open_library
from model.sam import SamSegmenter, build_sam, fastest_encoder_dtype
from visa.downloads import fetch
from visa.loading import find_preset
from visa.reasoner import build_mllm, load_glue, read_class_names
from visa.training.glue import GlueStage, train_stage
from visa.training.glue_validation import validate_glue
from visa.training.scene_cache import build_cache
from visa.training.scene_examples import SceneExamples
from visa.training.word_maps import WordMaps


def train_embedded(recipe: dict[str, Any]) -> Path:
    """Run all stages that are not done yet; returns the folder with the weights."""
    out = Path(recipe["out"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    mllm, sam = build_untrained()
    scenes, held_out = out / "scenes", out / "held_out_scenes"
    assets = open_library([fetch(name) for name in PUBLIC_FILES])
    build_cache(held_out, range(recipe["held_out_scenes"]), "held-out", assets, mllm.tower, sam)
    build_cache(scenes, range(recipe["scenes"]), "train", assets, mllm.tower, sam)

    lexicon = Lexicon()
    glue = out / "glue.safetensors"
    stages = {
        "words": (WordMaps(mllm, mllm.feature_dim, lexicon).draw, None),
        "pictures": (
            SceneExamples(scenes, lexicon).draw,
            lambda: validate_glue(mllm, sam, held_out, lexicon),
        ),
    }
    for name, (draw, validate) in stages.items():
        done = out / f"{name}.safetensors"
        if not done.exists():
            stage = GlueStage(**recipe[name], max_minutes=recipe["max_minutes"])
            train_stage(name, stage, mllm, sam, draw, out, seed=recipe["seed"], validate=validate)
            glue.rename(done)
        load_glue(done, mllm, sam.sam.mask_decoder)
    shutil.copyfile(done, glue)
    return out


def build_untrained():
    """The embedded system's MLLM and SAM with fresh glue, from the public parts its preset names."""
    path = find_preset("embedded")
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    reason, segment = preset["reason"], preset["segment"]
    network = build_sam(segment["sam"], fetch(segment["weights"]))
    network.image_encoder.requires_grad_(False)
    network.prompt_encoder.requires_grad_(False)
    sam = SamSegmenter(network, pad_input=False, encoder_dtype=fastest_encoder_dtype(torch.device("cpu")))
    class_names = read_class_names(path.parent / reason["classes"])
    semantic = path.parent / reason["semantic"]
    mllm = build_mllm(
        fetch(reason["language"]), fetch(reason["classifier"]), semantic, class_names, reason["area"]
    )
    return mllm, sam
