"""YAML into dataclasses: every key is known, every value of its type, and mistakes are told by name."""

import dataclasses
import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from visa.errors import InputError

Built = TypeVar("Built")


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, making sections on the way; whether it exists is `build_settings`' question."""
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"{key}: {section} is no section but {tree!r}")
    if isinstance(tree.get(last), dict) and not isinstance(value, dict):
        raise InputError(f"{key} is a section; set one of {', '.join(f'{key}.{k}' for k in tree[last])}")
    tree[last] = value


def build_settings(kind: type[Built], given: Mapping[str, Any], prefix: str = "") -> Built:
    """A dataclass, filled from nested mappings.

    Args:
        prefix: of its keys in messages, such as ``data.``.

    Raises:
        InputError: an unknown key (the nearest known one is named), a missing one, or another type.
    """
    return _build(kind, given, prefix, list(_names(kind, prefix)))


def _names(kind: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings and sections."""
    hints = get_type_hints(kind)
    for one in dataclasses.fields(kind):
        yield f"{prefix}{one.name}"
        if dataclasses.is_dataclass(hints[one.name]):
            yield from _names(hints[one.name], f"{prefix}{one.name}.")


def _build(kind: type, given: Any, prefix: str, known: list[str]) -> Any:
    if not isinstance(given, Mapping):
        raise InputError(f"{prefix.rstrip('.') or 'a recipe'} is a section, got {given!r}")
    hints = get_type_hints(kind)
    fields = {one.name: one for one in dataclasses.fields(kind)}
    for name in given:
        if name not in fields:
            raise InputError(unknown(f"{prefix}{name}", known))
    values = {}
    for name, one in fields.items():
        if name in given:
            values[name] = _value(hints[name], given[name], f"{prefix}{name}", known)
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise InputError(f"the recipe lacks {prefix}{name}")
    return kind(**values)


def unknown(name: str, known: list[str]) -> str:
    """The message about a key that does not exist."""
    by_last = {key.rpartition(".")[2]: key for key in known}
    last = difflib.get_close_matches(name.rpartition(".")[2], by_last, n=1, cutoff=0.75)
    near = difflib.get_close_matches(name, known, n=1) or [by_last[key] for key in last]
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"the recipe has no setting {name!r}; {hint}"


def _value(hint: Any, value: Any, name: str, known: list[str]) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{name}.", known)
    if not _fits(hint, value := _as_number(hint, value)):
        raise InputError(f"{name} must be {_told(hint)}, got {value!r}")
    return tuple(value) if get_origin(hint) is tuple else value


def _as_number(hint: Any, value: Any) -> Any:
    """Whole numbers are floats too, and so is 1e-4, which YAML takes for a word."""
    if get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        return [_as_number(get_args(hint)[0], one) for one in value]
    if hint is not float or isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return any(_fits(one, value) for one in arguments)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(arguments[0], one) for one in value)
        return len(value) == len(arguments) and all(map(_fits, arguments, value))
    if origin is dict or hint is dict:
        return isinstance(value, Mapping)
    return type(value) is hint


def _told(hint: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if one is type(None) else _told(one) for one in arguments)
    if origin is tuple:
        return f"a list such as [{', '.join(_told(one) for one in arguments if one is not Ellipsis)}]"
    names = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    return names.get(hint, "a section")
