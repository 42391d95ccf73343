"""A training run's settings: a preset or YAML file, changed by ``key=value`` on the command line."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from visa.errors import InputError

PRESETS = Path(__file__).parent.parent / "presets"


def read_recipe(config: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of a run.

    Args:
        config: a preset such as ``train/embedded``, or a YAML file.
        overrides: ``key=value``; a dot reaches into a section (``pictures.steps=100``); values are YAML.

    Raises:
        InputError: no such preset, an unknown key (the nearest one is named), or a value of another type.
    """
    recipe = open_recipe(config)
    for override in overrides:
        _set(recipe, *parse_setting(override))
    return recipe


def open_recipe(config: str) -> dict[str, Any]:
    """A recipe as it is written.

    Raises:
        InputError: there is no such preset or file, or it is no recipe.
    """
    path = Path(config) if config.endswith(".yaml") else PRESETS / f"{config}.yaml"
    if not path.is_file():
        known = sorted(f"train/{preset.stem}" for preset in (PRESETS / "train").glob("*.yaml"))
        raise InputError(f"no recipe is called {config!r}: expected a YAML file or one of {', '.join(known)}")
    recipe = _parse(path.read_text(encoding="utf-8"), config)
    if not isinstance(recipe, dict):
        raise InputError(f"{config} is no recipe: expected lines such as 'seed: 0'")
    return recipe


def parse_setting(override: str) -> tuple[str, Any]:
    """``key=value`` as its key and its value, which is YAML.

    Raises:
        InputError: it is not of this form.
    """
    key, equals, value = override.partition("=")
    if not equals:
        raise InputError(f"expected key=value, got {override!r}")
    return key, _parse(value, override)


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not YAML: {getattr(error, 'problem', None) or error}") from error


def _set(recipe: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    place: Any = recipe
    for name in sections:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        names = list(_keys(recipe))
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
        raise InputError(f"the recipe has no setting {key!r}; {hint}")
    old = place[last]
    if isinstance(old, dict):
        raise InputError(f"{key} is a section; set one of {', '.join(_keys(old, f'{key}.'))}")
    if isinstance(old, float):
        value = _as_float(value)
    if type(old) is not type(value):
        raise InputError(f"{key} is a {type(old).__name__} such as {old!r}, got {value!r}")
    place[last] = value


def _as_float(value: Any) -> Any:
    """Whole numbers are floats too, and so is 1e-4, which YAML takes for a word."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _keys(recipe: dict[str, Any], prefix: str = ""):
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
