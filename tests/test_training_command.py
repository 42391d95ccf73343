"""`train_ds.py` on a small run: what it writes, that it goes on, and that its export is what was trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.tiny_engine import reader_of
from visa.checkpoints.loading import load_published, open_checkpoint
from visa.checkpoints.options import LoadOptions
from visa.commands.train import main
from visa.training.engine.checkpoints import Checkpoints
from visa.training.engine.driver import put_weights
from visa.training.engine.export import export
from visa.training.engine.settings import read_settings
from visa.training.engine.start import build_start
from visa.training.engine.step import TrainingStep
from visa.training.engine.trainables import choose_trained, parameter_table
from visa.training.published_objective import LossWeights

ROOT = Path(__file__).parents[1]
STEPS = [
    "schedule.steps=4",
    "batch.total=2",
    "checkpoints.every=2",
    "validation.every=4",
    "validation.batches=1",
]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The folder of a whole run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main(["--config", "train/smoke", f"out={out}", *STEPS]) == 0
    return out


def test_the_run_writes_what_it_was_made_from(out):
    written = yaml.safe_load((out / "settings.yaml").read_text())
    assert written["optimiser"]["betas"] == [0.9, 0.95]
    assert written["schedule"]["steps"] == 4
    (start,) = [json.loads(line) for line in (out / "starts.jsonl").read_text().splitlines()]
    # A build's local part ("+cpu") is in torch's own version alone, or in both.
    assert start["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(start["code"]) == {"commit", "changed"}
    assert "moving shapes" in start["data"]
    assert start["settings"] == written
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    parts = {"loss/total", "loss/text", "loss/bce", "loss/dice", "samples/s", "tokens/s", "share/reading"}
    assert parts <= rows[0].keys()
    assert {"validation/J", "validation/F", "validation/J&F", "validation/loss"} <= rows[3].keys()
    assert (out / "pictures" / "step-000004" / "00.png").is_file()
    assert list((out / "tensorboard").glob("events.*"))


def test_a_finished_run_is_not_run_again(out, capsys):
    before = (out / "log.jsonl").read_text()
    assert main(["--config", "train/smoke", f"out={out}", *STEPS, "export=false"]) == 0
    assert (out / "log.jsonl").read_text() == before
    assert "going on from step 4" in capsys.readouterr().out


def test_another_recipe_is_refused_in_the_same_folder(out, capsys):
    assert main(["--config", "train/smoke", f"out={out}", *STEPS, "loss.bce=1"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert "loss.bce was 2.0, is 1.0" in told


def test_the_launchers_own_argument_is_taken(out, capsys):
    assert main(["--local_rank=0", "--config", "train/smoke", "out=x", "nonsense=1"]) == 2
    assert "no setting 'nonsense'" in capsys.readouterr().err


def test_deepspeed_is_not_imported(tmp_path):
    """In a process of its own: another test of this one may have imported it."""
    run = [
        "--config",
        "train/smoke",
        f"out={tmp_path}",
        "schedule.steps=1",
        "validation.every=0",
        "export=false",
    ]
    code = f"import sys; from visa.commands.train import main; main({run}); print('deepspeed' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.start=tiny-lisa"], "no miniature 'tiny-lisa'"),
        (["model.start=/nowhere"], "there is no /nowhere"),
        (["batch.videos=3"], "cannot be dealt out"),
        (["trained.in_full=[head]"], "no part 'head'"),
        (["trained.lora_targets=[proj]"], "no layer is called proj"),
        (["data.colour=red"], "no setting 'data.colour'"),
        (["model.start=tiny-videolisa"], "qkv_proj"),
    ],
)
def test_bad_settings_end_in_one_line(settings, message, tmp_path, capsys):
    assert main(["--config", "train/smoke", f"out={tmp_path / 'run'}", *STEPS, *settings]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert message in told[0]


@pytest.mark.parametrize("recipe", ["train/smoke", "train/embedded", "train/steerseg"])
@pytest.mark.parametrize("place", ["file", "file/runs/smoke"])
def test_a_file_where_the_folder_is_to_be_is_bad_usage(recipe, place, tmp_path, capsys):
    (tmp_path / "file").touch()
    data = [f"data.folder={tmp_path}"] if recipe == "train/steerseg" else []
    assert main(["--config", recipe, f"out={tmp_path / place}", *data]) == 2
    assert f"the output {tmp_path / 'file'} is a file; give a folder" in capsys.readouterr().err


def test_a_refused_run_makes_no_folder(tmp_path):
    assert main(["--config", "train/smoke", f"out={tmp_path / 'run'}", "batch.videos=3"]) == 2
    assert not (tmp_path / "run").exists()


def test_the_export_draws_the_masks_that_training_drew(out):
    settings = read_settings("train/smoke", [f"out={out}", *STEPS])
    record = json.loads((out / "checkpoints" / "step-000004" / "state.json").read_text())
    checkpoints = Checkpoints(out / "checkpoints", 2, record["identity"], record["fingerprint"])
    torch.manual_seed(5)
    start = build_start(settings.model, out / "start", "cpu")
    choose_trained(start.model, settings.trained)
    state, _ = checkpoints.load(record["best"][1])
    put_weights({n: p for n, p in start.model.named_parameters() if p.requires_grad}, state)
    batch = next(reader_of(settings, start))
    exported = load_published(open_checkpoint(out / "export"), LoadOptions(dtype="float32"))
    assert not any("lora" in name for name, _ in exported.model.named_parameters())
    assert exported.tokenizer.get_vocab() == start.tokenizer.get_vocab()
    results = []
    for model in (start.model, exported.model):
        with torch.no_grad():
            results.append(TrainingStep(model.eval(), LossWeights())(batch))
    assert results[0].loss.total.item() == pytest.approx(results[1].loss.total.item(), abs=1e-5)
    difference = (results[0].mask_logits[0] - results[1].mask_logits[0]).abs().max().item()
    assert difference < 1e-4
    preset = yaml.safe_load((out / "export" / "preset.yaml").read_text())
    assert (preset["checkpoint"], preset["reason"]["system"]) == (".", "visa")


def test_the_adapter_lies_beside_in_pefts_layout(out):
    adapter = out / "export" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    factors = load_file(adapter / "adapter_model.safetensors")
    assert (config["r"], config["lora_alpha"], len(config["target_modules"])) == (8, 16.0, 4)
    for name in config["target_modules"]:
        assert f"base_model.model.{name}.lora_A.weight" in factors
        assert f"base_model.model.{name}.lora_B.weight" in factors
    assert len(factors) == 8
    assert "seg_head.0.weight" in load_file(adapter / "trained_in_full.safetensors")


def test_an_export_replaces_the_one_before(out, tmp_path):
    settings = read_settings("train/smoke", [f"out={out}", *STEPS])
    record = json.loads((out / "checkpoints" / "step-000004" / "state.json").read_text())
    state, _ = Checkpoints(out / "checkpoints", 2, record["identity"], record["fingerprint"]).load(4)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "old").touch()
    export(settings, out / "start", state, tmp_path / "export")
    assert not (tmp_path / "export" / "old").exists()
    assert (tmp_path / "export" / "model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_the_table_tells_what_is_trained(out):
    settings = read_settings("train/smoke", [f"out={out}"])
    start = build_start(settings.model, out / "start", "cpu")
    choose_trained(start.model, settings.trained)
    rows = {line.split()[0]: line for line in parameter_table(start.model).splitlines()}
    assert "LoRA" in next(
        line for line in parameter_table(start.model).splitlines() if "language LoRA" in line
    )
    for part, told in {
        "vision_tower": "frozen",
        "mask_decoder": "trained",
        "image_encoder": "frozen",
    }.items():
        assert told in rows[part]
    count = sum(p.numel() for p in start.model.visual_model.mask_decoder.parameters())
    assert f"{count:,}" in rows["mask_decoder"]
