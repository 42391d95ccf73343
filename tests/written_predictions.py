"""Predictions on disk for the tiny data sets: the truth or what a test makes of it, and their scores."""

from pathlib import Path

import numpy as np
from PIL import Image

from dataset.registry import open_dataset
from visa.evaluation.from_disk import score_predictions


def write_masks(folder: Path, names, masks, value: int = 255) -> None:
    folder.mkdir(parents=True)
    for name, mask in zip(names, masks, strict=True):
        Image.fromarray(np.asarray(mask, dtype=np.uint8) * np.uint8(value)).save(folder / f"{name}.png")


def write_predictions(out: Path, name: str, root: Path, split=None, change=None, value: int = 255) -> Path:
    """A folder for each expression: the truth, or `change(clip, expression, truth)`; nothing for None."""
    reader = open_dataset(name, root, split)
    for clip in reader:
        for expression in clip.expressions:
            masks = clip.target(expression) if reader.has_masks else np.zeros(clip.frames.shape[:3], bool)
            if change is not None:
                masks = change(clip, expression, masks)
            if masks is not None:
                write_masks(out / clip.name / expression.id, clip.frame_names, masks, value)
    return out


def moved(clip, expression, truth):
    return np.roll(truth, 2, axis=2)


def score(predictions, name, root, **options):
    return score_predictions(predictions, name, root, processes=1, progress=False, **options)


def lines(outcome):
    return {line.name: line for line in outcome.lines()}
