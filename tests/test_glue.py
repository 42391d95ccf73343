"""Training stages end to end on tiny models: what changes, what stays, what is written, what is learnt."""

import csv
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.tiny_training import tiny_example, tiny_sam, tiny_trainable
from visa.training import glue
from visa.training.glue import GlueStage, schedule, train_stage
from visa.training.glue_step import LossWeights


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def state_of(module):
    """Every parameter and buffer, as it is now."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: value.detach().clone() for name, value in tensors.items()}


def changed(module, before):
    return {name for name, value in state_of(module).items() if not torch.equal(value, before[name])}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw(rng):
    return tiny_example(int(rng.integers(5)))


def test_two_steps_without_the_decoder_change_exactly_the_glue(tmp_path):
    mllm, sam = tiny_trainable(), tiny_sam()
    before, sam_before = state_of(mllm), state_of(sam.sam)
    trained = {name for name, value in mllm.named_parameters() if value.requires_grad}
    stage = GlueStage(steps=2, batch=1, learning_rate=0.02, decoder_from=1.0)
    train_stage("words", stage, mllm, sam, draw, tmp_path)
    # Without masks nothing teaches the MLP that maps states to SAM's prompt space.
    assert changed(mllm, before) == {name for name in trained if not name.startswith("head.prompt.")}
    assert not changed(sam.sam, sam_before)
    assert not mllm.training
    assert not sam.sam.training


def test_two_steps_with_the_decoder_change_the_glue_and_the_decoder(tmp_path):
    mllm, sam = tiny_trainable(), tiny_sam()
    before, sam_before = state_of(mllm), state_of(sam.sam)
    trained = {name for name, value in mllm.named_parameters() if value.requires_grad}
    stage = GlueStage(steps=2, batch=1, learning_rate=0.02, decoder_from=0.0)
    train_stage("pictures", stage, mllm, sam, draw, tmp_path)
    assert changed(mllm, before) == trained
    moved = changed(sam.sam, sam_before)
    assert moved
    assert all(name.startswith("mask_decoder.") for name in moved)
    assert not any("iou_prediction_head" in name for name in moved), "nothing teaches SAM's own estimate"
    for part in ("transformer.", "output_upscaling.", "output_hypernetworks_mlps.0.", "mask_tokens."):
        assert any(name.startswith(f"mask_decoder.{part}") for name in moved), part


def test_the_decoder_learns_from_its_share_of_the_stage_on(tmp_path):
    sam, drawn = tiny_sam(), []
    decode = sam.decode
    sam.decode = lambda *args, **options: drawn.append(1) or decode(*args, **options)
    stage = GlueStage(steps=4, batch=1, decoder_from=0.75)
    train_stage("late", stage, tiny_trainable(), sam, lambda rng: tiny_example(), tmp_path)
    assert len(drawn) == 1


def test_one_example_is_learnt_by_heart(tmp_path):
    stage = GlueStage(steps=100, batch=1, learning_rate=4e-3)
    train_stage("words", stage, tiny_trainable(), tiny_sam(), lambda rng: tiny_example(), tmp_path)
    rows = rows_of(tmp_path / "words.csv")
    assert {row["name"] for row in rows} == {
        *("text", "refusal", "presence", "look"),
        *("heat_bce", "heat_dice", "object_choice", "cell_choice", "loss"),
    }
    for name, share in (("loss", 0.6), ("object_choice", 0.5), ("text", 0.6)):
        values = [float(row["value"]) for row in rows if row["name"] == name]
        assert len(values) == 5
        assert values[-1] < share * values[0], f"{name}: {values}"


def train_once(folder, seed):
    mllm, sam = tiny_trainable(), tiny_sam()
    stage = GlueStage(steps=3, batch=2, decoder_from=0.5, learning_rate=1e-2)
    train_stage("words", stage, mllm, sam, draw, folder, seed=seed, validate=lambda: {"x": 0.25})
    return (folder / "glue.safetensors").read_bytes(), state_of(mllm)


def test_a_seed_makes_a_run_repeatable(tmp_path):
    bytes_one, one = train_once(tmp_path / "one", 0)
    torch.rand(7)
    bytes_two, two = train_once(tmp_path / "two", 0)
    assert bytes_one == bytes_two
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    bytes_other, _ = train_once(tmp_path / "other", 1)
    assert bytes_one != bytes_other


def test_validation_is_measured_in_evaluation_mode_and_written(tmp_path):
    mllm, modes = tiny_trainable(), []

    def validate():
        modes.append(mllm.training)
        return {"absent refused": 0.5 + len(modes) / 10}

    stage = GlueStage(steps=5, batch=1)
    train_stage("words", stage, mllm, tiny_sam(), draw, tmp_path, validate=validate, validate_every=2)
    assert modes == [False, False, False]
    rows = [row for row in rows_of(tmp_path / "words.csv") if row["name"].startswith("validation")]
    assert [(row["step"], row["name"], row["value"]) for row in rows] == [
        (step, "validation absent refused", value)
        for step, value in (("2", "0.6000"), ("4", "0.7000"), ("5", "0.8000"))
    ]
    assert (tmp_path / "glue.safetensors").is_file()


def test_a_time_limit_ends_the_stage_and_saves(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 60))  # a minute passes whenever somebody looks
    monkeypatch.setattr(glue, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    drawn = []
    stage = GlueStage(steps=1000, batch=1, max_minutes=4)
    train_stage(
        "words", stage, tiny_trainable(), tiny_sam(), lambda rng: drawn.append(1) or draw(rng), tmp_path
    )
    assert len(drawn) == 3
    assert (tmp_path / "glue.safetensors").is_file()


def test_a_loss_that_is_no_number_stops_the_run_before_it_does_harm(tmp_path):
    mllm = tiny_trainable()
    before = state_of(mllm)
    stage = GlueStage(steps=2, batch=1, weights=LossWeights(text=math.nan))
    with pytest.raises(RuntimeError, match="the loss of step 0 is nan; lower the learning rate"):
        train_stage("words", stage, mllm, tiny_sam(), draw, tmp_path)
    assert not changed(mllm, before)
    assert not (tmp_path / "glue.safetensors").exists()


def test_the_learning_rate_warms_up_then_falls_to_a_twentieth():
    assert schedule(0, 0.0) == pytest.approx(1 / 40)
    assert schedule(19, 0.0) == pytest.approx(0.5)
    assert schedule(39, 0.0) == schedule(500, 0.0) == 1
    assert schedule(500, 0.5) == pytest.approx(0.05 + 0.95 / 2)
    assert schedule(500, 1.0) == schedule(500, 1.5) == pytest.approx(0.05)
    falling = [schedule(500, progress) for progress in np.linspace(0, 1, 30)]
    assert falling == sorted(falling, reverse=True)
