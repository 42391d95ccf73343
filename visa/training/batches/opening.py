"""Opens what a training run reads."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from dataset.mixture import Mixture
from dataset.recipe import read_recipe
from visa.errors import InputError
from visa.training.batches.examples import ExampleMaker
from visa.training.batches.reader import MixtureReader
from visa.training.batches.settings import DataSettings
from visa.training.batches.workers import MicroBatches


def open_mixture_reader(
    settings: DataSettings,
    *,
    system: str,
    tokenizer: Any,
    clip_size: int,
    sam_size: int,
    rank: int,
    world_size: int,
    batch_size: int,
    seed: int,
) -> MixtureReader:
    """See `visa.training.batches.open_reader`."""
    mixture = open_mixture(settings, system, seed, told=rank == 0)
    maker = ExampleMaker(
        system,
        tokenizer,
        clip_size=clip_size,
        sam_size=sam_size,
        num_sparse=mixture.recipe.frames.most,
        num_dense=mixture.recipe.frames.targets,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    read = (mixture.fingerprint, system, clip_size, sam_size, maker.max_tokens)
    return MixtureReader(
        MicroBatches(mixture, maker, batch_size),
        fingerprint=hashlib.sha256(repr(read).encode()).hexdigest()[:32],
        rank=rank,
        world_size=world_size,
        workers=settings.workers,
        prefetch=settings.prefetch,
        broken_share=settings.broken_share,
    )


def open_mixture(settings: DataSettings, system: str, seed: int, *, told: bool) -> Mixture:
    """The mixture that the settings, or ``system``, name, ready for workers.

    Args:
        told: say on stderr which data sets are left out.

    Raises:
        InputError: no such mixture, or data sets are missing or not as their layout says; all are named.
    """
    mixture = _opened(settings, system, seed)
    if settings.workers:
        mixture.load_masks()
    if told:
        for line in mixture.missing:
            print(f"visa: trained without {line}", file=sys.stderr)
    return mixture


def _opened(settings: DataSettings, system: str, seed: int) -> Mixture:
    roots = {name: Path(root) for name, root in settings.roots.items()} or Path(settings.root)
    try:
        return Mixture(
            read_recipe(settings.mixture or system),
            roots,
            seed=seed,
            together=settings.together,
            skip_missing=settings.skip_missing,
        )
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from error
