"""From the section ``data`` of a recipe to a reader of batches."""

from collections.abc import Mapping
from typing import Any

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
