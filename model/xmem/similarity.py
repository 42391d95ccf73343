"""How a query token finds memory tokens: XMem's anisotropic L2 similarity, top-k softmax and read-out.

Cheng & Schwing, "XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin Memory Model", ECCV
2022, section 3.3 (eq. 3 and 4) and its supplement.

Shapes: B batch, M memory tokens, Q query tokens, C key channels, V value channels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Scores of query and memory tokens that stand in memory together: 16 MiB of them read as fast as more.
SCORES_AT_ONCE = 2**22


def anisotropic_similarity(
    memory_key: Tensor,
    shrinkage: Tensor | None,
    query_key: Tensor,
    selection: Tensor | None,
) -> Tensor:
    """Negative L2 distance between query and memory keys, weighted per channel and scaled per memory token.

    ``s_n / sqrt(C) * -sum_c e_qc (k_nc - q_c)^2``, expanded so that it costs one matrix product.
    Computed in float32 whatever the inputs and autocast, because the three terms nearly cancel.

    Args:
        memory_key: float [..., M, C].
        shrinkage: float [..., M], at least 1 (how confident a memory token is); None means 1.
        query_key: float [..., Q, C].
        selection: float [..., Q, C] in [0, 1] (which channels the query looks at). None gives STCN's form, in
            which the query's own square, equal for every memory token, is left out.

    Returns:
        float32 [..., Q, M]; never above 0 when ``selection`` is given.
    """
    memory = memory_side(memory_key, shrinkage, selection is not None)
    return _product(query_side(query_key, selection), memory)


def memory_side(memory_key: Tensor, shrinkage: Tensor | None, with_selection: bool = True) -> Tensor:
    """The memory's factor of the similarity's one matrix product, float32 [..., M, 2 C + 1 (or C + 1)]."""
    key = memory_key.float()
    square = key.square()
    last = torch.ones_like(key[..., :1]) if with_selection else square.sum(-1, keepdim=True)
    side = torch.cat([key, square, last] if with_selection else [key, last], -1) / math.sqrt(key.shape[-1])
    return side if shrinkage is None else side * shrinkage.float().unsqueeze(-1)


def query_side(query_key: Tensor, selection: Tensor | None) -> Tensor:
    """The query's factor, float32 [..., Q, 2 C + 1 (or C + 1 without selection)]."""
    key = query_key.float()
    if selection is None:
        return torch.cat([2 * key, torch.full_like(key[..., :1], -1.0)], -1)
    weighted = selection.float() * key
    constant = (weighted * key).sum(-1, keepdim=True)
    return torch.cat([2 * weighted, -selection.float(), -constant], -1)


def _product(query: Tensor, memory: Tensor) -> Tensor:
    # One matrix product does it all: a pass over [Q, M] costs as much as the product itself.
    with torch.autocast(query.device.type, enabled=False):
        return query @ memory.transpose(-1, -2)


@dataclass(frozen=True)
class Affinity:
    """Which memory tokens each query reads, and with what weight. Weights of a query sum to 1.

    Attributes:
        weights: float32 [Q, K].
        indices: int64 [Q, K] memory token of each weight; None when every token is read (K = M).
        num_tokens: M.
    """

    weights: Tensor
    indices: Tensor | None
    num_tokens: int

    def dense(self) -> Tensor:
        """The same weights as a full matrix, float32 [Q, M]."""
        if self.indices is None:
            return self.weights
        full = self.weights.new_zeros(self.weights.shape[0], self.num_tokens)
        return full.scatter_(1, self.indices, self.weights)

    def usage(self) -> Tensor:
        """How much each memory token was read: its weights summed over the queries, float32 [M]."""
        if self.indices is None:
            return self.weights.sum(0)
        total = self.weights.new_zeros(self.num_tokens)
        return total.scatter_add_(0, self.indices.flatten(), self.weights.flatten())

    def read(self, values: Tensor) -> Tensor:
        """Weighted sum of memory values for every query.

        Args:
            values: float [M, V].

        Returns:
            float [Q, V] in the dtype of ``values``.
        """
        weights = self.weights.to(values.dtype)
        if self.indices is None:
            return weights @ values
        # One pass over the K rows each query needs: a tenth of the work of the dense product at 480p.
        return functional.embedding_bag(self.indices, values, per_sample_weights=weights, mode="sum")


def top_k_affinity(scores: Tensor, top_k: int | None) -> Affinity:
    """Softmax over the ``top_k`` best memory tokens of each query (XMem section 3.3; STCN's top-k filter).

    The largest score is subtracted first, so that scores below about -103 do not end as 0 / 0.

    Args:
        scores: float32 [Q, M]; -inf where a token must not be read (at least one finite per query).
        top_k: tokens per query; more than M means all of them; None for a softmax over all M.

    Returns:
        Affinity.
    """
    num_tokens = scores.shape[-1]
    if top_k is None:
        return Affinity(scores.softmax(-1), None, num_tokens)
    values, indices = scores.topk(min(top_k, num_tokens), dim=-1)
    return Affinity(values.softmax(-1), indices, num_tokens)


def similar_tokens(query: Tensor, memory: Tensor, top_k: int | None, valid: Tensor | None = None) -> Affinity:
    """Similarity and its top-k softmax, some queries at a time, so that all scores never stand in memory.

    Args:
        query: ``query_side``, float32 [Q, C].
        memory: ``memory_side``, float32 [M, C].
        top_k: as in ``top_k_affinity``.
        valid: bool [M], the tokens that may be read; None for all.
    """
    at_once = max(1, SCORES_AT_ONCE // len(memory))
    parts = []
    for part in query.split(at_once):
        scores = _product(part, memory)
        if valid is not None:
            scores.masked_fill_(~valid, -torch.inf)
        parts.append(top_k_affinity(scores, top_k))
    indices = None if top_k is None else torch.cat([part.indices for part in parts])
    return Affinity(torch.cat([part.weights for part in parts]), indices, len(memory))
