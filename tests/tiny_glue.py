"""The embedded system's training in miniature: a tiny system, three filmed scenes, a few steps.

As a program, it runs one with the settings given as ``key=value``: python -m tests.tiny_glue out=DIR ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from dataset.synthetic.lexicon import default_lexicon
from dataset.synthetic.scene import Scene, SceneObject
from model.mllm.cells import FrameCells
from model.mllm.mllm import MLLM
from model.sam.segmenter import SamSegmenter
from tests.tiny_mllm import CLASS_NAMES, FEATURE_DIM, random_cells
from tests.tiny_training import tiny_sam, tiny_trainable
from visa.training.embedded import train_embedded
from visa.training.embedded_settings import EmbeddedSettings
from visa.training.engine.fields import build_settings, put
from visa.training.engine.stage import Outcome
from visa.training.glue_batches import GlueBatches
from visa.training.recipe import parse_setting
from visa.training.scene_cache import CachedScene, scene_path
from visa.training.scene_examples import SceneExamples
from visa.training.text_lessons import TextLessons
from visa.training.word_maps import WordMaps
from visa.training.word_table import WordTable

RECIPE = """
precision: fp32
words: {steps: 0, batch: 2, micro_batch: 1, learning_rate: 1.0e-2, warmup: 0, word_share: 1.0}
pictures: {steps: 4, batch: 2, micro_batch: 1, learning_rate: 1.0e-2, warmup: 0, decoder_from: 0.5}
checkpoints: {every: 100, keep: 5}
validation: {every: 0, scenes: 2}
reading: {workers: 0}
report: {every: 1, tensorboard: false}
tracker: {steps: 0}
"""
NAMES = ("goat", "taxi", "umbrella")


def tiny_system(device: torch.device) -> tuple[MLLM, SamSegmenter]:
    """What `visa.training.embedded.build_untrained` makes, in miniature."""
    return tiny_trainable().to(device), tiny_sam()


def tiny_scene(number: int) -> CachedScene:
    """A still with two things in it."""
    cells = random_cells(seed=number)
    masks = torch.zeros(2, 256, 256, dtype=torch.uint8)
    masks[0, 8:24, 4:24] = 255
    masks[1, 12:32, 34:56] = 255
    names = [NAMES[(number + k) % len(NAMES)] for k in range(2)]
    objects = tuple(
        SceneObject(
            id=k, name=name, category="thing", colour=None, size=0.05, centres=np.full((1, 2), 0.2 + 0.5 * k),
            visible=np.ones(1, bool), motion="still", enters=0, leaves=None,
        )
        for k, name in enumerate(names)
    )  # fmt: skip
    halves = (value.half() for value in (cells.features, cells.colour, cells.kinds))
    return CachedScene(
        frames=(
            FrameCells(*halves, cells.class_indices.short(), cells.class_probs.half(), cells.points.half()),
        ),
        percents=(0,),
        target=0,
        sam_features=torch.randn(256, 9, 15, generator=torch.Generator().manual_seed(number)).half() * 0.1,
        object_masks=masks,
        input_size=(144, 240),
        scene=Scene(objects=objects, num_frames=1),
    )


def write_scenes(folder: Path, count: int = 3) -> Path:
    """A cache of such scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        torch.save(tiny_scene(number), scene_path(folder, number))
    return folder


def tiny_settings(out: Path, scenes: Path, *changes: str) -> EmbeddedSettings:
    """Settings of a run in ``out`` with the scenes of a folder, changed by ``key=value``."""
    recipe: dict[str, Any] = yaml.safe_load(RECIPE)
    recipe["out"] = str(out)
    recipe["scenes"] = {"count": 0, "held_out": 0, "folder": str(scenes), "held_out_folder": str(scenes)}
    for change in changes:
        put(recipe, *parse_setting(change))
    return build_settings(EmbeddedSettings, recipe)


def train_tiny(out: Path, scenes: Path, *changes: str) -> Outcome:
    """Run them on the CPU."""
    return train_embedded(tiny_settings(out, scenes, *changes), "cpu", tiny_system)


def tiny_batches(scenes: Path | None, *, size: int = 2, word_share: float = 0.5, seed=(0, 1)) -> GlueBatches:
    """Micro-batches of the tiny system."""
    lexicon, words = default_lexicon(), WordTable.of(tiny_trainable())
    filmed = SceneExamples(scenes, lexicon, words) if scenes else None
    lessons = TextLessons(CLASS_NAMES, lexicon, turns=3)
    return GlueBatches(
        WordMaps(words, FEATURE_DIM, lexicon), filmed, lessons, size=size, word_share=word_share, seed=seed
    )


def rows_of(out: Path, stage: str = "pictures") -> list[dict[str, float]]:
    """A stage's figures, a row for each time they were told."""
    return [json.loads(line) for line in (out / stage / "log.jsonl").read_text().splitlines()]


def losses_of(out: Path, stage: str = "pictures") -> list[float]:
    """Losses and their parts, step by step."""
    return [row[name] for row in rows_of(out, stage) for name in sorted(row) if name.startswith("loss/")]


def weights_at(out: Path, step: int, stage: str = "pictures") -> dict[str, torch.Tensor]:
    """A stage's trained weights in the checkpoint of a step."""
    return load_file(out / stage / "checkpoints" / f"step-{step:06d}" / "weights.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, scene_folder, *given = [one for one in sys.argv[1:] if not one.startswith("--local_rank")]
    train_tiny(Path(folder), Path(scene_folder), *given)
