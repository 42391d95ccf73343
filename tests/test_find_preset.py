"""What `visa.load` takes: a preset's name, a preset file, or a folder; a mistake names the nearest."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import visa
from visa.errors import InputError
from visa.preset_files import PRESETS, check_model, find_preset, is_checkpoint, preset_names

ROOT = Path(__file__).parents[1]


def test_every_preset_is_found_by_name_and_has_the_four_stages():
    assert "embedded" in preset_names()
    for name in preset_names():
        path = find_preset(name)
        assert path == PRESETS / f"{name}.yaml"
        assert {"segment", "reason", "sample", "propagate"} <= yaml.safe_load(path.read_text()).keys()


def test_a_file_and_a_folder_are_found(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("reason: {}\n")
    assert find_preset(preset) == preset
    assert find_preset(str(tmp_path)) == preset


def test_a_preset_is_found_beside_a_folder_of_the_same_name(tmp_path, monkeypatch):
    """`runs/embedded` made by training must not hide the preset of who stands in runs/."""
    (tmp_path / "embedded").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_preset("embedded") == PRESETS / "embedded.yaml"


def test_a_near_miss_is_answered_with_the_name_meant():
    with pytest.raises(
        InputError, match=r"no model is called 'embeded'.*did you mean 'embedded'\?"
    ) as caught:
        find_preset("embeded")
    assert "\n" not in str(caught.value)


def test_what_is_near_nothing_is_answered_with_all_names(tmp_path):
    for model in ("qqqqqq", "missing.yaml", tmp_path / "missing", tmp_path / "missing.yaml", ""):
        with pytest.raises(
            InputError, match=r"expected one of .*embedded.*a preset file, or a folder"
        ) as caught:
            find_preset(model)
        assert "did you mean" not in str(caught.value)


def test_a_folder_that_holds_no_model_is_told_what_it_lacks(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        InputError, match=r"holds no model: neither preset.yaml nor .*config.json, \*.safe"
    ) as caught:
        check_model(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "hub" not in str(caught.value)


def test_a_path_that_is_not_there_is_no_repository(tmp_path, monkeypatch):
    """A mistyped runs/mine is answered at once; the hub is asked only where there is no folder runs."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"there is no mine in the folder runs"):
        check_model("runs/mine")
    assert is_checkpoint("ZechenBai/VideoLISA-3.8B")
    check_model("ZechenBai/VideoLISA-3.8B")


@pytest.mark.parametrize(
    "name", ["config.json", "model-00001-of-00002.safetensors", "pytorch_model.bin", "latest"]
)
def test_a_published_checkpoints_folder_may_be_a_model(tmp_path, name):
    (tmp_path / name).touch()
    check_model(tmp_path)


def test_it_is_said_without_pytorch(tmp_path):
    code = (
        "import sys\nfrom visa.errors import InputError\nfrom visa.preset_files import check_model\n"
        f"try: check_model({str(tmp_path)!r})\nexcept InputError: pass\nelse: raise SystemExit('accepted')\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", [5, None, b"embedded", {"reason": {}}])
def test_what_is_no_name_at_all_is_told_what_one_is(model):
    with pytest.raises(
        InputError, match=rf"^a model is named by a str or a Path, .*; got {type(model).__name__}$"
    ):
        visa.load(model)
