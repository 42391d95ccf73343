"""Recipes: presets and files are read, settings are changed, and every mistake is told in one line."""

import math

import pytest
import yaml

from visa.errors import InputError
from visa.training.recipe import PRESETS, read_recipe

RECIPE = """
out: runs/here
seed: 0
tracker: true
words: {steps: 700, learning_rate: 0.0006}
a: {a: 1}
max_minutes: .inf
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in (PRESETS / "train").glob("*.yaml")))
def test_every_preset_can_be_read_and_changed(name):
    recipe = read_recipe(f"train/{name}", ["seed=3", "out=elsewhere"])
    assert (recipe["seed"], recipe["out"]) == (3, "elsewhere")
    stages = [section for section in recipe.values() if isinstance(section, dict)]
    assert stages
    assert all(stage["steps"] > 0 for stage in stages if "steps" in stage)


def test_the_embedded_recipe_makes_stages():
    from visa.training.glue import GlueStage

    recipe = read_recipe("train/embedded")
    for name in ("words", "pictures"):
        stage = GlueStage(**recipe[name], max_minutes=recipe["max_minutes"])
        assert 0 < stage.learning_rate < 0.01
        assert stage.batch >= 1


def test_a_file_is_read_as_it_stands(file):
    assert read_recipe(file) == yaml.safe_load(RECIPE)


def test_settings_are_changed_and_nothing_else(file):
    changed = read_recipe(
        file, ["words.steps=3", "seed=7", "out=a=b", "tracker=false", "max_minutes=2", "a.a=9"]
    )
    assert changed == {
        "out": "a=b",
        "seed": 7,
        "tracker": False,
        "words": {"steps": 3, "learning_rate": 0.0006},
        "a": {"a": 9},
        "max_minutes": 2,
    }
    assert read_recipe(file)["words"]["steps"] == 700


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("2", 2.0), ("0.5", 0.5), ("1.0e-3", 1e-3)])
def test_a_float_may_be_written_in_any_way(file, text, value):
    rate = read_recipe(file, [f"words.learning_rate={text}"])["words"]["learning_rate"]
    assert rate == value
    assert isinstance(rate, float)
    assert math.isinf(read_recipe(file, ["max_minutes=.inf"])["max_minutes"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("words.step=3", "no setting 'words.step'; did you mean 'words.steps'"),
        ("sed=3", "did you mean 'seed'"),
        ("words.steps.more=3", "no setting 'words.steps.more'; did you mean 'words.steps'"),
        ("zzzzzz=3", "known: out, seed, tracker, words.steps, words.learning_rate, a.a, max_minutes"),
        ("seed", "expected key=value, got 'seed'"),
        ("seed=many", "seed is a int such as 0, got 'many'"),
        ("seed=", "seed is a int such as 0, got None"),
        ("seed=true", "seed is a int such as 0, got True"),
        ("words.steps=0.5", "words.steps is a int such as 700, got 0.5"),
        ("words.learning_rate=fast", "words.learning_rate is a float such as 0.0006, got 'fast'"),
        ("words.learning_rate=true", "words.learning_rate is a float"),
        ("tracker=1", "tracker is a bool such as True, got 1"),
        ("out=3", "out is a str such as 'runs/here', got 3"),
        ("words={}", "words is a section; set one of words.steps, words.learning_rate"),
        ("out=[", "out=.* is not YAML"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(file, setting, message):
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(file, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ["train/embeded", "missing.yaml", ""])
def test_an_unknown_recipe_names_those_there_are(config):
    with pytest.raises(InputError, match=r"expected a YAML file or one of .*train/embedded"):
        read_recipe(config)


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "is not YAML"), ("", "is no recipe"), ("- a", "is no recipe")]
)
def test_a_file_that_is_no_recipe_is_told(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_recipe(str(path))
