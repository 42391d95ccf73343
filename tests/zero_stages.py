"""Two steps of training under every kind of ZeRO, each beside the same steps with torch alone.

A program for the processes of `test_training_zero.py`: the first prints, a line of JSON for each kind, how
far weights, moments and norms are from those of torch alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from tests.tiny_engine import changed, reader_of
from visa.training.engine.deepspeed_driver import DeepSpeedDriver
from visa.training.engine.driver import Driver, TrainState
from visa.training.engine.plain_driver import PlainDriver
from visa.training.engine.ranks import Ranks, join_ranks, leave_ranks
from visa.training.engine.settings import TrainSettings
from visa.training.engine.start import build_start
from visa.training.engine.step import TrainingStep
from visa.training.engine.trainables import choose_trained
from visa.training.published_objective import LossWeights

# Buckets that hold some of the gradients, so that several are sent in each backward pass.
BUCKET = 1_000_000
STEPS, ACCUMULATION, TOTAL = 2, 2, 4


def settings_of(kind: dict) -> TrainSettings:
    return changed(
        model={"precision": kind["precision"]},
        trained={"lora_dropout": 0.0},
        batch={"total": TOTAL, "videos": 1},
        deepspeed={"stage": max(1, kind["stage"]), "offload": kind["offload"], "bucket": BUCKET},
    )


def trained(kind: dict, where: Path, ranks: Ranks) -> tuple[list[float], TrainState | None]:
    """Norms of the gradients, and what came of the steps; stage 0 is torch alone."""
    settings = settings_of(kind)
    torch.manual_seed(0)
    start = build_start(settings.model, where, "cpu")
    choose_trained(start.model, settings.trained)
    step = TrainingStep(start.model, LossWeights()).train()
    make = DeepSpeedDriver if kind["stage"] else PlainDriver
    driver: Driver = make(step, settings, ranks, ACCUMULATION)
    batches = iter(reader_of(settings, start, rank=ranks.rank, world_size=ranks.count))
    norms = []
    for _ in range(STEPS):
        for _ in range(ACCUMULATION):
            batch = next(batches)
            torch.manual_seed(batch.index)
            driver.backward(sum(driver.forward(batch).parts.values()))
        update = driver.update([settings.optimiser.learning_rate])
        norms.append(update.norm)
    return norms, driver.state()


def main() -> None:
    where, kinds = Path(sys.argv[1]), json.loads(sys.argv[2])
    ranks = join_ranks("cpu")
    plain = {}
    for kind in kinds:
        precision = kind["precision"]
        if precision not in plain:
            plain[precision] = trained({**kind, "stage": 0}, where, ranks)
        norms, state = trained(kind, where, ranks)
        if ranks.is_first:
            expected_norms, expected = plain[precision]
            told = {**kind, "norms": norms, "expected_norms": expected_norms}
            told["names"] = state.weights.keys() == expected.weights.keys()
            for name in ("weights", "moments"):
                one, other = getattr(state, name), getattr(expected, name)
                told[name] = max((one[key] - other[key]).abs().max().item() for key in other)
            print(json.dumps(told), flush=True)
    leave_ranks()


if __name__ == "__main__":
    main()
