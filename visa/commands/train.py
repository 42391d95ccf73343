"""Train from a recipe: what `python train_ds.py` does.

python train_ds.py --config train/embedded [key=value ...]
"""

import argparse
import sys
from collections.abc import Sequence

from visa.commands.output import complain
from visa.errors import DownloadError, InputError

DONE, FAILED, BAD_USAGE = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """The command line, frozen: everything else is a recipe's setting."""
    parser = argparse.ArgumentParser(prog="train_ds.py", description="Train a system from a recipe.")
    parser.add_argument("--config", required=True, metavar="PRESET_OR_FILE", help="such as train/embedded")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="change a setting of the recipe")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed, 2 bad usage."""
    options = build_parser().parse_args(arguments)
    try:
        from visa.training.recipe import read_recipe

        recipe = read_recipe(options.config, options.settings)
        from visa.training.embedded import train_embedded

        print(f"wrote {train_embedded(recipe)}")
    except InputError as error:
        complain(error)
        return BAD_USAGE
    except (DownloadError, OSError) as error:
        complain(error)
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
