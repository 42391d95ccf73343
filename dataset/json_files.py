"""JSON files read with care: faults name file and key, and no name in them leads out of its folder."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from dataset.errors import DatasetError

MAX_DIGITS = 20
MAX_NAME_BYTES = 255  # of one part of a path, on all usual file systems
MAX_SIDE = 1 << 16  # no picture is larger: beyond, the number is a slip that would fill the memory


def read_json(path: Path) -> Any:
    """What a JSON file holds. UTF-8, with or without a mark, or else Windows' and Latin-1's western letters.

    Raises:
        DatasetError: No such file, or it is cut off or no JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not a whole JSON file ({error})", "broken JSON") from error


def read_text(path: Path) -> str:
    """A text file: UTF-8 (a byte order mark is dropped), else cp1252, else Latin-1, which reads anything.

    Raises:
        DatasetError: It is not there or cannot be read.
    """
    content = read_bytes(path)
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        DatasetError: It is not there or cannot be read.
    """
    if not path.is_file():
        raise DatasetError(f"expected a file {path}, found none", "missing file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})", "missing file") from error


def dictionary(value: Any, where: str) -> dict[str, Any]:
    """The value itself.

    Args:
        value: What stands there.
        where: The file and key, for the message.

    Raises:
        DatasetError: It is no JSON object.
    """
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: expected an object with named fields, got {shortened(value)}")
    return value


def listing(value: Any, where: str) -> list[Any]:
    """The value itself.

    Args:
        value: What stands there.
        where: The file and key, for the message.

    Raises:
        DatasetError: It is no JSON array.
    """
    if not isinstance(value, list):
        raise DatasetError(f"{where}: expected a list, got {shortened(value)}")
    return value


def field(record: Any, key: str, where: str) -> Any:
    """What stands under a key.

    Raises:
        DatasetError: The record is no JSON object, or lacks the key.
    """
    record = dictionary(record, where)
    if key not in record:
        raise DatasetError(f"{where}: expected a field {key!r}, found none")
    return record[key]


def text_field(record: Any, key: str, where: str) -> str:
    """The text under a key.

    Raises:
        DatasetError: It is missing or no text.
    """
    value = field(record, key, where)
    if not isinstance(value, str):
        raise DatasetError(f"{where}: expected {key}, a text, got {shortened(value)}")
    return value


def whole_number(value: Any) -> int | None:
    """A number from 0 on, which may be written as text; None if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < MAX_DIGITS:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def record_key(record: Any, key: str, where: str) -> int | str:
    """What stands under a key by which records name each other: a whole number or a text.

    Raises:
        DatasetError: It is missing, or neither.
    """
    value = field(record, key, where)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DatasetError(f"{where}: expected {key}, a number or a text, got {shortened(value)}")
    return value


def picture_size(record: dict[str, Any], where: str) -> tuple[int, int]:
    """The (H, W) in pixels under "height" and "width".

    Raises:
        DatasetError: They are missing, or no sides of a picture.
    """
    height, width = record.get("height"), record.get("width")
    for side in (height, width):
        if isinstance(side, bool) or not isinstance(side, int) or not 0 < side <= MAX_SIDE:
            raise DatasetError(
                f"{where}: expected height and width in pixels, got {shortened([height, width])}"
            )
    return height, width


def safe_name(name: Any, where: str, *, nested: bool = True) -> str:
    """A name that is a path below its folder, with "/" between parts.

    Args:
        name: What stands there.
        where: The file and key, for the message.
        nested: Whether it may have several parts.

    Raises:
        DatasetError: It is no text, or leads out of its folder, or anywhere on some system.
    """
    if not isinstance(name, str):
        raise DatasetError(f"{where}: expected a name, got {shortened(name)}")
    parts = name.split("/")
    unsafe = (
        any(part in ("", ".", "..") for part in parts)
        or any(mark in name for mark in ("\\", ":"))
        or PurePosixPath(name).is_absolute()
        or (len(parts) > 1 and not nested)
    )
    if unsafe:
        raise DatasetError(f"{where}: the name {name!r} leads out of its folder", "unsafe name")
    # neither can be a file, and a line break would tear messages apart
    if not _is_encodable(name) or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise DatasetError(f"{where}: no file can be named {shortened(name)}", "unsafe name")
    return name


def _is_encodable(name: str) -> bool:
    return not any(ord(letter) < 32 or 0xD800 <= ord(letter) <= 0xDFFF for letter in name)


def plain_names(record: dict[str, Any], key: str, where: str) -> list[str]:
    """The file names under a key, in the file's order.

    Raises:
        DatasetError: They are no list of names without folders, or one occurs twice.
    """
    names = record.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{where}: expected {key}, a list of names, got {shortened(names)}")
    for name in names:
        safe_name(name, f"{where}, {key}", nested=False)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{where}: {key} names {twice!r} twice")
    return names


def shortened(value: Any) -> str:
    """A value for a message, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def videos_of(path: Path) -> dict[str, Any]:
    """The records of a meta file ``{"videos": {name: record}}``, not looked into yet.

    Raises:
        DatasetError: The file is missing or not of this layout.
    """
    return dictionary(field(read_json(path), "videos", f"{path}"), f"{path}, 'videos'")
