"""What readers raise when files on disk are not as their format says."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set on disk is missing something or broken.

    Attributes:
        sort: The sort of fault in a few words ("missing file", "broken record", "broken mask", ...), under
            which `python -m dataset check` counts it.

    Args:
        message: One line that names the file and, inside it, the key.
        sort: See above.
    """

    def __init__(self, message: str, sort: str = "broken record") -> None:
        super().__init__(message)
        self.sort = sort

    def __reduce__(self):
        return type(self), (str(self), self.sort)
