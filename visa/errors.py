"""The errors a person can mend: bad input, and a file that could not be fetched."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that says what was expected, what came and what to do. The commands print it
    without a traceback and end with exit code 2 (or 1 where only some of several videos failed).
    """


class DownloadError(RuntimeError):
    """A public file could not be fetched, or what came is not that file.

    The message names the file, its sha256, the sources tried and the path where it may be put by hand.
    """
