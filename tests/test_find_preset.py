"""What `visa.load` takes: a preset's name, a preset file, or a folder; a mistake names the nearest."""

import pytest
import yaml

from visa.errors import InputError
from visa.loading import PRESETS, find_preset, preset_names


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
    for model in ("qqqqqq", "missing.yaml", tmp_path, tmp_path / "missing.yaml", ""):
        with pytest.raises(
            InputError, match=r"expected one of .*embedded.*a preset file, or a folder"
        ) as caught:
            find_preset(model)
        assert "did you mean" not in str(caught.value)
