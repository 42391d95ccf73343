"""Recipes of the engine: every key is known, every value of its type; the schedule is DeepSpeed's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from visa.errors import InputError
from visa.training.engine.schedule import learning_rate_share
from visa.training.engine.settings import (
    ScheduleSettings,
    identity,
    is_engine_recipe,
    plain,
    read_settings,
)
from visa.training.recipe import PRESETS, open_recipe

ROOT = Path(__file__).parents[1]
OURS = sorted(
    f"train/{path.stem}"
    for path in (PRESETS / "train").glob("*.yaml")
    if is_engine_recipe(open_recipe(f"train/{path.stem}"))
)


def test_there_are_presets_of_the_papers():
    assert {"train/visa-7b", "train/visa-13b", "train/videolisa-3.8b", "train/smoke"} <= set(OURS)
    assert {"train/visa-7b-paper", "train/visa-13b-paper"} <= set(OURS)
    assert not is_engine_recipe(open_recipe("train/embedded"))


@pytest.mark.parametrize("name", OURS)
def test_a_preset_survives_being_written_down(name, tmp_path):
    settings = read_settings(name, ["seed=3"])
    assert settings.seed == 3
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(plain(settings)), encoding="utf-8")
    assert read_settings(str(path)) == settings


@pytest.mark.parametrize("size", ["7b", "13b"])
def test_the_released_recipe_and_the_papers_differ_in_the_learning_rate_alone(size):
    released, paper = (read_settings(f"train/visa-{size}{kind}") for kind in ("", "-paper"))
    ours, theirs = identity(released), identity(paper)
    assert {name for name in ours if ours[name] != theirs[name]} == {
        "optimiser.learning_rate",
        "schedule.name",
    }
    assert (released.optimiser.learning_rate, paper.optimiser.learning_rate) == (3e-4, 2e-5)
    assert (released.schedule.steps, released.batch.total) == (15000, 128)
    assert released.accumulation(8) == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learning_rat=1", "did you mean 'optimiser.learning_rate'"),
        ("optimizer.learning_rate=1", "did you mean 'optimiser'"),
        ("learning_rate=1", "did you mean 'optimiser.learning_rate'"),
        ("sed=1", "did you mean 'seed'"),
        ("seed=many", "seed must be a whole number, got 'many'"),
        ("seed=1.5", "seed must be a whole number"),
        ("seed=true", "seed must be a whole number"),
        ("model.precision=int8", "model.precision must be 'bf16' or 'fp16' or 'fp32', got 'int8'"),
        ("deepspeed.stage=4", "deepspeed.stage must be 1 or 2 or 3"),
        ("optimiser.betas=[0.9]", "optimiser.betas must be a list"),
        ("trained.lora_targets=q_proj", "trained.lora_targets must be a list"),
        ("optimiser=3", "optimiser is a section"),
        ("seed.x=3", "seed is no section"),
        ("batch.total=0", "batch.total must be at least 1"),
        ("seed", "expected key=value"),
        ("seed=[", "is not YAML"),
    ],
)
def test_mistakes_are_told_in_a_line(override, message):
    with pytest.raises(InputError) as caught:
        read_settings("train/smoke", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_must_say_what_has_no_default(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {start: tiny-visa}", encoding="utf-8")
    with pytest.raises(InputError, match="the recipe lacks out"):
        read_settings(str(path))
    assert read_settings(str(path), ["out=here"]).out == "here"


def test_numbers_may_be_written_as_people_do():
    settings = read_settings("train/smoke", ["optimiser.learning_rate=1e-4", "optimiser.weight_decay=1"])
    assert (settings.optimiser.learning_rate, settings.optimiser.weight_decay) == (1e-4, 1.0)
    assert read_settings("train/smoke", ["model.sam=null"]).model.sam is None


def test_videos_must_be_dealt_out_evenly():
    settings = read_settings("train/smoke", ["batch.total=12", "batch.videos=2"])
    assert [settings.accumulation(ranks) for ranks in (1, 2, 3, 6)] == [6, 3, 2, 1]
    with pytest.raises(InputError, match=r"batch.total=12 cannot be dealt out to 4 ranks.*multiple of 8"):
        settings.accumulation(4)


@pytest.mark.parametrize("section", ["batch.videos=1", "checkpoints.every=7", "out=x", "deepspeed.stage=3",
                                     "model.attention=eager", "report.every=9"])  # fmt: skip
def test_what_changes_no_loss_may_change_within_a_run(section):
    assert identity(read_settings("train/smoke", [section])) == identity(read_settings("train/smoke"))


@pytest.mark.parametrize("section", ["batch.total=8", "seed=1", "model.precision=bf16", "data.frames=2",
                                     "schedule.steps=9", "trained.lora_rank=4", "loss.bce=1"])  # fmt: skip
def test_what_changes_a_loss_may_not(section):
    assert identity(read_settings("train/smoke", [section])) != identity(read_settings("train/smoke"))


def test_the_linear_schedule_warms_up_and_falls_to_nothing():
    schedule = ScheduleSettings("linear", warmup=10, steps=110)
    shares = [learning_rate_share(schedule, step) for step in range(112)]
    assert shares[:3] == [0, 0, 0.1]
    assert shares[11] == max(shares) == 1
    assert shares[61] == pytest.approx(0.5)
    assert shares[111] == 0


def test_the_other_schedules():
    cosine = ScheduleSettings("cosine", warmup=10, steps=110)
    assert learning_rate_share(cosine, 6) == 0.5
    assert learning_rate_share(cosine, 60) == pytest.approx(0.5, abs=1e-3)
    assert 0 < learning_rate_share(cosine, 110) < 2e-4
    constant = ScheduleSettings("constant", warmup=0, steps=5)
    assert {learning_rate_share(constant, step) for step in range(9)} == {1.0}


@pytest.mark.parametrize(("name", "theirs"), [("linear", "WarmupDecayLR"), ("cosine", "WarmupCosineLR")])
def test_schedules_are_deepspeeds(name, theirs):
    schedulers = pytest.importorskip("deepspeed.runtime.lr_schedules")
    import torch

    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"warmup_max_lr": 1.0} if name == "linear" else {}
    scheduler = getattr(schedulers, theirs)(
        optimiser, total_num_steps=40, warmup_num_steps=8, warmup_type="linear", **options
    )
    schedule = ScheduleSettings(name, warmup=8, steps=40)
    for step in range(42):
        rate = optimiser.param_groups[0]["lr"]
        assert float(rate) == pytest.approx(learning_rate_share(schedule, step), abs=1e-12), step
        scheduler.step()


def test_settings_need_no_torch():
    script = (
        "import sys\n"
        "from visa.training.engine.settings import read_settings\n"
        "read_settings('train/visa-7b')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)
