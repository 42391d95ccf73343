"""Token merging by density peaks: a frame's 256 CLIP patches become 64 + 32 + 16 tokens.

Jin et al. 2024, "Chat-UniVi" (arXiv 2311.08046), section 3.2: DPC-KNN, density-peaks clustering with the
local density from the k nearest neighbours (Du et al. 2016), applied stage after stage; every stage's tokens
are kept. There is nothing to learn in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# The reference breaks ties of the density by uniform noise of this size.
TIE_NOISE = 1e-6


@dataclass(frozen=True)
class Stage:
    """One stage of merging: how many clusters, and of how many neighbours the density is taken."""

    clusters: int
    neighbours: int

    def __post_init__(self) -> None:
        if self.clusters < 1 or self.neighbours < 1:
            raise ValueError(
                "a stage needs at least one cluster and one neighbour, "
                f"got {self.clusters} and {self.neighbours}"
            )

    @property
    def k(self) -> int:
        """Neighbours in fact: fewer where there are fewer clusters than neighbours."""
        if self.neighbours <= self.clusters:
            return self.neighbours
        return min(3, max(self.clusters // 2, 1))


IMAGE_STAGES = (Stage(64, 5), Stage(32, 3), Stage(16, 3))


def cluster(
    tokens: Tensor, stage: Stage, noise: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Clusters of N tokens, in each of B sets on its own.

    With distances d over √C, the density of a token is ρ = exp(−mean of its k smallest d²), its own among
    them, and its separation δ the distance to the nearest denser token (the largest distance there is, where
    none is denser). The tokens of the largest δρ are the centres, in this order; every other token joins the
    nearest one.

    Args:
        tokens: float [B, N, C], N at least the number of clusters; computed in float32 at least.
        noise: up to how much is added to each density at random, to break ties; TIE_NOISE in the reference, 0
            makes the clusters depend on the tokens alone.
        generator: of the noise.

    Returns:
        int64 [B, N], cluster of every token, in 0 … clusters − 1.

    Raises:
        ValueError: fewer tokens than clusters, or not three dimensions.
    """
    if tokens.ndim != 3 or tokens.shape[1] < max(stage.clusters, stage.k):
        raise ValueError(
            f"tokens must be [B, N, C] with N >= {max(stage.clusters, stage.k)} to make {stage.clusters} "
            f"clusters, got {list(tokens.shape)}"
        )
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    distance = torch.cdist(tokens, tokens) / tokens.shape[-1] ** 0.5
    nearest = distance.topk(stage.k, dim=-1, largest=False).values
    density = (-nearest.square().mean(-1)).exp()
    if noise:
        random = torch.rand(density.shape, generator=generator, device=density.device, dtype=density.dtype)
        density = density + noise * random
    denser = density[:, None, :] > density[:, :, None]
    farthest = distance.amax((1, 2), keepdim=True)
    separation = torch.where(denser, distance, farthest).amin(-1)
    # A stable order, so that equal scores do not depend on the device.
    order = (separation * density).sort(dim=-1, descending=True, stable=True).indices
    centres = order[:, : stage.clusters]
    joined = distance.gather(1, centres[..., None].expand(-1, -1, tokens.shape[1])).argmin(1)
    # A centre stays its own where another lies at the same place.
    own = torch.arange(stage.clusters, device=tokens.device).expand_as(centres)
    return joined.scatter(1, centres, own)


def merge(tokens: Tensor, clusters: Tensor, count: int) -> Tensor:
    """The mean of every cluster, summed in float32, in the order of the clusters' numbers.

    Args:
        tokens: float [B, N, C]. clusters: int64 [B, N]. count: how many clusters there are.

    Returns:
        float [B, count, C], in the dtype of the tokens.
    """
    # A product instead of an indexed sum: the same on every run of a GPU.
    members = torch.nn.functional.one_hot(clusters, count).transpose(1, 2)
    members = members.to(torch.promote_types(tokens.dtype, torch.float32))
    merged = members @ tokens.to(members.dtype) / (members.sum(-1, keepdim=True) + 1e-6)
    return merged.to(tokens.dtype)


@dataclass(frozen=True)
class Merged:
    """What the stages made of B sets of tokens.

    levels: for each stage float [B, clusters, C].
    clusters: for each stage int64 [B, N], which cluster each of the N tokens that came into it went to.
    """

    levels: tuple[Tensor, ...]
    clusters: tuple[Tensor, ...]

    @property
    def tokens(self) -> Tensor:
        """float [B, sum of the clusters, C]: all levels, the finest first."""
        return torch.cat(self.levels, 1)


def merge_stages(
    tokens: Tensor,
    stages: Sequence[Stage] = IMAGE_STAGES,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Merged:
    """Stage after stage, each merging the tokens of the one before. See `cluster` for the arguments."""
    levels, clusters = [], []
    for stage in stages:
        clusters.append(cluster(tokens, stage, noise, generator))
        tokens = merge(tokens, clusters[-1], stage.clusters)
        levels.append(tokens)
    return Merged(tuple(levels), tuple(clusters))
