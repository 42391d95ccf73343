"""Train from a recipe: what `python train_ds.py` and `deepspeed train_ds.py` do.

python train_ds.py --config train/smoke [key=value ...]
deepspeed [--hostfile HOSTS] train_ds.py --config train/visa-7b [key=value ...]
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

from visa.commands.output import DONE, FAILED, STOPPED, check_output, complain, ended_by
from visa.errors import DownloadError, InputError


def build_parser() -> argparse.ArgumentParser:
    """The command line, frozen: everything else is a recipe's setting."""
    parser = argparse.ArgumentParser(prog="train_ds.py", description="Train a system from a recipe.")
    parser.add_argument("--config", required=True, metavar="PRESET_OR_FILE", help="such as train/embedded")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="change a setting of the recipe")
    # The deepspeed launcher gives it to every process; the environment says the same.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed, 2 bad usage, 143 stopped by SIGTERM after saving."""
    options = build_parser().parse_intermixed_args(arguments)
    try:
        return _train(options.config, options.settings)
    except (InputError, DownloadError, OSError) as error:
        return ended_by(error)


def _train(config: str, overrides: Sequence[str]) -> int:
    """A published system's recipe says what model it starts from, one of soft prompts which backbone it
    steers; the other is the embedded system's."""
    from visa.training.engine.settings import is_engine_recipe, read_settings
    from visa.training.recipe import open_recipe
    from visa.training.steering.settings import is_steering_recipe, read_steering

    recipe = open_recipe(config)
    if is_engine_recipe(recipe):
        settings: Any = read_settings(config, overrides)
        from visa.training.engine.run import train
    elif is_steering_recipe(recipe):
        settings = read_steering(config, overrides)
        from visa.training.steering.run import train_steering as train
    else:
        from visa.training.embedded_settings import read_embedded

        settings = read_embedded(config, overrides)
        from visa.training.embedded import train_embedded as train
    from visa.training.batches.faults import DataError
    from visa.training.engine.faults import TrainingError

    check_output(settings.out)
    # DeepSpeed tells every step of its own starting.
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    try:
        outcome = train(settings)
    except (TrainingError, DataError) as error:
        complain(error)
        return FAILED
    if not outcome.finished:
        return STOPPED
    if outcome.folder is not None:
        print(f"wrote {outcome.folder}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
