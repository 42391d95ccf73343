"""XMem's three memories: sensory, working and long-term (Cheng & Schwing, ECCV 2022, sections 3.2 to 3.5).

Tokens are kept as rows, oldest first. A key is shared by all objects; a value belongs to one group of objects
that entered together, and exists only for tokens newer than the group.

Shapes: M memory tokens, Q = h w query tokens, N objects, C key channels, V value channels.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.xmem.similarity import (
    Affinity,
    anisotropic_similarity,
    memory_side,
    query_side,
    similar_tokens,
)

LIFE_AT_BIRTH = 1e-7


@dataclass(frozen=True)
class MemoryConfig:
    """How the memories are kept; names and defaults of the published model's evaluation.

    Attributes:
        mem_every: frames between two memory frames.
        deep_update_every: negative: the value encoder renews sensory memory on every memory frame and the
            decoder on all others. Otherwise the decoder renews it on every frame, and the value encoder on
            memory frames at least this many frames after its last renewal.
        top_k: memory tokens a query reads (all of them while there are fewer); None for no limit.
        enable_long_term: move old working memory into long-term memory. Without it working memory keeps every
            memory frame and grows with the video.
        enable_long_term_count_usage: count how often long-term tokens are read; pruning needs it.
        max_mid_term_frames: frames in working memory at which it is consolidated.
        min_mid_term_frames: frames that stay: the first, and the newest ``min_mid_term_frames - 1``.
        num_prototypes: tokens that a consolidation adds to long-term memory (fewer when the frames are tiny).
        max_long_term_elements: tokens long-term memory may hold.

    Raises:
        ValueError: for settings that contradict one another.
    """

    mem_every: int = 5
    deep_update_every: int = -1
    top_k: int | None = 30
    enable_long_term: bool = True
    enable_long_term_count_usage: bool = True
    max_mid_term_frames: int = 10
    min_mid_term_frames: int = 5
    num_prototypes: int = 128
    max_long_term_elements: int = 10000

    def __post_init__(self) -> None:
        def require(fine: bool, expected: str) -> None:
            if not fine:
                raise ValueError(f"expected {expected}; got {self}")

        require(self.mem_every >= 1, "mem_every of at least 1")
        require(self.top_k is None or self.top_k >= 1, "top_k of at least 1, or None")
        if self.enable_long_term:
            require(
                self.min_mid_term_frames >= 2,
                "min_mid_term_frames of at least 2: the first frame and the newest stay in working memory",
            )
            require(
                self.max_mid_term_frames > self.min_mid_term_frames,
                "max_mid_term_frames above min_mid_term_frames: the frames between them are consolidated",
            )
            require(self.num_prototypes >= 1, "num_prototypes of at least 1")
            require(
                self.max_long_term_elements > self.num_prototypes,
                "max_long_term_elements above num_prototypes: pruning makes room for that many",
            )


@dataclass
class Tokens:
    """A flat list of memory tokens, oldest first.

    Attributes:
        key: float32 [M, C].
        shrinkage: float32 [M].
        selection: float32 [M, C], or None where it is not kept (long-term memory).
        use, life: float32 [M]: weight read so far, and number of readings lived through.
        values: one float [M, N_g, V] per object group; rows where ``valid`` is False are zero and never read.
        valid: one bool [M] per object group.
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor | None
    use: Tensor
    life: Tensor
    values: list[Tensor]
    valid: list[Tensor]

    @classmethod
    def fresh(
        cls,
        key: Tensor,
        shrinkage: Tensor,
        selection: Tensor | None,
        values: list[Tensor],
        valid: list[Tensor],
    ) -> "Tokens":
        """Tokens that have not been read yet."""
        use = torch.zeros_like(shrinkage)
        return cls(key, shrinkage, selection, use, torch.full_like(use, LIFE_AT_BIRTH), values, valid)

    def __len__(self) -> int:
        return self.key.shape[0]

    @property
    def usage(self) -> Tensor:
        """Weight read per reading lived through, float32 [M]."""
        return self.use / self.life

    def count(self, usage: Tensor) -> None:
        """Note one reading, float32 [M]."""
        self.use = self.use + usage
        self.life = self.life + 1

    def select(self, keep: Tensor) -> "Tokens":
        """The tokens named by a bool [M] or int64 index tensor."""
        return Tokens(
            self.key[keep],
            self.shrinkage[keep],
            None if self.selection is None else self.selection[keep],
            self.use[keep],
            self.life[keep],
            [value[keep] for value in self.values],
            [valid[keep] for valid in self.valid],
        )

    def with_groups(self, like: list[Tensor]) -> "Tokens":
        """The same tokens, knowing also the later groups of ``like`` (values [*, N_g, V]), not valid."""
        values, valid = list(self.values), list(self.valid)
        for value in like[len(values) :]:
            values.append(value.new_zeros(len(self), *value.shape[1:]))
            valid.append(torch.zeros(len(self), dtype=torch.bool, device=self.key.device))
        return Tokens(self.key, self.shrinkage, self.selection, self.use, self.life, values, valid)

    def append(self, newer: "Tokens") -> "Tokens":
        """These tokens followed by ``newer`` ones, which know at least the same groups."""
        older = self.with_groups(newer.values)
        both = self.selection is not None and newer.selection is not None
        return Tokens(
            torch.cat([older.key, newer.key]),
            torch.cat([older.shrinkage, newer.shrinkage]),
            torch.cat([older.selection, newer.selection]) if both else None,
            torch.cat([older.use, newer.use]),
            torch.cat([older.life, newer.life]),
            [torch.cat(pair) for pair in zip(older.values, newer.values, strict=True)],
            [torch.cat(pair) for pair in zip(older.valid, newer.valid, strict=True)],
        )


def consolidate(candidates: Tokens, num_prototypes: int) -> tuple[Tokens, Tensor]:
    """Memory consolidation: prototype selection and potentiation (XMem section 3.4.1).

    Args:
        candidates: tokens that leave working memory, with their selection.
        num_prototypes: how many to make; at most as many as there are candidates are made.

    Returns:
        The prototypes, in descending order of their candidates' usage, and those candidates' indices, int64
        [P].
    """
    chosen = candidates.usage.topk(min(num_prototypes, len(candidates))).indices
    selection = None if candidates.selection is None else candidates.selection[chosen]
    scores = anisotropic_similarity(candidates.key, candidates.shrinkage, candidates.key[chosen], selection)
    pooled_values, pooled_valid = [], []
    pooled_shrinkage = scores.softmax(-1) @ candidates.shrinkage
    for value, valid in zip(candidates.values, candidates.valid, strict=True):
        prototype_valid = valid[chosen]
        # Rows of a group that has no valid candidate become NaN here and are zeroed as not valid below.
        weights = scores.masked_fill(~valid, -torch.inf).softmax(-1)
        pooled = torch.einsum("pm,mnv->pnv", weights.to(value.dtype), value)
        pooled_values.append(torch.where(prototype_valid[:, None, None], pooled, 0))
        pooled_valid.append(prototype_valid)
    prototypes = Tokens.fresh(candidates.key[chosen], pooled_shrinkage, None, pooled_values, pooled_valid)
    return prototypes, chosen


def prune(tokens: Tokens, target: int) -> Tokens:
    """Drop the least used tokens (XMem section 3.4.2) until at most ``target`` remain; ties fall together."""
    excess = len(tokens) - target
    if excess <= 0:
        return tokens
    usage = tokens.usage
    threshold = usage.topk(excess, largest=False).values[-1]
    return tokens.select(usage > threshold)


@dataclass
class Memory:
    """All that a tracker remembers of one video.

    Invariants: every working token of the newest frame is valid for every group; the first group is valid for
    every token; with long-term memory on, working memory holds less than ``max_mid_term_frames`` frames
    between two steps and long-term memory at most ``max_long_term_elements`` tokens.
    """

    config: MemoryConfig
    sensory: Tensor | None = None
    working: Tokens | None = None
    long_term: Tokens | None = None
    group_sizes: list[int] = field(default_factory=list)
    tokens_per_frame: int = 0
    _joined: tuple[Tokens, Tensor] | None = field(default=None, repr=False)

    @property
    def num_objects(self) -> int:
        return sum(self.group_sizes)

    def enter(self, count: int, hidden_dim: int, like: Tensor) -> None:
        """Let ``count`` new objects in, as one group, with empty sensory memory on the grid of ``like``."""
        self.group_sizes.append(count)
        fresh = like.new_zeros(1, count, hidden_dim, *like.shape[-2:])
        self.sensory = fresh if self.sensory is None else torch.cat([self.sensory, fresh], 1)

    def read(self, query_key: Tensor, selection: Tensor) -> Tensor:
        """Read working and long-term memory for one frame, and count what was read.

        Args:
            query_key: float [1, C, h, w].
            selection: float [1, C, h, w].

        Returns:
            float [1, N, V, h, w].

        Raises:
            RuntimeError: nothing has been memorised yet.
        """
        if self.working is None:
            raise RuntimeError(
                "memory is empty: give a mask with the first frame before any frame is segmented"
            )
        if self._joined is None:
            self._joined = self._join()
        memory, side = self._joined
        query = query_side(_rows(query_key), _rows(selection))
        readouts, shared = [], None
        for group, (value, valid) in enumerate(zip(memory.values, memory.valid, strict=True)):
            everything = bool(valid.all())
            if everything and shared is not None:
                affinity = shared
            else:
                affinity = similar_tokens(query, side, self.config.top_k, None if everything else valid)
            if group == 0:
                shared = affinity
                self._count(affinity)
            read = affinity.read(value.flatten(1))
            readouts.append(read.unflatten(1, value.shape[1:]).permute(1, 2, 0))
        return torch.cat(readouts)[None].unflatten(-1, query_key.shape[-2:])

    def _join(self) -> tuple[Tokens, Tensor]:
        """Long-term and working tokens as one list, and their side of the similarity.

        Values stand in memory once: both memories become views of the list.
        """
        if self.long_term is None:
            joined = self.working
        else:
            joined = self.long_term.append(self.working)
            num_long = len(self.long_term)
            self.long_term.values = [value[:num_long] for value in joined.values]
            self.long_term.valid = [valid[:num_long] for valid in joined.valid]
            self.working.values = [value[num_long:] for value in joined.values]
        return joined, memory_side(joined.key, joined.shrinkage)

    def _count(self, affinity: Affinity) -> None:
        if not self.config.enable_long_term:
            return
        usage = affinity.usage()
        num_long = 0 if self.long_term is None else len(self.long_term)
        self.working.count(usage[num_long:])
        if self.long_term is not None and self.config.enable_long_term_count_usage:
            self.long_term.count(usage[:num_long])

    def add(self, key: Tensor, shrinkage: Tensor, selection: Tensor, value: Tensor) -> None:
        """Memorise one frame, then consolidate and prune where that is due.

        Args:
            key, selection: float [1, C, h, w].
            shrinkage: float [1, 1, h, w].
            value: float [1, N, V, h, w], all objects known so far.
        """
        self._joined = None
        tokens = key.shape[-2] * key.shape[-1]
        self.tokens_per_frame = tokens
        # Laid out alike however many groups there are: sums are taken in the order in which numbers lie.
        values = [
            group.permute(2, 0, 1).contiguous() for group in value[0].flatten(2).split(self.group_sizes)
        ]
        valid = [torch.ones(tokens, dtype=torch.bool, device=key.device) for _ in values]
        kept_selection = _rows(selection).float() if self.config.enable_long_term else None
        newest = Tokens.fresh(
            _rows(key).float(), _rows(shrinkage).float().squeeze(1), kept_selection, values, valid
        )
        self.working = newest if self.working is None else self.working.append(newest)
        if self.config.enable_long_term and len(self.working) >= self.config.max_mid_term_frames * tokens:
            self._move_to_long_term()

    def _move_to_long_term(self) -> None:
        room = self.config.max_long_term_elements - self.config.num_prototypes
        if self.long_term is not None and len(self.long_term) > room:
            if not self.config.enable_long_term_count_usage:
                raise RuntimeError(
                    f"long-term memory is full ({len(self.long_term)} tokens); pruning needs usage counts: "
                    "set enable_long_term_count_usage=True or raise max_long_term_elements"
                )
            self.long_term = prune(self.long_term, room)
        first = self.tokens_per_frame
        last = len(self.working) - (self.config.min_mid_term_frames - 1) * self.tokens_per_frame
        position = torch.arange(len(self.working), device=self.working.key.device)
        leaving = (position >= first) & (position < last)
        prototypes, _ = consolidate(self.working.select(leaving), self.config.num_prototypes)
        self.working = self.working.select(~leaving)
        self.long_term = prototypes if self.long_term is None else self.long_term.append(prototypes)


def _rows(features: Tensor) -> Tensor:
    """float [1, C, h, w] -> float [h w, C], row-major over the grid."""
    return features[0].flatten(1).transpose(0, 1)
