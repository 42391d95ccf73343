"""The weight files of one checkpoint as one table of tensors, each read when it is asked for.

A single file or numbered shards, with or without an index; safetensors, or what `torch.save` writes, which
is opened without running any code of it. Reading maps the files into memory, so that a checkpoint larger than
the memory can be walked through.
"""

import json
import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from visa.checkpoints.location import PICKLED
from visa.errors import InputError

Shape = tuple[int, ...]

# Best first, as transformers names them; DeepSpeed's zero_to_fp32 uses the same names.
STEMS = (("model", ".safetensors"), ("pytorch_model", ".bin"))
SHARD = re.compile(r"-(\d+)-of-(\d+)$")


class TensorFiles:
    """All tensors under a file or folder.

    Args:
        where: a weight file, or a folder that holds one or its shards.

    Attributes:
        where: as given. shapes: of every tensor, by its stored name, in the order of the files.

    Raises:
        InputError: no weights there, a shard missing, a file broken off or of another kind.
    """

    def __init__(self, where: Path):
        self.where = where
        self.shapes: dict[str, Shape] = {}
        self._files: dict[str, Path] = {}
        self._open: dict[Path, object] = {}
        for path in weight_files(where):
            for name, shape in self._read_shapes(path).items():
                self.shapes[name] = shape
                self._files[name] = path
        if not self.shapes:
            raise InputError(f"{where} holds no tensors")

    def read(self, name: str) -> Tensor:
        """One tensor in its stored dtype, on the CPU; it may be a view of the file: copy before writing."""
        path = self._files[name]
        if path.suffix == ".safetensors":
            try:
                return self._open[path].get_tensor(name)
            except SafetensorError as error:
                raise _broken(path, error) from error
        return self._open[path][name].detach()

    def _read_shapes(self, path: Path) -> dict[str, Shape]:
        if path.suffix == ".safetensors":
            try:
                opened = safe_open(path, framework="pt", device="cpu")
                self._open[path] = opened
                return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise _broken(path, error) from error
        tensors = _load_pickled(path)
        self._open[path] = tensors
        return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def weight_files(where: Path) -> list[Path]:
    """The files that together make a checkpoint: one file, or all of its shards.

    Raises:
        InputError: there are none, or some of them are missing.
    """
    if where.is_file():
        if where.suffix not in (".safetensors", *PICKLED):
            raise InputError(
                f"{where} is no weight file; expected .safetensors, {', '.join(PICKLED)} or a folder"
            )
        return [where]
    for stem, suffix in STEMS:
        index, single = where / f"{stem}{suffix}.index.json", where / f"{stem}{suffix}"
        if index.is_file():
            return _indexed(index)
        if single.is_dir():
            # Newer DeepSpeed makes a folder of the name that used to be the file's.
            return weight_files(single)
        if single.is_file():
            return [single]
        if shards := sorted(where.glob(f"{stem}-*-of-*{suffix}")):
            return _all_of(shards)
    if (where / "latest").is_file() or any(where.glob("global_step*")):
        raise InputError(
            f"{where} is a DeepSpeed training state; join it first: "
            f"python {where}/zero_to_fp32.py {where} OUTPUT"
        )
    names = ", ".join(f"{stem}{suffix}" for stem, suffix in STEMS)
    raise InputError(f"{where} holds no weights; expected {names}, or their shards")


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is no index of shards (weight_map: tensor to file): {error}") from error
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise InputError(f"{index.parent} lacks {', '.join(missing)} of {len(names)} shards; fetch it again")
    return [index.parent / name for name in names]


def _all_of(shards: list[Path]) -> list[Path]:
    numbers = {int(SHARD.search(path.stem)[1]) for path in shards if SHARD.search(path.stem)}
    total = max(int(SHARD.search(path.stem)[2]) for path in shards if SHARD.search(path.stem))
    # Counted from 1 by transformers and from 0 by nobody we know of.
    if missing := sorted(set(range(1, total + 1)) - numbers):
        raise InputError(f"{shards[0].parent} lacks shards {missing} of {total}; fetch it again")
    return shards


def _broken(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path} is broken off or damaged, fetch it again ({reason})")


def _load_pickled(path: Path) -> dict[str, Tensor]:
    """A state dict saved by torch, its tensors mapped from the file where its format allows that."""
    is_zip = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if file.read(2) == b"PK" and not is_zip:
            raise InputError(
                f"{path} is broken off or damaged, fetch it again (its table of contents is missing)"
            )
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        reason = str(error).replace("\n", " ")[:160]
        raise InputError(
            f"{path} is damaged, or holds objects that only running its code could restore, which is "
            f"refused; save its tensors alone ({reason})"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise _broken(path, error) from error
    strange = None if isinstance(tensors, dict) else type(tensors).__name__
    if strange is None:
        strange = next(
            (f"{name}: {type(v).__name__}" for name, v in tensors.items() if not isinstance(v, Tensor)), None
        )
    if strange:
        raise InputError(f"{path} holds {strange} where a flat table of tensors by name was expected")
    return tensors
