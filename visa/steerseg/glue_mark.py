"""Which glue the embedded model has: soft prompts are trained on one, and steer another one only roughly.

    python -m visa.steerseg.glue_mark FOLDER [--model embedded]

writes the mark of a model's glue, as it is now, into the prompts of FOLDER, whose vectors stay as they are.
Prompts that train_ds.py makes have it already: this is for those that were trained on this glue earlier.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

from model.steering.soft_prompt import STREAMS, mark_file
from visa.errors import InputError
from visa.preset_files import find_preset
from visa.sampling.answer_cache import mark_of

# What of the glue is SAM's: no soft prompt depends on it.
DRAWS = "mask_decoder."


def glue_mark(model: str | Path) -> str:
    """Twelve letters that tell one glue of the embedded model from another: LoRA, projector and [SEG] head.

    They come from the file, not from the loaded model: there the LoRA is merged and rounded, which two
    machines may do differently.

    Args:
        model: "embedded" or a folder or preset of its kind.

    Raises:
        InputError: there is no such model, or it has no glue that can be read.
    """
    preset_path = find_preset(model)
    try:
        preset = yaml.safe_load(preset_path.read_text(encoding="utf-8"))
        glue = load_file(preset_path.parent / preset["reason"]["glue"])
    except (OSError, SafetensorError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{preset_path} names no glue that can be read: {error}") from error
    return mark_of(glue[name].bfloat16() for name in sorted(glue) if not name.startswith(DRAWS))


def mark_prompts(folder: Path, model: str | Path = "embedded") -> dict[Path, str]:
    """Write the mark of a model's glue into the soft prompts of a folder.

    Returns:
        The mark, by the files that have it now.

    Raises:
        InputError: no such model, or a folder without soft prompts.
    """
    mark = glue_mark(model)
    paths = [path for stream in STREAMS if (path := folder / f"{stream}.safetensors").is_file()]
    if not paths:
        raise InputError(f"{folder} holds no soft prompt: expected frame.safetensors or video.safetensors")
    for path in paths:
        try:
            mark_file(path, mark)
        except ValueError as error:
            raise InputError(str(error)) from error
    return dict.fromkeys(paths, mark)


def main(arguments: list[str] | None = None) -> int:
    """Marks the prompts of a folder; 2 if there are none, or no such model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--model", default="embedded", help="whose glue they were trained on")
    options = parser.parse_args(arguments)
    try:
        marked = mark_prompts(options.folder, options.model)
    except (InputError, OSError) as error:
        print(f"glue_mark.py: {error}", file=sys.stderr)
        return 2
    for path, mark in marked.items():
        print(f"{path}: trained on {mark}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
