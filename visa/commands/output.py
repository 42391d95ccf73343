"""The folder a command writes to, and the one-line messages it ends with."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from visa.errors import InputError

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes of all commands
STOPPED = 128 + 15  # by SIGTERM, after saving


def prepare_output(folder: str | Path) -> Path:
    """Make the output folder and try whether it can be written, before hours of work are put into it.

    Raises:
        InputError: it has no name, is a file, cannot be made or cannot be written.
    """
    folder = _named(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"the output {folder} is a file; give a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write to the output folder {folder}: {reason(error)}") from error
    return folder


def check_output(folder: str | Path) -> None:
    """Refuse what cannot become an output folder, and make nothing yet: other things may still be refused.

    Raises:
        InputError: as `prepare_output`.
    """
    folder = _named(folder).absolute()
    try:
        # A link that leads nowhere is in the way, too.
        there = next(place for place in (folder, *folder.parents) if place.is_symlink() or place.exists())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write to the output folder {folder}: {reason(error)}") from error
    prepare_output(there)


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Write JSON so that the file is always whole: the old one until the new one is complete.

    Without an indent it takes a tenth of the time, which counts where a file is written again and again.
    """
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
    partial.replace(path)


def complain(message: object) -> None:
    """One line on stderr, whatever the message holds."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)


def ended_by(error: BaseException) -> int:
    """Say in one line what ended a command, and give the exit code that fits.

    Args:
        error: bad input (a ValueError), the machine's refusal (an OSError), a download that failed, or an
            interrupt.
    """
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    named = isinstance(error, OSError) and error.filename and error.strerror
    complain(f"{error.filename}: {error.strerror}" if named else error)
    return BAD_USAGE if isinstance(error, ValueError) else FAILED


def warn(message: object) -> None:
    """One line on stderr about something that can be lived with."""
    print("warning: " + " ".join(str(message).split()), file=sys.stderr)


def speak_any_language() -> None:
    """Keep a terminal without Unicode from ending a command: what it cannot show becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def reason(error: BaseException) -> str:
    """Why, in the system's own words, without number and path."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _named(folder: str | Path) -> Path:
    if not str(folder):  # as from a shell's empty variable: `Path` would take the working folder
        raise InputError("the output folder's name is empty; give a folder")
    return Path(folder)
