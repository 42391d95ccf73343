"""The course of the embedded system's training: what learns when, what ends it, and that it learns at all."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_glue import rows_of, tiny_settings, tiny_system, train_tiny, weights_at, write_scenes
from visa.training import embedded
from visa.training.engine import loop
from visa.training.engine.faults import TrainingError
from visa.training.glue import GlueStep

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_a_time_limit_ends_the_stage_with_a_low_learning_rate(scenes, tmp_path, monkeypatch):
    clock = count(0, 60)  # a minute passes whenever the loop looks
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert train_tiny(tmp_path, scenes, "pictures.steps=1000", "pictures.max_minutes=4").finished
    rates = [row["learning_rate"] for row in rows_of(tmp_path)]
    assert len(rates) == 4
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.3 * rates[0]
    # Masks are drawn from half of the time on, not of the steps.
    assert [("loss/mask_bce" in row) for row in rows_of(tmp_path)][:2] == [False, False]
    assert (tmp_path / "glue.safetensors").is_file()


def test_a_loss_that_is_not_finite_changes_nothing_and_too_many_end_the_run(scenes, tmp_path):
    with pytest.raises(TrainingError, match=r"step 2 is not finite \(samples: .*2 steps in a row"):
        train_tiny(tmp_path, scenes, "loss.text=.nan", "max_bad_steps=2", "checkpoints.every=1")
    mllm, _ = tiny_system(CPU)
    assert torch.equal(weights_at(tmp_path, 1)["mllm.seg_embedding"], mllm.seg_embedding.detach())


def test_one_scene_is_learnt_by_heart(tmp_path):
    scenes = write_scenes(tmp_path / "one", count=1)
    changes = ("pictures.steps=60", "pictures.batch=1", "pictures.learning_rate=6e-3", "report.every=10")
    still = ("pictures.word_share=0.0", "pictures.hidden_features=0.0", "pictures.decoder_from=1.0")
    train_tiny(tmp_path, scenes, *changes, *still, "loss.meaning=0.0")
    rows = rows_of(tmp_path)
    assert len(rows) == 6
    for name in ("total", "text", "object_choice"):
        values = [row[f"loss/{name}"] for row in rows]
        assert values[-1] < 0.75 * values[0], f"{name}: {values}"


def test_a_seed_makes_a_run_repeatable(scenes, tmp_path):
    glue = []
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        train_tiny(tmp_path / name, scenes, "pictures.steps=1", f"seed={seed}")
        torch.rand(7)
        glue.append((tmp_path / name / "glue.safetensors").read_bytes())
    assert glue[0] == glue[1] != glue[2]


def test_the_best_by_validation_may_be_handed_on(scenes, tmp_path, monkeypatch):
    merits = iter([0.2, 0.9, 0.4])
    monkeypatch.setattr(embedded, "validate_glue", lambda *_, **__: {"absent refused": next(merits)})
    changes = ("pictures.steps=3", "validation.every=1", "keep=best", "checkpoints.keep=1")
    train_tiny(tmp_path, scenes, *changes)
    kept = sorted(path.name for path in (tmp_path / "pictures" / "checkpoints").iterdir())
    assert kept == ["step-000002", "step-000003"]
    exported = load_file(tmp_path / "glue.safetensors")["mllm.seg_output"]
    assert torch.equal(exported, weights_at(tmp_path, 2)["mllm.seg_output"].bfloat16())
    assert not torch.equal(exported, weights_at(tmp_path, 3)["mllm.seg_output"].bfloat16())


def test_the_decoder_learns_from_its_share_of_the_stage_on(tmp_path, scenes):
    train_tiny(tmp_path, scenes, "pictures.steps=4", "checkpoints.every=1", "pictures.word_share=0.0")
    states = [weights_at(tmp_path, step) for step in (1, 2, 3, 4)]
    rows = rows_of(tmp_path)
    assert [("loss/mask_bce" in row) for row in rows] == [False, False, True, True]
    early, changed = moved(states[0], states[1]), moved(states[1], states[2])
    for late in ("mask_decoder.", "mllm.head.prompt."):
        assert not any(name.startswith(late) for name in early), late
        assert any(name.startswith(late) for name in changed), late
    assert not any("iou_prediction_head" in name for name in changed), "nothing teaches SAM's own estimate"
    for part in ("transformer.", "output_upscaling.", "output_hypernetworks_mlps.0.", "mask_tokens."):
        assert any(name.startswith(f"mask_decoder.{part}") for name in changed), part
    # AdamW's steps are as long as the learning rate, of which the decoder has a share.
    length = {name: (states[2][name] - states[1][name]).abs().max().item() for name in changed}
    decoder = max(value for name, value in length.items() if name.startswith("mask_decoder."))
    assert 0 < decoder < 0.5 * max(value for name, value in length.items() if "projector" in name)


def test_without_masks_nothing_but_the_glue_changes(tmp_path, scenes):
    mllm, sam = tiny_system(CPU)
    run = tiny_settings(tmp_path, scenes, "pictures.decoder_from=1.0").run_settings("pictures", "", 1)
    step = GlueStep(mllm, sam, run)
    names = {name for group in step.parameter_groups() for name in group.parameters}
    assert names == {f"mllm.{name}" for name, value in mllm.named_parameters() if value.requires_grad}
    assert not any("tower" in name or "base_layer" in name or "mask_decoder" in name for name in names)
    assert any("lora_A" in name for name in names)
