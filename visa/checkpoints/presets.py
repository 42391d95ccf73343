"""A preset of a published system, and the model that it means."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from visa.checkpoints.configuration import find_system, read_json, system_of_names
from visa.checkpoints.loading import Checkpoint, Loaded, load_published, open_checkpoint
from visa.checkpoints.location import locate
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.published_names import name_published
from visa.checkpoints.tensor_files import TensorFiles
from visa.errors import InputError

# For each system, presets by the language model's width; the first is for all other widths.
BY_WIDTH = {"visa": {4096: "visa-7b", 5120: "visa-13b"}, "videolisa": {3072: "videolisa-3.8b"}}


def is_published(preset: Mapping[str, Any]) -> bool:
    """Whether a preset describes a published system."""
    return "checkpoint" in preset


def preset_of(where: str | Path) -> str:
    """The name of the preset for a checkpoint that brings none: a folder, a file, or a hub repository.

    Raises:
        InputError: there is no checkpoint, or it is of no system that we know. DownloadError.
    """
    path = locate(where)
    config = (path if path.is_dir() else path.parent) / "config.json"
    if config.is_file():
        settings = read_json(config)
        system, width = find_system(settings, path), settings.get("hidden_size")
    else:
        shapes = TensorFiles(path).shapes
        system, width = system_of_names(name_published(shapes), shapes, path)
    presets = BY_WIDTH[system]
    return presets.get(width, next(iter(presets.values())))


def options_of(preset: Mapping[str, Any], device: str | torch.device, **overrides: Any) -> LoadOptions:
    """A preset's ``load`` section, with some of it replaced.

    Args:
        overrides: fields of LoadOptions.

    Raises:
        InputError: an unknown option, or one that cannot be had here.
    """
    given = {**(preset.get("load") or {}), **overrides, "device": device}
    known = {field.name for field in fields(LoadOptions)}
    if unknown := sorted(given.keys() - known):
        raise InputError(f"there is no load option {', '.join(unknown)}; expected {', '.join(sorted(known))}")
    return LoadOptions(**given)


def open_preset(
    name: str,
    preset: Mapping[str, Any],
    where: str | Path | None = None,
    *,
    folder: Path | None = None,
    tower: str | Path | None = None,
) -> Checkpoint:
    """Open the checkpoint of a preset, or another one of its system.

    Args:
        name: of the preset, for the messages. where: in place of the preset's ``checkpoint``.
        folder: of the preset's file, from which a relative ``checkpoint`` counts.
        tower: in place of the one that config.json names.

    Raises:
        InputError: no checkpoint is given, or it is of another system.
    """
    where = where or preset.get("checkpoint")
    if where is None:
        raise InputError(
            f"{name} has no public download: get the weights from its authors and give their folder in place "
            f"of {name!r}"
        )
    checkpoint = open_checkpoint(locate(where, folder), preset.get("config"), tower)
    expected = preset["reason"]["system"]
    if checkpoint.config.system != expected:
        raise InputError(f"{where} is a {checkpoint.config.system}; the preset {name} is for {expected}")
    return checkpoint


def load_preset(
    name: str,
    preset: Mapping[str, Any],
    *,
    where: str | Path | None = None,
    folder: Path | None = None,
    device: str | torch.device = "cpu",
    **overrides: Any,
) -> Loaded:
    """Load the model of a published system's preset.

    Args:
        name: of the preset. preset: its fields.
        where: a folder, file or repository in place of the preset's ``checkpoint``.
        folder: of the preset's file, from which a relative ``checkpoint`` counts.
        device: where to run. overrides: fields of LoadOptions in place of the preset's ``load``.

    Raises:
        InputError: see `open_checkpoint` and `load_published`. DownloadError.
    """
    options = options_of(preset, device, **overrides)
    reason = preset["reason"]
    return load_published(
        open_preset(name, preset, where, folder=folder, tower=options.tower),
        options,
        name=name,
        seg_state=reason["seg_state"],
        base=preset.get("base"),
        noise=reason.get("merging_noise", 0.0),
    )
