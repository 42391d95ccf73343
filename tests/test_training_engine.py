"""The training loop: what comes out the same however the work is dealt out, broken off or gone on with."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from tests.tiny_engine import Run, changed, reader_of, tiny_folder
from visa import metrics
from visa.training.engine.step import count
from visa.training.engine.trainables import LORA

SYSTEMS = ("visa", "videolisa")
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("start")
    return {system: tiny_folder(root, system) for system in SYSTEMS}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_accumulated_micro_batches_equal_one_batch(folders, tmp_path):
    """8 micro-batches of one video give the gradient and losses of one of 8 videos."""
    results, tokens = [], set()
    for videos in (1, 8):
        # Dropout cannot be the same for other micro-batches; all else must be.
        settings = changed(
            batch={"total": 8, "videos": videos}, schedule={"steps": 1}, trained={"lora_dropout": 0.0}
        )
        run = Run(settings, folders["visa"], tmp_path / str(videos))
        tokens |= {count(next(run.reader)).tokens for _ in range(8)}
        run.reader.load_state_dict({"samples": 0})
        before = run.weights()
        run.run()
        weights = run.weights()
        results.append((run.losses, weights, run.driver.state().moments))
        assert largest_difference(before, weights) > 1e-4
    # Other averages would show: the videos do not all have as many words.
    assert len(tokens) > 1
    (losses_1, _, moments_1), (losses_8, _, moments_8) = results
    assert losses_1 == pytest.approx(losses_8, abs=TOLERANCE)
    # The first moment is a tenth of the gradient; AdamW's first step would only tell its sign.
    assert largest_difference(moments_1, moments_8) < TOLERANCE


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_that_was_broken_off_goes_on_with_the_same_losses(system, folders, tmp_path):
    """Optimiser, schedule, data and dropout go on where they were."""
    settings = changed(
        schedule={"steps": 6, "name": "linear", "warmup": 1},
        checkpoints={"every": 3},
        optimiser={"weight_decay": 0.1},
    )
    whole = Run(settings, folders[system], tmp_path / "whole").run()
    assert whole.finished
    state, progress = whole.checkpoints.load(3)
    assert (progress.step, progress.position) == (3, {"samples": 6})
    rest = Run(settings, folders[system], tmp_path / "rest", state=state, progress=progress).run()
    assert rest.losses == pytest.approx(whole.losses[3:], abs=TOLERANCE)
    assert len(set(whole.losses)) == 6
    assert largest_difference(whole.weights(), rest.weights()) < TOLERANCE


def test_float16_goes_on_with_the_scale_that_it_had_found(folders, tmp_path, monkeypatch):
    """The first scales overflow; a run that began with them anew would leave out steps that this one took."""
    monkeypatch.setattr("visa.training.engine.plain_driver.FIRST_SCALE_POWER", 26)
    settings = changed(model={"precision": "fp16"}, schedule={"steps": 12}, checkpoints={"every": 8})
    whole = Run(settings, folders["visa"], tmp_path / "whole").run()
    state, progress = whole.checkpoints.load(8)
    left_out = 8 - state.updates
    assert left_out > 0
    assert (state.scale.value, state.scale.steady) == (2.0 ** (26 - left_out), state.updates)
    rest = Run(settings, folders["visa"], tmp_path / "rest", state=state, progress=progress).run()
    # A step that is left out has no loss to tell.
    assert rest.losses == pytest.approx(whole.losses[8:], abs=TOLERANCE, nan_ok=True)
    assert sum(map(math.isfinite, rest.losses)) > 1
    assert rest.driver.state().scale == whole.driver.state().scale
    assert largest_difference(whole.weights(), rest.weights()) < TOLERANCE


@pytest.mark.parametrize("system", SYSTEMS)
def test_only_what_is_to_be_trained_changes(system, folders, tmp_path):
    run = Run(changed(schedule={"steps": 3}), folders[system], tmp_path)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.run()
    after = run.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    layers = {"visa": ("q_proj", "v_proj"), "videolisa": ("qkv_proj",)}[system]
    lora = {
        f"language.model.layers.{layer}.self_attn.{name}.lora_{side}.default.weight"
        for layer in range(2) for name in layers for side in "AB"
    }  # fmt: skip
    full = {"language.model.embed_tokens.weight", "language.lm_head.weight"}
    full |= {f"seg_head.{place}" for place in ("0.weight", "0.bias", "2.weight", "2.bias")}
    full |= {n for n, _ in run.model.named_parameters() if n.startswith("visual_model.mask_decoder.")}
    assert set(run.trained) == lora | full
    assert moved <= set(run.trained)
    # The IoU head and the masks that one [SEG] does not use are trained by nothing.
    still = set(run.trained) - moved
    assert all("iou_prediction_head" in n or "output_hypernetworks_mlps" in n or LORA in n for n in still)
    assert not [name for name in still if "hypernetworks_mlps.0." in name]


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_clip_can_be_learnt_by_heart(system, folders, tmp_path):
    settings = changed(
        schedule={"steps": 25}, batch={"total": 1}, report={"every": 100},
        data={"source": "moving_shapes", "videos": 1, "absent": 0.0},
    )  # fmt: skip
    run = Run(settings, folders[system], tmp_path)
    batch = next(reader_of(settings, run.start))

    def j() -> float:
        run.step.eval()
        with torch.no_grad():
            (logits,) = run.driver.forward(batch).mask_logits
        truth = batch.videos[0].masks.flatten(0, 1).numpy()
        assert truth.any()
        return float(metrics.region_similarity(truth, (logits > 0).numpy()).mean())

    assert j() < 0.5
    run.run()
    assert j() > 0.9


def test_gradient_checkpointing_changes_nothing_but_what_is_kept(folders, tmp_path):
    runs, told = [], []
    for on in (False, True):
        settings = changed(model={"gradient_checkpointing": on}, schedule={"steps": 2})
        runs.append(Run(settings, folders["visa"], tmp_path / str(on)))
        runs[-1].trainer.report.say = told.append
    assert runs[0].run().losses == pytest.approx(runs[1].run().losses, abs=TOLERANCE)
    assert largest_difference(runs[0].weights(), runs[1].weights()) < 1e-5
    kept = [float(re.search(r"keeps ([\d.]+) MB of activations", line)[1]) for line in told]
    assert 0 < kept[1] < kept[0]


def test_bfloat16_keeps_its_weights_in_float32(folders, tmp_path):
    """Steps too small for bfloat16 are not lost."""
    settings = changed(model={"precision": "bf16"}, optimiser={"learning_rate": 1e-6}, schedule={"steps": 2})
    run = Run(settings, folders["visa"], tmp_path)
    before, rounded = run.weights(), run.model.language.lm_head.weight.detach().clone()
    run.run()
    name = "language.lm_head.weight"
    assert run.model.language.lm_head.weight.dtype == torch.bfloat16
    assert 0 < (run.weights()[name] - before[name]).abs().max() < 1e-5
    assert torch.equal(run.weights()[name].bfloat16(), run.model.language.lm_head.weight)
    assert (run.model.language.lm_head.weight != rounded).float().mean() < 0.5
