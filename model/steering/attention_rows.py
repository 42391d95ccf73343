"""The queries and keys of chosen attention layers, caught while a transformers model runs.

Fast attention (sdpa, flash) gives no attention weights. It need not: weights of any row follow from the
queries and keys after rotary embedding, which are small. They pass through transformers' registry of
attention functions; while a recording is going on, a function stands in that registry under the model's own
implementation's name, remembers what it is given for the chosen layers and hands everything on unchanged. The
name is the model's own, not a new one, because masks and flash kernels are chosen by it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface

# What some attention functions do besides softmax(q k / scale), which the rows here do not repeat.
UNSUPPORTED = ("softcap", "s_aux", "position_bias")


@dataclass(frozen=True)
class LayerAttention:
    """What one layer's attention is made of, for one sequence of L tokens.

    query: float [H, L, d] of H heads, after rotary embedding. key: float [G, L, d], G dividing H (head i
    looks at key head i // (H / G)). scale: factor on their products. mask: bool (True may look) or additive
    float [L, L] or [H, L, L], or bool [L] over keys, or None. causal: without a square mask, a token sees
    itself and what is before it. window: without a square mask, a token sees only so many tokens, itself the
    last; None is all.
    """

    query: torch.Tensor
    key: torch.Tensor
    scale: float
    mask: torch.Tensor | None = None
    causal: bool = True
    window: int | None = None

    @property
    def length(self) -> int:
        return self.query.shape[1]

    def probs(self, rows: torch.Tensor, num_keys: int) -> torch.Tensor:
        """Attention of some rows to the first ``num_keys`` tokens.

        Args:
            rows: int64 [n], positions of queries; none may see a token at or behind ``num_keys``.

        Returns:
            Probabilities, float32 (float64 for float64 queries) [H, n, num_keys].
        """
        wide = torch.promote_types(self.query.dtype, torch.float32)
        heads, groups = self.query.shape[0], self.key.shape[0]
        query = self.query[:, rows].to(wide).reshape(groups, heads // groups * len(rows), -1)
        scores = query @ self.key[:, :num_keys].to(wide).transpose(1, 2)
        scores = (scores * self.scale).view(heads, len(rows), num_keys)
        if self.mask is not None and self.mask.ndim > 1:
            mask = self.mask[..., rows, :num_keys]
            if mask.dtype == torch.bool:
                scores = scores.masked_fill(~mask, -torch.inf)
            else:
                scores = scores + mask.to(wide)
        else:
            scores = scores.masked_fill(~self._visible(rows, num_keys), -torch.inf)
        return scores.softmax(-1)

    def _visible(self, rows: torch.Tensor, num_keys: int) -> torch.Tensor:
        """Which keys the rows may see where no square mask says so: bool [n, num_keys]."""
        behind = rows[:, None] - torch.arange(num_keys, device=rows.device)
        visible = torch.ones_like(behind, dtype=torch.bool)
        if self.causal:
            visible &= behind >= 0
        if self.window is not None:
            visible &= behind.abs() < self.window
        if self.mask is not None:
            visible &= self.mask[:num_keys].bool()
        return visible


class AttentionRecord(dict[int, LayerAttention]):
    """Attention of the recorded layers, by layer number."""


_guard = threading.Lock()
_recordings: dict[str, int] = {}
_replaced: dict[str, Callable | None] = {}
_here = threading.local()


@contextmanager
def recorded_attention(decoder: nn.Module, layers: Sequence[int]) -> Iterator[AttentionRecord]:
    """While the block runs, attention of chosen layers is caught; read the record after a forward pass.

    Recording neither changes the model's results nor detaches anything: gradients flow through what was
    caught, with gradient checkpointing (the non-reentrant kind) too.

    Args:
        decoder: the stack of a transformers language model: ``decoder.layers[i].self_attn`` is the attention.
        layers: numbers of the layers wanted.

    Raises:
        ValueError: the decoder has no such layers; in the forward pass: several sequences at once, tokens
            read earlier (a filled cache), or attention of a sort that cannot be repeated here.
    """
    if not layers:
        yield AttentionRecord()
        return
    attentions = [getattr(layer, "self_attn", None) for layer in decoder.layers]
    if not all(0 <= index < len(attentions) and attentions[index] is not None for index in layers):
        raise ValueError(f"attention of layers {list(layers)} is not to be had in {len(attentions)} layers")
    record = AttentionRecord()
    wanted = {id(attentions[index]): (index, record) for index in layers}
    before = getattr(_here, "wanted", {})
    implementation = decoder.config._attn_implementation
    _install(implementation)
    _here.wanted = before | wanted
    try:
        yield record
    finally:
        _here.wanted = before
        _uninstall(implementation)


def _install(implementation: str) -> None:
    """Put the catching function in the registry, once for all recordings of the process."""
    with _guard:
        if not _recordings.get(implementation):
            _replaced[implementation] = AttentionInterface._global_mapping.get(implementation)
            AttentionInterface.register(implementation, _catching(_replaced[implementation]))
        _recordings[implementation] = _recordings.get(implementation, 0) + 1


def _uninstall(implementation: str) -> None:
    with _guard:
        _recordings[implementation] -= 1
        if _recordings[implementation]:
            return
        original = _replaced.pop(implementation)
        if original is None:
            del AttentionInterface._global_mapping[implementation]
        else:
            AttentionInterface.register(implementation, original)


def _catching(original: Callable | None) -> Callable:
    """The function that stands in for ``original``; None is the eager one that each model brings along."""

    def attend(module: nn.Module, query, key, value, attention_mask, *args, **options):
        wanted = getattr(_here, "wanted", {}).get(id(module))
        if wanted is not None:
            index, record = wanted
            record[index] = _caught(module, query, key, attention_mask, options)
        attention = original or sys.modules[type(module).__module__].eager_attention_forward
        return attention(module, query, key, value, attention_mask, *args, **options)

    return attend


def _caught(module: nn.Module, query, key, mask, options: dict) -> LayerAttention:
    """One layer's attention from what its attention function is given: [1, H, L, d] and [1, G, L, d]."""
    if query.shape[0] != 1:
        raise ValueError(f"attention maps are made one sequence at a time, not {query.shape[0]}")
    if query.shape[2] != key.shape[2]:
        raise ValueError(
            "attention maps need the whole sequence in one pass, "
            f"got {query.shape[2]} of {key.shape[2]} tokens"
        )
    if extra := [name for name in UNSUPPORTED if options.get(name) is not None]:
        raise ValueError(f"attention with {' and '.join(extra)} (of {type(module).__name__}) is not repeated")
    if mask is not None:
        mask = mask[0]
        if mask.ndim == 3:
            mask = mask[..., : key.shape[2]]
            mask = mask[0] if mask.shape[0] == 1 else mask
    causal = options.get("is_causal")
    scale = options.get("scaling")
    return LayerAttention(
        query=query[0],
        key=key[0],
        scale=query.shape[-1] ** -0.5 if scale is None else scale,
        mask=mask,
        causal=getattr(module, "is_causal", True) if causal is None else causal,
        window=options.get("sliding_window"),
    )
