"""The whole recipe of the embedded system: scenes, words, pictures, tracker.

    python train_ds.py --config train/embedded

Stages that are done are kept in the run's folder and not done again; a broken-off stage starts anew.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.lexicon import Lexicon
from dataset.synthetic.library import PUBLIC_FILES, open_library
from model.mllm.mllm import MLLM
from model.sam import SamSegmenter, build_sam, fastest_encoder_dtype
from visa.downloads import fetch
from visa.errors import InputError
from visa.loading import find_preset
from visa.reasoner import build_mllm, load_glue, read_class_names
from visa.training.examples import Example
from visa.training.glue import GlueStage, train_stage
from visa.training.glue_validation import validate_glue
from visa.training.scene_cache import build_cache
from visa.training.scene_examples import SceneExamples
from visa.training.text_lessons import TextLessons
from visa.training.tracker import TrackerRecipe, train_tracker
from visa.training.tracker_clips import cache_clips
from visa.training.word_maps import WordMaps


def train_embedded(recipe: dict[str, Any]) -> Path:
    """Run all stages that are not done yet; returns the folder with the weights."""
    out = Path(recipe["out"])
    out.mkdir(parents=True, exist_ok=True)
    written, record = yaml.safe_dump(recipe, sort_keys=False), out / "recipe.yaml"
    if record.exists() and record.read_text(encoding="utf-8") != written:
        raise InputError(f"{record} has other settings: go on with those, or give another folder by out=...")
    record.write_text(written, encoding="utf-8")
    torch.manual_seed(recipe["seed"])
    assets = open_library([fetch(name) for name in PUBLIC_FILES])
    mllm, sam = build_untrained()
    train_glue(recipe, out, assets, mllm, sam)
    if not (out / "tracker.safetensors").exists():
        cache_clips(out / "clips", range(recipe["tracker"]["clips"]), assets, sam.sam)
        settings = TrackerRecipe(steps=recipe["tracker"]["steps"], seed=recipe["seed"])
        unfinished = out / "tracker.partial.safetensors"
        train_tracker(out / "clips", unfinished, settings, out / "tracker.json")
        unfinished.rename(out / "tracker.safetensors")
    make_loadable(out)
    return out


def make_loadable(out: Path) -> None:
    """Complete a run's folder to one that `visa.load` takes: preset and small files beside the weights."""
    path = find_preset("embedded")
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in ("semantic", "classes"):
        small = path.parent / preset["reason"][name]
        shutil.copyfile(small, out / small.name)
    for stage, name in (
        ("reason", "semantic"),
        ("reason", "classes"),
        ("reason", "glue"),
        ("propagate", "tracker"),
    ):
        preset[stage][name] = Path(preset[stage][name]).name
    (out / "preset.yaml").write_text(yaml.safe_dump(preset, sort_keys=False), encoding="utf-8")


def train_glue(
    recipe: dict[str, Any], out: Path, assets: AssetLibrary, mllm: MLLM, sam: SamSegmenter
) -> None:
    """Film the scenes, then teach words, then pictures; ``out/glue.safetensors`` is the result."""
    scenes, held_out = out / "scenes", out / "held_out_scenes"
    build_cache(held_out, range(recipe["held_out_scenes"]), "held-out", assets, mllm.tower, sam)
    build_cache(scenes, range(recipe["scenes"]), "train", assets, mllm.tower, sam)
    lexicon = Lexicon()
    words, pictures = WordMaps(mllm, mllm.feature_dim, lexicon), SceneExamples(scenes, lexicon)
    lessons = TextLessons(mllm, lexicon)

    def draw_picture(rng: np.random.Generator) -> Example:
        """A filmed scene, or now and then a faked frame, so that rare words are not forgotten."""
        return (words if rng.random() < recipe["word_share"] else pictures).draw(rng)

    def validate() -> dict[str, float]:
        return validate_glue(mllm, sam, held_out, lexicon, draw_masks=True)

    for name, draw, check in (("words", words.draw, None), ("pictures", draw_picture, validate)):
        done = out / f"{name}.safetensors"
        if not done.exists():
            stage = GlueStage(**recipe[name], max_minutes=recipe["max_minutes"])
            train_stage(
                name, stage, mllm, sam, draw, out, seed=recipe["seed"], lesson=lessons.loss, validate=check
            )
            (out / "glue.safetensors").rename(done)
        load_glue(done, mllm, sam.sam.mask_decoder)
    shutil.copyfile(done, out / "glue.safetensors")


def build_untrained() -> tuple[MLLM, SamSegmenter]:
    """The embedded system's MLLM and SAM with fresh glue, from the public parts its preset names."""
    path = find_preset("embedded")
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    reason, segment = preset["reason"], preset["segment"]
    network = build_sam(segment["sam"], fetch(segment["weights"]))
    network.image_encoder.requires_grad_(False)
    network.prompt_encoder.requires_grad_(False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sam = SamSegmenter(network.to(device), pad_input=False, encoder_dtype=fastest_encoder_dtype(device))
    class_names = read_class_names(path.parent / reason["classes"])
    semantic = path.parent / reason["semantic"]
    mllm = build_mllm(
        fetch(reason["language"]), fetch(reason["classifier"]), semantic, class_names, reason["area"]
    )
    return mllm.to(device), sam
