"""Checkpoints of a run: whole or not there, the last few and the best, refused by a run of other settings.

A folder ``step-000500`` holds ``weights.safetensors`` and ``moments.safetensors`` (float32, by the trained
parameters' names) and ``state.json`` (where the run stood).
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from visa.errors import InputError
from visa.training.engine.driver import LossScale, TrainState
from visa.training.engine.faults import TrainingError

WEIGHTS, MOMENTS, STATE, BEST = "weights.safetensors", "moments.safetensors", "state.json", "best.json"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    step: optimiser steps done. position: the data reader's. best: the best validation figure and its step.
    minutes: of training so far, over all starts.
    """

    step: int = 0
    position: Mapping[str, Any] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    minutes: float = 0.0


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: that holds them; made at the first save.
        keep: how many of the last ones stay, beside the best.
        identity: what a run that goes on must agree in, by dotted names.
        fingerprint: of the data.
    """

    def __init__(self, folder: Path, keep: int, identity: Mapping[str, Any], fingerprint: str):
        self.folder, self.keep = folder, keep
        self.identity, self.fingerprint = dict(identity), fingerprint

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def save(self, state: TrainState, progress: Progress) -> Path:
        """Write a checkpoint so that it is there whole or not at all; then take away those that are too many.

        Raises:
            TrainingError: it cannot be written; earlier checkpoints are as they were.
        """
        final = self.path(progress.step)
        if final.exists():
            return final
        partial = self.folder / f".{final.name}.part"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_file({name: value.contiguous() for name, value in state.weights.items()}, partial / WEIGHTS)
            save_file({name: value.contiguous() for name, value in state.moments.items()}, partial / MOMENTS)
            record = {
                "step": progress.step,
                "updates": state.updates,
                "scale": state.scale and asdict(state.scale),
                "position": dict(progress.position),
                "best": progress.best,
                "minutes": progress.minutes,
                "identity": self.identity,
                "fingerprint": self.fingerprint,
            }
            (partial / STATE).write_text(json.dumps(record, indent=1), encoding="utf-8")
            for path in (*partial.iterdir(), partial):
                _settle(path)
            partial.rename(final)
            _settle(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            last = f"the last whole one is step {self.steps()[-1]}" if self.steps() else "there is none yet"
            raise TrainingError(
                f"the checkpoint of step {progress.step} cannot be written to {self.folder}: "
                f"{getattr(error, 'strerror', None) or error}; {last}. Make room and start the same command"
            ) from error
        self._prune(progress)
        return final

    def _prune(self, progress: Progress) -> None:
        best = progress.best[1] if progress.best else None
        for step in self.steps()[: -self.keep]:
            if step != best:
                # Renamed first: a folder that is half taken away is no checkpoint.
                doomed = self.folder / f".{self.path(step).name}.old"
                self.path(step).rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)

    def load(self, step: int | None = None) -> tuple[TrainState, Progress] | None:
        """A checkpoint, by default the last; None where there is none.

        Raises:
            InputError: it was made with other settings, from other data, or is damaged.
        """
        steps = self.steps()
        if step is None and not steps:
            return None
        path = self.path(steps[-1] if step is None else step)
        try:
            record = json.loads((path / STATE).read_text(encoding="utf-8"))
            self._compare(path, record)
            # A checkpoint from before there was a scale has none.
            scale = LossScale(**record["scale"]) if record.get("scale") else None
            state = TrainState(load_file(path / WEIGHTS), load_file(path / MOMENTS), record["updates"], scale)
        except (OSError, SafetensorError, json.JSONDecodeError, KeyError) as error:
            raise InputError(
                f"{path} is damaged ({error}): take it away to go on from the one before"
            ) from error
        best = tuple(record["best"]) if record["best"] else None
        return state, Progress(record["step"], record["position"], best, record.get("minutes", 0.0))

    def _compare(self, path: Path, record: Mapping[str, Any]) -> None:
        theirs, ours = record["identity"], json.loads(json.dumps(self.identity))
        changed = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        if changed:
            pairs = [f"{name} was {theirs.get(name)!r}, is {ours.get(name)!r}" for name in changed[:3]]
            raise InputError(
                f"{path} is of another run: {', '.join(pairs)}; go on with the old settings, or give another "
                "folder by out=..."
            )
        if record["fingerprint"] != self.fingerprint:
            raise InputError(
                f"{path} was trained on other data (fingerprint {record['fingerprint'][:40]!r}, now "
                f"{self.fingerprint[:40]!r}); give the same data, or another folder by out=..."
            )


def _settle(path: Path) -> None:
    """Have the disk hold what was written."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
