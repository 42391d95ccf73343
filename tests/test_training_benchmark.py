"""Validation on a benchmark inside a run: the whole pipeline around the network that is being trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from visa.commands.train import main
from visa.training.engine.moving_shapes import MovingShapesSettings, draw_scene

FRAMES = 4
RUN = [
    "model.start=tiny-videolisa",
    "trained.lora_match=substring",
    "schedule.steps=2",
    "batch.total=1",
    "validation.every=2",
    "validation.batches=1",
    "report.tensorboard=false",
    "export=false",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two videos of shapes in the ReVOS layout, a question about each."""
    root = tmp_path_factory.mktemp("revos")
    videos, objects = {}, {}
    for number in range(2):
        rng = np.random.default_rng(number)
        frames, masks, expression = draw_scene(rng, MovingShapesSettings(frames=FRAMES, absent=0.0))
        folder = root / "JPEGImages" / f"shapes/{number}"
        folder.mkdir(parents=True)
        names = [f"{index:05d}" for index in range(FRAMES)]
        for name, frame in zip(names, frames, strict=True):
            Image.fromarray(frame).save(folder / f"{name}.jpg")
        height, width = frames.shape[1:3]
        asked = {"exp": expression, "type_id": 0, "obj_id": [number], "anno_id": [number]}
        videos[f"shapes/{number}"] = {
            "vid_id": number,
            "height": height,
            "width": width,
            "frames": names,
            "expressions": {"0": asked},
        }
        encoded = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
        objects[str(number)] = [{"size": one["size"], "counts": one["counts"].decode()} for one in encoded]
    (root / "meta_expressions_valid_.json").write_text(json.dumps({"videos": videos}))
    (root / "mask_dict.json").write_text(json.dumps(objects))
    return root


def test_the_benchmarks_figure_is_logged_and_chooses_the_best(root, tmp_path, monkeypatch):
    from visa.training.engine import benchmark

    reports = []
    evaluate = benchmark.evaluate

    def noted(*arguments, **options):
        reports.append(evaluate(*arguments, **options))
        return reports[-1]

    monkeypatch.setattr(benchmark, "evaluate", noted)
    out = tmp_path / "run"
    arguments = ["--config", "train/smoke", f"out={out}", *RUN, f"validation.benchmark.root={root}"]
    assert main(arguments) == 0
    (report,) = reports
    assert len(report.scores) == 2
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    figures = [row["validation/J&F"] for row in rows if "validation/J&F" in row]
    assert figures == [pytest.approx(report.kinds()[-1].j_and_f)]
    assert rows[-1]["validation/loss"] > 0
    state = json.loads((out / "checkpoints" / "step-000002" / "state.json").read_text())
    assert state["best"] == [pytest.approx(figures[0]), 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["validation.benchmark.root=/nowhere"], "there is no folder /nowhere"),
        (["validation.benchmark.root=.", "deepspeed.stage=3"], "stage 1 or 2"),
        (["validation.benchmark.root=.", "model.start=tiny-visa"], "validation.benchmark.xmem must name"),
        (["validation.benchmark.split=1"], "validation.benchmark.split must be a word"),
    ],
)
def test_what_could_not_be_validated_is_refused_at_the_start(settings, message, tmp_path, capsys):
    assert main(["--config", "train/smoke", f"out={tmp_path}", *RUN, *settings]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
