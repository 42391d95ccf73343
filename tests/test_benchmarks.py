"""The benchmarks' own parts: automatic masks, tables, the stage clock and the scripts' --help."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _import_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_grid_points_are_the_middles_of_square_cells():
    from automatic_masks import grid

    points = grid((90, 160), 16)
    assert points.shape == (16 * 9, 2)
    assert points[0].tolist() == [5, 5]
    assert points[1].tolist() == [15, 5]  # (x, y)
    assert points[-1].tolist() == [155, 85]
    assert grid((1, 100), 8).shape == (8, 2)


def test_duplicates_lose_to_the_surer_mask():
    from automatic_masks import suppress_duplicates

    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[0, :4] = True
    masks[1, :5] = True  # IoU .8 with mask 0
    masks[2, 6:] = True
    masks[3, :2] = True  # IoU .5 with mask 0
    kept = suppress_duplicates(masks, torch.tensor([0.8, 0.9, 0.95, 0.7]), 0.7)
    assert kept.tolist() == [2, 1, 3]


def test_a_sharp_mask_is_stabler_than_a_soft_one():
    from automatic_masks import stability

    slope = torch.linspace(-8, 8, 64).expand(64, 64)
    values = stability(torch.stack([slope * 10, slope]), 1.0)
    assert 0.5 < values[1] < 0.8 < values[0] <= 1


class FakeSam:
    """Draws a disc of radius 30 input pixels around each point, surer nearer to the top left corner."""

    sam = SimpleNamespace(device=torch.device("cpu"))

    def decode(self, features, prompt, *, multimask=False):
        assert multimask
        ys, xs = torch.meshgrid(torch.arange(256) * 4 + 2, torch.arange(256) * 4 + 2, indexing="ij")
        centres = prompt.points[:, 0]
        distance = torch.hypot(xs - centres[:, 0, None, None], ys - centres[:, 1, None, None])
        logits = 10 * (30 - distance)[:, None].repeat(1, 3, 1, 1)
        return SimpleNamespace(mask_logits=logits, iou=(1 - centres.sum(1) / 2e4)[:, None].repeat(1, 3))

    def to_frame(self, mask_logits, features):
        height, width = features.original_size
        return torch.nn.functional.interpolate(mask_logits[..., :144, :], (height, width))


@pytest.fixture
def features():
    return SimpleNamespace(
        original_size=(288, 512), input_size=(576, 1024), to_input=lambda coordinates: coordinates * 2.0
    )


def test_automatic_masks_are_one_for_each_thing(features):
    from automatic_masks import automatic_masks

    candidates = automatic_masks(FakeSam(), features, num_columns=4)
    assert len(candidates) == 4 * 2  # three equal masks for each point count once
    assert candidates.masks.shape == (8, 144, 256)
    assert (candidates.iou.diff() <= 0).all()
    hopeless = automatic_masks(FakeSam(), features, num_columns=4, least_iou=2.0, points_a_batch=8)
    assert len(hopeless) == 1


def test_baselines_draw_in_the_middle(features):
    from baselines import centre_mask, centre_point

    for draw in (centre_point, centre_mask):
        mask = draw(FakeSam(), features)
        assert mask.shape == (288, 512)
        rows, columns = np.nonzero(mask)
        assert abs(rows.mean() - 144) < 80
        assert abs(columns.mean() - 256) < 80
    rows, columns = np.nonzero(centre_point(FakeSam(), features))
    assert abs(rows.mean() - 144) < 2
    assert abs(columns.mean() - 256) < 2


def test_one_mask_answers_every_question(features):
    from baselines import OneMask, centre_point

    from visa.video import Video

    class Propagator:
        def propagate(self, video, target_frame, masks):
            assert target_frame == 1
            return np.repeat(masks[:, None], len(video), axis=1)

    sam = FakeSam()
    sam.encode = lambda frames: features
    video = Video.from_frames(np.zeros((3, 288, 512, 3), np.uint8))
    tracklets = OneMask(sam, Propagator(), centre_point, "it").segment_many(video, ["a", "b"])
    assert [tracklet.question for tracklet in tracklets] == ["a", "b"]
    assert all(tracklet.found and tracklet.masks[0].any() for tracklet in tracklets)


def test_stages_take_over_only_where_they_may(monkeypatch):
    import stage_clock

    now = [0.0]
    monkeypatch.setattr(stage_clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def spend(seconds):
        now[0] += seconds

    class Work:
        def outer(self):
            spend(2)
            self.decode()
            self.reason()

        def decode(self):
            spend(3)

        def reason(self):
            spend(1)

        @classmethod
        def make(cls):
            return cls()

    clock = stage_clock.StageClock(inner=("decode",))
    calls = [("sample", Work, "outer"), ("decode", Work, "decode"), ("reason", Work, "reason")]
    with clock.watching(), clock.wrapping(*calls, ("load", Work, "make")):
        Work.make().outer()
    Work().decode()  # no longer on the clock
    assert clock.seconds == {"load": 0, "sample": 3, "decode": 3}
    assert clock.whole_seconds == {"load": 0, "sample": 6, "decode": 3}
    assert clock.peak_bytes["sample"] > 0
    assert isinstance(Work.__dict__["make"], classmethod)
    assert clock.table(("load", "sample", "decode")).count("\n") == 4


def test_contour_benchmark_compares_equal_values(capsys):
    import contour

    contour.main(["--frames", "2", "--size", "96", "128"])
    assert capsys.readouterr().out.count("ratio") == 4


def test_the_way_of_the_7b_model_is_gone_with_few_channels(capsys):
    import visa_7b

    assert visa_7b.main(["--tiny", "--frames", "3", "--questions", "2"]) == 0
    cells = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert cells[0] == "| sdpa"
    assert all(float(cell) > 0 for cell in cells[1:4])


def test_memory_is_measured_of_whole_runs_each_in_its_own_process(capsys, monkeypatch):
    import memory

    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS.parent))
    assert memory.main(["--frames", "2", "3"]) == 0
    about, *lines = capsys.readouterr().out.splitlines()
    assert about.startswith("tiny, 1 questions, 854x480; ")
    assert [line.split(" MiB, ")[0].split(" frames: peak ")[0] for line in lines] == ["2", "3"]
    assert all(200 < float(line.split("peak ")[1].split()[0]) < 4000 for line in lines)
    assert memory.main(["--frames", "2", "--model", "no such model"]) == 1
    assert "no such model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script",
    ["embedded", "memory", "tracker", "pipeline", "questions", "reanchoring", "steerseg", "visa_7b", "xmem"],
)
def test_scripts_explain_themselves(script):
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{script}.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"python benchmarks/{script}.py" in result.stdout
