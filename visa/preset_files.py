"""What a model's name means: a preset, or a published checkpoint. Found without PyTorch, so at once."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

from visa.checkpoints.location import PICKLED, REPOSITORY
from visa.errors import InputError

PRESETS = Path(__file__).parent / "presets"
PRESET_NAME = "preset.yaml"
# What a command's --model takes, as its help says it.
MODEL_HELP = (
    "a preset's name or file, a folder of weights, a weight file or a repository of the Hugging Face hub "
    "(default: %(default)s)"
)
# One of these makes a folder a published checkpoint's; "latest" and "global_step*" are DeepSpeed's.
CHECKPOINT_FILES = ("config.json", "*.safetensors", "*.bin", "latest", "global_step*")

# Read of either end of a file to see whether it has changed.
PROBE_BYTES = 2**16


def preset_names() -> list[str]:
    """Names that `visa.load` knows."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def find_preset(model: str | Path) -> Path:
    """The preset file meant by a name, a file or a folder that holds ``preset.yaml``.

    Raises:
        InputError: there is no such preset.
    """
    path = Path(model)
    is_folder = path.is_dir() and str(model) != ""
    if is_folder:
        path = path / PRESET_NAME
    if path.suffix == ".yaml" and path.is_file():
        return path
    if (PRESETS / f"{model}.yaml").is_file():
        return PRESETS / f"{model}.yaml"
    if is_folder:
        raise InputError(
            f"the folder {model} holds no model: neither {PRESET_NAME} nor a published checkpoint's files "
            f"({', '.join(CHECKPOINT_FILES[:3])})"
        )
    if REPOSITORY.fullmatch(str(model)) and path.parent.is_dir() and path.suffix != ".yaml":
        raise InputError(
            f"there is no {path.name} in the folder {path.parent}; as a repository of the Hugging Face hub, "
            f"{model} is looked for only where there is no folder {path.parent}"
        )
    near = difflib.get_close_matches(str(model), preset_names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"no model is called {str(model)!r}: expected one of {', '.join(preset_names())}, "
        f"a preset file, or a folder with {PRESET_NAME} or of a published checkpoint{hint}"
    )


def is_checkpoint(model: str | Path) -> bool:
    """Whether this looks like a published checkpoint: its folder, a weight file, or a hub repository."""
    path = Path(model).expanduser()
    if path.is_file():
        return path.suffix in (".safetensors", *PICKLED)
    if path.is_dir():
        return any(any(path.glob(pattern)) for pattern in CHECKPOINT_FILES)
    return REPOSITORY.fullmatch(str(model)) is not None and not path.parent.is_dir()


def check_model(model: str | Path) -> None:
    """Say at once what cannot be a model, before PyTorch and the rest are imported for it.

    Raises:
        InputError: it names no preset and nothing that could be a published checkpoint.
    """
    try:
        find_preset(model)
    except InputError:
        if not is_checkpoint(model):
            raise


def fingerprint(model: str | Path) -> str:
    """What changes when the files of a model do; "" for one that has a name, here or on the hub.

    It goes by names, sizes, beginnings and ends: gigabytes are not read, and a copy is the same model.
    """
    path = Path(model).expanduser()
    files = [path] if path.is_file() else []
    if path.is_dir():
        patterns = (PRESET_NAME, *CHECKPOINT_FILES[:3])
        files = sorted({file for pattern in patterns for file in path.glob(pattern) if file.is_file()})
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as opened:
            digest.update(opened.read(PROBE_BYTES))
            opened.seek(max(0, size - PROBE_BYTES))
            digest.update(opened.read(PROBE_BYTES))
    return digest.hexdigest()[:16] if files else ""
