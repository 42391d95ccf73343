"""Recipes: presets and files are read and changed, and every mistake is told in one line."""

import pytest
import yaml

from visa.errors import InputError
from visa.training.recipe import PRESETS, changed_recipe, open_recipe

RECIPE = """
out: runs/here
seed: 0
tracker: true
words: {steps: 700, learning_rate: 0.0006}
a: {a: 1}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in (PRESETS / "train").glob("*.yaml")))
def test_every_preset_can_be_read_and_changed(name):
    recipe = changed_recipe(f"train/{name}", ["seed=3", "out=elsewhere"])
    assert (recipe["seed"], recipe["out"]) == (3, "elsewhere")


def test_a_file_is_read_as_it_stands(file):
    assert open_recipe(file) == changed_recipe(file) == yaml.safe_load(RECIPE)


def test_settings_are_changed_and_nothing_else(file):
    changed = changed_recipe(
        file, ["words.steps=3", "seed=7", "out=a=b", "tracker=false", "new.part=2", "a.a=[1, 2.0]"]
    )
    assert changed == {
        "out": "a=b",
        "seed": 7,
        "tracker": False,
        "words": {"steps": 3, "learning_rate": 0.0006},
        "a": {"a": [1, 2.0]},
        "new": {"part": 2},
    }
    assert open_recipe(file)["words"]["steps"] == 700


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("words.steps.more=3", "words.steps.more: steps is no section but 700"),
        ("seed", "expected key=value, got 'seed'"),
        ("words=3", "words is a section; set one of words.steps, words.learning_rate"),
        ("out=[", "out=.* is not YAML"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(file, setting, message):
    with pytest.raises(InputError, match=message) as caught:
        changed_recipe(file, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ["train/embeded", "missing.yaml", ""])
def test_an_unknown_recipe_names_those_there_are(config):
    with pytest.raises(InputError, match=r"expected a YAML file or one of .*train/embedded"):
        open_recipe(config)


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "is not YAML"), ("", "is no recipe"), ("- a", "is no recipe")]
)
def test_a_file_that_is_no_recipe_is_told(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        open_recipe(str(path))
