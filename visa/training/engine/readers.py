"""From the section ``data`` of a recipe to a reader of batches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visa.errors import InputError
from visa.training.engine.batch import BatchReader
from visa.training.engine.fields import build_settings


def data_settings(data: Mapping[str, Any]) -> Any:
    """The section, checked: what its source can be told, or what the mixture of data sets can.

    Raises:
        InputError: an unknown key, or a value of another type.
    """
    if data.get("source") == "moving_shapes":
        from visa.training.engine.moving_shapes import MovingShapesSettings

        return build_settings(MovingShapesSettings, data, "data.")
    from visa.training.batches import DataSettings

    return build_settings(DataSettings, data, "data.")


def check_folders(data: Mapping[str, Any]) -> None:
    """That the folders of data are there: told before anything large is fetched or loaded.

    Raises:
        InputError: one is not, or the section is not as it should be.
    """
    settings = data_settings(data)
    folders = {"data.root": getattr(settings, "root", "")}
    folders |= {f"data.roots.{name}": folder for name, folder in getattr(settings, "roots", {}).items()}
    for key, folder in folders.items():
        if folder and not Path(folder).expanduser().is_dir():
            raise InputError(f"{key}: there is no folder {folder}")


def open_data(data: Mapping[str, Any], **where: Any) -> BatchReader:
    """Open what the section describes; ``where`` as for `visa.training.batches.open_reader`.

    Raises:
        InputError: the section, or the data, is not as it should be.
    """
    settings = data_settings(data)
    if data.get("source") == "moving_shapes":
        from visa.training.engine.moving_shapes import MovingShapes

        return MovingShapes(settings, **where)
    from visa.training.batches import open_reader

    return open_reader(settings, **where)
