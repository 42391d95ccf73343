"""What a run says while it goes: a line, a log file, TensorBoard, Weights & Biases."""

import json
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from visa.training.engine.ranks import Ranks
from visa.training.engine.settings import RunSettings, plain

WANDB_ID = "wandb-id.txt"


@dataclass
class Clock:
    """Seconds by what they were spent on: "reading", "forward", "backward", "updating"."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = 0.0

    def start(self) -> None:
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """What has passed since the last lap goes to ``name``."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def picture_folder(out: Path, step: int) -> Path:
    """Where a run's validation after so many steps puts its pictures."""
    return out / "pictures" / f"step-{step:06d}"


class Report:
    """Tells of steps; only the first rank speaks and writes.

    Args:
        out: the run's folder; ``log.jsonl`` and ``tensorboard`` are written there.
    """

    def __init__(self, out: Path, settings: RunSettings, ranks: Ranks, step: int):
        self.settings, self.ranks, self.out = settings, ranks, out
        self.log = out / "log.jsonl"
        self.begun, self.first_step = time.perf_counter(), step
        self.board = self.wandb = None
        if ranks.is_first and settings.report.tensorboard:
            self.board = _open_tensorboard(out / "tensorboard", step)
        if ranks.is_first and settings.report.wandb:
            self.wandb = _open_wandb(out, settings)

    def say(self, line: str) -> None:
        """A line for the person who watches."""
        if self.ranks.is_first:
            print(line, flush=True)

    def warn(self, line: str) -> None:
        """A line about what can be lived with."""
        if self.ranks.is_first:
            print(f"warning: {line}", file=sys.stderr, flush=True)

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep figures of a step; names with a slash are grouped by it."""
        if not self.ranks.is_first:
            return
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        for name, value in figures.items():
            if self.board is not None:
                self.board.add_scalar(name, value, step)
        if self.wandb is not None:
            self.wandb.log(dict(figures), step=step)

    def pictures(self, step: int) -> None:
        """Show what a validation after so many steps has drawn, where figures are shown."""
        paths = sorted(picture_folder(self.out, step).glob("*.png"))
        if self.board is not None:
            for path in paths:
                pixels = np.asarray(Image.open(path).convert("RGB"))
                self.board.add_image(f"pictures/{path.stem}", pixels, step, dataformats="HWC")
        if self.wandb is not None and paths:
            # Imported already, since a run was opened.
            import wandb

            self.wandb.log({"pictures": [wandb.Image(str(path)) for path in paths]}, step=step)

    def step_line(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step, kept and told in one line."""
        self.figures(step, figures)
        total = self.settings.schedule.steps
        passed = time.perf_counter() - self.begun
        left = passed / max(1, step - self.first_step) * (total - step)
        if limit := self.settings.schedule.max_minutes:
            left = min(left, 60 * (limit - figures["minutes"]))
        told = [
            f"step {step}/{total}",
            f"loss {figures['loss/total']:.4f}",
            *(f"{name} {value:.4f}" for name, value in _under("loss", figures) if name != "total"),
            f"gradient {figures['gradient']:.2f}",
            f"lr {figures['learning_rate']:.2e}",
            f"{figures['samples/s']:.2f} samples/s",
            f"{figures['tokens/s']:.0f} tokens/s",
            f"waiting {figures['share/reading']:.1%}",
        ]
        told += [f"{name} {value:.1%}" for name, value in _under("validation", figures)[:1]]
        told += [f"MFU {figures['MFU']:.1%}"] if "MFU" in figures else []
        told += [f"{figures['memory/GB']:.1f} GB"] if "memory/GB" in figures else []
        told += [f"left {_time(max(0.0, left))}"]
        self.say(", ".join(told))

    def close(self) -> None:
        """Write out what is still held."""
        if self.board is not None:
            self.board.close()
        if self.wandb is not None:
            self.wandb.finish()


def peak_memory(device: torch.device) -> float | None:
    """Most bytes that were held on a GPU since the last call; None on a CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return float(peak)


def _under(group: str, figures: Mapping[str, float]) -> list[tuple[str, float]]:
    """The figures of a group, without its name."""
    return [(n.removeprefix(f"{group}/"), v) for n, v in figures.items() if n.startswith(f"{group}/")]


def _time(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("visa: no TensorBoard (pip install tensorboard); figures go to log.jsonl", file=sys.stderr)
        return None
    return SummaryWriter(str(folder), purge_step=step or None)


def _open_wandb(out: Path, settings: RunSettings) -> Any:
    try:
        import wandb
    except ImportError:
        print("visa: no Weights & Biases (pip install wandb); figures go to log.jsonl", file=sys.stderr)
        return None
    # A run that goes on is the same one there.
    known = out / WANDB_ID
    if not known.is_file():
        known.write_text(uuid.uuid4().hex, encoding="utf-8")
    name = known.read_text(encoding="utf-8").strip()
    told = {"name": out.name, "dir": str(out), "config": plain(settings)}
    return wandb.init(project="visa", id=name, resume="allow", **told)
