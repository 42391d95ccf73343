"""A training run's settings: a preset or YAML file, changed by ``key=value`` on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from visa.errors import InputError
from visa.training.engine.fields import put

PRESETS = Path(__file__).parent.parent / "presets"


def changed_recipe(config: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe with changes; whether its keys and values are right is asked when settings are built from it.

    Args:
        config: a preset such as ``train/embedded``, or a YAML file.
        overrides: ``key=value``; a dot reaches into a section (``pictures.steps=100``); values are YAML.

    Raises:
        InputError: there is no such preset or file, or it is no recipe; or a change is not of this form.
    """
    recipe = open_recipe(config)
    for override in overrides:
        put(recipe, *parse_setting(override))
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
