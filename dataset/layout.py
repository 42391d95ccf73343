"""Where the parts of a data set lie, which people unpack in more than one way."""

from pathlib import Path


def place(root: Path, *candidates: str) -> Path:
    """The first of several places below a folder that is there; the first of all if none is.

    Args:
        root: The data set's folder, or the folder of all data sets that LISA, VISA and VideoLISA share.
        candidates: Paths below it, the usual one first; "" is the folder itself.
    """
    paths = [root / candidate for candidate in candidates]
    return next((path for path in paths if path.exists()), paths[0])
