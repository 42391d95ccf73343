"""Vectors of our own in place of some of the words that a language model of transformers reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def overwritten(language_model: nn.Module, length: int, positions: Tensor, vectors: Tensor) -> Iterator[None]:
    """While the block runs, passes over whole sequences read ``vectors`` at ``positions``.

    Gradients reach the vectors. Passes over fewer tokens, one more word of an answer say, are left alone.

    Args:
        language_model: the decoder stack; the model around it gives it ``inputs_embeds``.
        length: L, of the sequences meant.
        positions: int64 [n] in [0, L). vectors: float [n, D].
    """

    def put_in(_: nn.Module, arguments: tuple, named: dict) -> tuple[tuple, dict]:
        embeds = named["inputs_embeds"]
        if embeds.shape[1] == length:
            # The words' own dtype, whatever the vectors are held in; in a new tensor, for the gradients.
            embeds = embeds.index_copy(1, positions.to(embeds.device), vectors.to(embeds)[None])
        return arguments, {**named, "inputs_embeds": embeds}

    hook = language_model.register_forward_pre_hook(put_in, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
