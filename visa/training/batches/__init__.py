"""From data sets to micro-batches of the published systems.

    reader = open_reader(DataSettings(root="/data"), system="visa", tokenizer=tokenizer, clip_size=224,
                         sam_size=1024, rank=0, world_size=1, batch_size=1, seed=0)
    batch = next(reader)

`dataset.mixture` draws samples, `words` puts them into the systems' words, `pictures` prepares their frames,
`examples` joins the two, `workers` does so in other processes, and `reader` hands the batches out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visa.training.batches.settings import DataSettings

if TYPE_CHECKING:
    from visa.training.batches.reader import MixtureReader

__all__ = ["DataSettings", "open_reader"]


def open_reader(
    settings: DataSettings,
    *,
    system: str,
    tokenizer: Any,
    clip_size: int,
    sam_size: int,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int = 1,
    seed: int = 0,
) -> MixtureReader:
    """The reader of one rank's micro-batches.

    Args:
        settings: what is read, and by how many processes.
        system: "visa" or "videolisa".
        tokenizer: from transformers, with [SEG] in it.
        clip_size, sam_size: sides of the two encoders' inputs, in pixels.
        rank, world_size: which process this is, and how many there are.
        batch_size: videos of a micro-batch.
        seed: of all that is drawn.

    Raises:
        InputError: no such mixture, or data sets are missing or not as their layout says; all are named.
    """
    from visa.training.batches.opening import open_mixture_reader

    return open_mixture_reader(
        settings,
        system=system,
        tokenizer=tokenizer,
        clip_size=clip_size,
        sam_size=sam_size,
        rank=rank,
        world_size=world_size,
        batch_size=batch_size,
        seed=seed,
    )
