"""Validation on a benchmark inside a run: the whole pipeline around the network that is being trained."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

import visa
from tests import tiny_image_sets, tiny_video_datasets
from tests.several_ranks import run_ranks, run_under_deepspeed
from tests.tiny_engine import ALONE, SETTINGS, Run, tiny_folder
from tests.written_predictions import score, write_predictions
from visa.commands.train import main
from visa.errors import InputError
from visa.evaluation.clip import open_clip
from visa.tracklet import Tracklet
from visa.training.engine import benchmark
from visa.training.engine.benchmark import validate_on_benchmark
from visa.training.engine.faults import TrainingError
from visa.training.engine.moving_shapes import MovingShapesSettings, draw_scene
from visa.training.engine.ranks import Ranks
from visa.training.engine.run import gathered
from visa.training.engine.settings import BenchmarkSettings

FRAMES = 4
RUN = [
    "model.start=tiny-videolisa",
    "trained.lora_match=substring",
    "schedule.steps=2",
    "batch.total=2",
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


def arguments(root: Path, out: Path) -> list[str]:
    return ["--config", "train/smoke", f"out={out}", *RUN, f"validation.benchmark.root={root}"]


def validated(out: Path) -> dict[str, float]:
    """What the run's only validation found."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    (figures,) = [row for row in rows if "validation/J&F" in row]
    return {name: value for name, value in figures.items() if name.startswith("validation/")}


def scored(out: Path) -> dict[str, float]:
    """Without the loss, for which each rank draws samples of its own."""
    return {name: value for name, value in validated(out).items() if name != "validation/loss"}


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory) -> Path:
    """A run of one process, exported."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main([*arguments(root, out), "export=true"]) == 0
    return out


def test_the_benchmarks_figure_is_logged_and_chooses_the_best(root, trained, tmp_path):
    """What the run logs is what its export gets, scored as predictions on disk are."""
    out, figures = trained, validated(trained)
    segmenter = visa.load(out / "export", device="cpu")

    def answered(clip, expression, _):
        (tracklet,) = segmenter.segment_many(open_clip(clip), [expression.text])
        return tracklet.masks

    predictions = write_predictions(tmp_path / "predictions", "revos", root, change=answered)
    overall = score(predictions, "revos", root).lines()[-1]
    assert overall.count == 2
    assert 0 < overall.values["J"] < 1
    for name, value in overall.values.items():
        assert figures[f"validation/{name}"] == pytest.approx(value, abs=1e-3)
    assert figures["validation/loss"] > 0
    state = json.loads((out / "checkpoints" / "step-000002" / "state.json").read_text())
    assert state["best"] == [pytest.approx(figures["validation/J&F"]), 2]


class Third:
    """Draws the left third of every frame, whatever is asked; knows what it saw, and fails at some videos."""

    def __init__(self, fails: str = ""):
        self.seen, self.fails = [], fails

    def segment_each(self, video, questions):
        self.seen.append((video.name, len(video)))
        if video.name == self.fails:
            raise InputError(f"{video.name} cannot be read")
        masks = np.zeros((len(video), *video[0].shape[:2]), dtype=bool)
        masks[:, :, : masks.shape[2] // 3] = True
        for question in questions:
            yield Tracklet(question, "Here.", True, 0.5, 0, masks, video)


def left_third(clip, expression, truth):
    masks = np.zeros_like(truth)
    masks[:, :, : truth.shape[2] // 3] = True
    return masks


@pytest.fixture
def third(monkeypatch) -> Third:
    drawing = Third()
    monkeypatch.setattr(benchmark, "live_segmenter", lambda *_: drawing)
    return drawing


@pytest.mark.parametrize(
    "name", ["revos", "mevis", "ref_youtube_vos", "ref_davis17", "reason_vos", "lv_vis", "reason_seg"]
)
def test_every_data_set_is_scored_by_its_own_protocol(name, third, tmp_path):
    if name == "reason_seg":
        tiny_image_sets.write_reason_seg(tmp_path / name)
        split = "train"
    else:
        split = getattr(tiny_video_datasets, f"write_{name}")(tmp_path / name).split
    wanted = BenchmarkSettings(root=str(tmp_path / name), dataset=name, split=split or "")
    found = validate_on_benchmark(None, wanted, ALONE)
    predictions = write_predictions(tmp_path / "out", name, tmp_path / name, split, change=left_third)
    expected = score(predictions, name, tmp_path / name, split=split)
    overall = expected.lines()[-1].values
    assert found.figures == pytest.approx(overall)
    assert found.merit == overall["gIoU" if name == "reason_seg" else "J&F"]
    assert 0 < found.merit < 1
    assert found.questions == len(expected.rows) == sum(1 for row in expected.rows if row.values)


def test_ranks_share_the_videos_and_all_get_all_figures(root, trained, tmp_path):
    run_ranks(["train_ds.py", *arguments(root, tmp_path)], 2)
    assert scored(tmp_path) == pytest.approx(scored(trained), abs=1e-4)


class Apart(Ranks):
    """Hears nothing of the others."""

    def gathered(self, value):
        return [value]


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_answers_questions_of_its_own(rank, root, third):
    found = validate_on_benchmark(None, BenchmarkSettings(root=str(root)), Apart(rank, 2, ALONE.device))
    assert (found.questions, third.seen) == (1, [(f"shapes/{rank}", FRAMES)])


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
def test_weights_in_pieces_are_put_together_on_every_rank(root, trained, tmp_path):
    run_under_deepspeed(["train_ds.py", *arguments(root, tmp_path), "deepspeed.stage=3"])
    assert scored(tmp_path) == pytest.approx(scored(trained), abs=1e-4)


def test_the_system_is_put_together_from_its_start_and_what_was_trained(tmp_path):
    where = tiny_folder(tmp_path, "visa")
    run = Run(SETTINGS, where, tmp_path / "run")
    with torch.no_grad():
        for name in run.trained:
            run.model.get_parameter(name).add_(1)
    model = gathered(SETTINGS, where, run.driver, ALONE).model
    assert not model.training
    expected = dict(run.model.named_parameters())
    assert [name for name, one in model.named_parameters() if not torch.equal(one, expected.pop(name))] == []
    assert not expected


def test_only_so_many_videos_and_frames(root, third):
    found = validate_on_benchmark(None, BenchmarkSettings(root=str(root), videos=1, frames=2), ALONE)
    assert (found.questions, third.seen) == (1, [("shapes/0", 2)])


def test_a_video_that_fails_is_named_and_the_others_count(root, third, capsys):
    third.fails = "shapes/1"
    found = validate_on_benchmark(None, BenchmarkSettings(root=str(root)), ALONE)
    assert found.questions == 1
    assert "1 of 2 questions not scored: shapes/1 cannot be read" in capsys.readouterr().out
    third.fails = "shapes/0"
    with pytest.raises(TrainingError, match="nothing could be scored: shapes/0 cannot"):
        validate_on_benchmark(None, BenchmarkSettings(root=str(root), videos=1), ALONE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["validation.benchmark.root=/nowhere"], "there is no folder /nowhere"),
        (["validation.benchmark.root=.", "model.start=tiny-visa"], "xmem must name"),
        (["validation.benchmark.root=.", "validation.benchmark.dataset=refvos"], "no data set 'refvos'"),
        (["validation.benchmark.root=."], "validation.benchmark: "),
        (["validation.benchmark.split=1"], "validation.benchmark.split must be a word"),
    ],
)
def test_what_could_not_be_validated_is_refused_at_the_start(settings, message, tmp_path, capsys):
    assert main(["--config", "train/smoke", f"out={tmp_path}", *RUN, *settings]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
