"""Pickled annotation files, read without running anything that is written in them.

A pickle is a program; unpickling a stranger's file lets it call what it likes. Annotations (`refs(unc).p`,
`mask_dict.pkl`) need plain values only, so whatever names a class or function is refused.
"""

import io
import pickle
from pathlib import Path
from typing import Any

from dataset.errors import DatasetError

# How protocols 0 to 2 write bytes: text, and the request to encode it.
_ENCODE = ("_codecs", "encode")


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written in {encoding!r}")
    return text.encode("latin1")


class _PlainValues(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _ENCODE:
            return _latin1_bytes
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and plain values need none")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to an object {pid!r} outside the file")


def load_pickle(path: Path) -> Any:
    """The plain values in a pickle: numbers, texts, bytes, and lists, tuples, dictionaries of them.

    Texts that Python 2 wrote are read as UTF-8, or as Latin-1 where they are none.

    Args:
        path: The file.

    Raises:
        DatasetError: No such file, no whole pickle, or it holds more than plain values.
    """
    if not path.is_file():
        raise DatasetError(f"expected a file {path}, found none")
    content = path.read_bytes()
    for encoding in ("utf-8", "latin-1"):
        try:
            return _PlainValues(io.BytesIO(content), encoding=encoding).load()
        except UnicodeDecodeError as error:
            problem: Exception = error
        except (
            pickle.UnpicklingError,
            EOFError,
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            AttributeError,
            OverflowError,
            MemoryError,
        ) as error:
            problem = error
            break
    raise DatasetError(f"{path}: not a whole pickle of plain values ({problem})") from problem
