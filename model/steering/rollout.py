"""Attention rollout of one token, as a row vector from the top layer down.

Rollout multiplies the layers' attention matrices, R_l = ((1 - s) A_l + s I) R_(l-1), and one row of the
product is wanted: what one token in the end drew from which. Begun at the top, that row is a vector times a
matrix per layer, r <- (1 - s) r A_l + s r, the same numbers without a product of matrices; and a matrix
times a vector needs only some rows of it at a time. With V-Max weights a head counts as much as its queries
look at the frames at all (DecAF, arXiv 2510.19592); they and the upper half of the layers are that work's
choice, which SteerSeg (arXiv 2605.14908) stands on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.checkpoint import checkpoint

from model.steering.attention_rows import LayerAttention

HEAD_WEIGHTS = ("vmax", "mean")


@dataclass(frozen=True)
class RolloutSettings:
    """How attention is rolled out.

    first_layer: the lowest layer that counts; None is the middle one. head_weights: ``vmax`` weighs a head by
    the mean over queries of its largest attention to a visual token, the best head 1; ``mean`` takes all
    heads alike. residual: share s in [0, 1] that stays at the token. chunk: queries at a time; memory grows
    with heads x chunk x tokens.
    """

    first_layer: int | None = None
    head_weights: Literal["vmax", "mean"] = "vmax"
    residual: float = 0.5
    chunk: int = 256

    def __post_init__(self) -> None:
        if self.head_weights not in HEAD_WEIGHTS:
            raise ValueError(f"head_weights is {' or '.join(HEAD_WEIGHTS)}, not {self.head_weights!r}")
        if not 0 <= self.residual <= 1:
            raise ValueError(f"residual is a share in [0, 1], not {self.residual}")
        if self.chunk < 1:
            raise ValueError(f"chunk is at least one query, not {self.chunk}")

    def layers(self, num_layers: int) -> range:
        """Numbers of the layers that count, of a model of ``num_layers``."""
        first = num_layers // 2 if self.first_layer is None else self.first_layer
        if not 0 <= first < num_layers:
            raise ValueError(f"first_layer is in [0, {num_layers - 1}] for this model, not {first}")
        return range(first, num_layers)


def rollout_row(
    attention: Mapping[int, LayerAttention],
    start: int,
    visual: torch.Tensor,
    settings: RolloutSettings = RolloutSettings(),
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """What one token draws from every token, through all the recorded layers.

    Gradients flow to the queries and keys; the head weights are taken as constants.

    Args:
        attention: the layers that count, by number, as `recorded_attention` catches them.
        start: position of the token; what stands behind it plays no part.
        visual: int64 [n], positions of the visual tokens.
        rows: int64 [m], the tokens that make up the sequence the token ends, itself included; None is all up
            to ``start``. Several questions packed behind the same frames need it.

    Returns:
        float32 [L] (float64 for float64 queries), non-negative, summing to at most 1.

    Raises:
        ValueError: no layer, a start outside the sequence, or no visual token before it.
    """
    if not attention:
        raise ValueError("a rollout needs at least one recorded layer")
    top = attention[max(attention)]
    if not 0 <= start < top.length:
        raise ValueError(f"start is a position in [0, {top.length - 1}], not {start}")
    if not len(visual) or not 0 <= int(visual.min()) <= int(visual.max()) <= start:
        raise ValueError(f"a rollout from token {start} needs visual tokens, all of them before it")
    device = top.query.device
    rows = torch.arange(start + 1) if rows is None else rows
    wide = torch.promote_types(top.query.dtype, torch.float32)
    row = torch.zeros(start + 1, dtype=wide, device=device)
    row[start] = 1.0
    with torch.autocast(device.type, enabled=False):
        for number in sorted(attention, reverse=True):
            layer = attention[number]
            # The layers of a large model may lie on several devices.
            row, rows, visual = (tensor.to(layer.query.device) for tensor in (row, rows, visual))
            drawn = _drawn_through(layer, row, rows, visual, settings)
            row = (1 - settings.residual) * drawn + settings.residual * row
    return torch.nn.functional.pad(row, (0, top.length - start - 1))


def _drawn_through(
    layer: LayerAttention,
    row: torch.Tensor,
    rows: torch.Tensor,
    visual: torch.Tensor,
    settings: RolloutSettings,
) -> torch.Tensor:
    """``row`` times the layer's attention, averaged over its heads by their weights: float [start + 1]."""
    by_head = row.new_zeros(layer.query.shape[0], len(row))
    looks = row.new_zeros(layer.query.shape[0])
    learns = torch.is_grad_enabled() and (layer.query.requires_grad or row.requires_grad)
    for some in rows.split(settings.chunk):
        given = (layer, row[some], some, visual, len(row))
        # What a chunk makes is made again in the backward pass, not kept for it.
        drawn, looked = checkpoint(_of_rows, *given, use_reentrant=False) if learns else _of_rows(*given)
        by_head = by_head + drawn
        looks = looks + looked
    if settings.head_weights == "mean":
        return by_head.mean(0)
    weights = (looks / looks.max().clamp(min=torch.finfo(looks.dtype).tiny)).detach()
    return (weights[:, None] * by_head).mean(0)


def _of_rows(
    layer: LayerAttention, shares: torch.Tensor, rows: torch.Tensor, visual: torch.Tensor, num_keys: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What some rows draw, head by head, float [H, num_keys]; how much they look at the frames, float [H]."""
    probs = layer.probs(rows, num_keys)
    looked = probs.detach()[..., visual].amax(-1).sum(-1)
    return torch.einsum("n,hnk->hk", shares, probs), looked
