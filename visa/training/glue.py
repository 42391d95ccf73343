"""Trains the glue of the embedded system: first on frames faked from words, then on filmed scenes.

    python train_ds.py --config train/embedded

Everything is seeded. Progress, losses and validation figures go to a CSV file beside the weights.
"""

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from model.mllm.mllm import MLLM
from model.sam.segmenter import SamSegmenter
from visa.reasoner import save_glue
from visa.training.examples import Example
from visa.training.glue_step import LossWeights, glue_losses, weighted

WARM_UP = 40


@dataclass(frozen=True)
class GlueStage:
    """One stage of training.

    steps: optimiser steps. batch: examples a step. learning_rate: peak, after a linear warm-up; falls by
        cosine to 5%.
    decoder_from: share of the stage [0, 1] after which SAM's decoder learns too; 1 never.
    decoder_rate: its learning rate relative to the others'.
    """

    steps: int
    batch: int
    learning_rate: float = 5e-4
    decoder_from: float = 1.0
    decoder_rate: float = 0.1
    max_minutes: float = math.inf
    weights: LossWeights = field(default_factory=LossWeights)


def train_stage(
    name: str,
    stage: GlueStage,
    mllm: MLLM,
    sam: SamSegmenter,
    draw: Callable[[np.random.Generator], Example],
    out: Path,
    *,
    seed: int = 0,
    lesson: Callable[[np.random.Generator], torch.Tensor] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    validate_every: int = 200,
) -> None:
    """Run one stage; the glue is saved into ``out`` at every validation and at the end.

    Args:
        draw: one example. lesson: the loss of one lesson without a picture, beside the examples of each step.
    """
    rng = np.random.default_rng([seed, len(name)])
    torch.manual_seed(seed)
    glue = [parameter for parameter in mllm.parameters() if parameter.requires_grad]
    decoder = list(sam.sam.mask_decoder.parameters())
    optimiser = torch.optim.AdamW(
        [{"params": glue, "share": 1.0}, {"params": decoder, "share": stage.decoder_rate}],
        lr=stage.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    started = time.monotonic()
    mllm.train()
    with LossLog(out / f"{name}.csv") as log, tqdm(total=stage.steps, desc=name) as bar:
        for step in range(stage.steps):
            minutes = (time.monotonic() - started) / 60
            # A time limit ends the stage early, with its learning rate already low.
            progress = max(step / stage.steps, minutes / stage.max_minutes)
            if progress >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = stage.learning_rate * group["share"] * schedule(step, progress)
            drawing = progress >= stage.decoder_from
            examples = [draw(rng) for _ in range(stage.batch)]
            with torch.autocast(mllm.device.type, torch.bfloat16):
                losses = glue_losses(mllm, examples, sam if drawing else None)
                if lesson is not None:
                    losses["meaning"] = lesson(rng)
                loss = weighted(losses, stage.weights)
            if not torch.isfinite(loss):
                raise RuntimeError(f"the loss of step {step} is {loss.item()}; lower the learning rate")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(glue, 1.0)
            torch.nn.utils.clip_grad_norm_(decoder, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            log.add(
                step, minutes, {key: value.item() for key, value in losses.items()} | {"loss": loss.item()}
            )
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}")
            if (step + 1) % validate_every == 0 or step + 1 == stage.steps:
                if validate is not None:
                    mllm.eval()
                    figures = validate()
                    mllm.train()
                    log.add_validation(step, figures)
                    tqdm.write(
                        f"{name} step {step + 1}: " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items())
                    )
                save_glue(out / "glue.safetensors", mllm, sam.sam.mask_decoder)
    save_glue(out / "glue.safetensors", mllm, sam.sam.mask_decoder)
    mllm.eval()


def schedule(step: int, progress: float) -> float:
    """Learning rate relative to its peak: linear warm-up, then cosine to 5%."""
    return min(1.0, (step + 1) / WARM_UP) * (0.05 + 0.95 * (1 + math.cos(math.pi * min(1.0, progress))) / 2)


class LossLog:
    """Writes mean losses of every 20 steps, and validation figures, as rows ``step,minutes,name,value``."""

    EVERY = 20

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._sums, self._counts = path, {}, {}

    def __enter__(self):
        self._file = self._path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["step", "minutes", "name", "value"])
        self._minutes = 0.0
        return self

    def __exit__(self, *_):
        self._file.close()

    def add(self, step: int, minutes: float, losses: dict[str, float]) -> None:
        """Add the losses of one step."""
        self._minutes = minutes
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        if (step + 1) % self.EVERY == 0:
            self._write(step, {name: self._sums[name] / self._counts[name] for name in self._sums})
            self._sums, self._counts = {}, {}

    def add_validation(self, step: int, figures: dict[str, float]) -> None:
        """Add figures measured on scenes that training never sees."""
        self._write(step, {f"validation {name}": value for name, value in figures.items()})

    def _write(self, step: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            self._writer.writerow([step + 1, f"{self._minutes:.2f}", name, f"{value:.4f}"])
        self._file.flush()
