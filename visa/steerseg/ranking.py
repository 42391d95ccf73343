"""Which tracklet the attention meant: the one whose masks correlate best with both maps.

SteerSeg: tracklets are "ranked by Pearson correlation against the rollout maps", a weighted score over the
frame and the video stream; the weight 0.30 of the frame stream is read off the names of its demonstration
files. Several objects and "not there" are proposals of ours.

Shapes: K keyframes, h w cells of the frame stream, t h' w' of the video stream, H W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from visa.steerseg.candidates import mask_iou
from visa.steerseg.fusion import FLAT
from visa.steerseg.maps import AttentionMaps

RULES = ("pearson", "argmax")


@dataclass(frozen=True)
class RankingSettings:
    """How the winner is found. All are guesses where a preset says so.

    rule: "pearson", or "argmax": the tracklet under the highest cell of the joint map, to compare with. The
        latter has one winner always.
    frame_weight: share [0, 1] of the frame stream in a score; the video stream has the rest.
    max_objects: at most so many tracklets are the answer.
    max_overlap: another object's tracklet has at most this IoU with those chosen before it.
    share_of_best: and at least this share of the best score.
    absent_below: a best score below it says that the thing is not there; None: it always is.

    Raises:
        ValueError: a value out of its range.
    """

    rule: str
    frame_weight: float
    max_objects: int
    max_overlap: float
    share_of_best: float
    absent_below: float | None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"ranking.rule must be {' or '.join(RULES)}, not {self.rule!r}")
        for name in ("frame_weight", "max_overlap", "share_of_best"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"ranking.{name} must be in [0, 1], not {getattr(self, name)}")
        if self.max_objects < 1:
            raise ValueError(f"ranking.max_objects must be at least 1, not {self.max_objects}")
        if self.absent_below is not None and not -1 <= self.absent_below <= 1:
            raise ValueError(f"ranking.absent_below must be in [-1, 1] or null, not {self.absent_below}")


@dataclass(frozen=True)
class Verdict:
    """What won.

    winners: indices of the tracklets, the best first; () where the thing is not there.
    score: of the best, in [-1, 1]; 0 where there is none.
    scores: of all, by the rule.
    """

    winners: tuple[int, ...]
    score: float
    scores: tuple[float, ...]


def rank(
    tracklets: Sequence[np.ndarray], refined: AttentionMaps, joint: Tensor, settings: RankingSettings
) -> Verdict:
    """Compare tracklets with attention.

    Args:
        tracklets: bool [K, H, W] each.
        refined: maps of `visa.steerseg.fusion.refine`.
        joint: float [K, h, w] of `visa.steerseg.fusion.fuse`.
    """
    if not tracklets:
        return Verdict((), 0.0, ())
    if settings.rule == "argmax":
        scores = tuple(highest_under(masks, joint) for masks in tracklets)
        best = int(np.argmax(scores))
        return Verdict((best,), scores[best], scores)
    scores = tuple(consistency(masks, refined, settings.frame_weight) for masks in tracklets)
    best = int(np.argmax(scores))
    if settings.absent_below is not None and scores[best] < settings.absent_below:
        return Verdict((), scores[best], scores)
    return Verdict(_with_others(best, scores, tracklets, refined, settings), scores[best], scores)


def _with_others(
    best: int,
    scores: Sequence[float],
    tracklets: Sequence[np.ndarray],
    refined: AttentionMaps,
    settings: RankingSettings,
) -> tuple[int, ...]:
    """The best tracklet and those that, laid beside it, agree with the maps better than it does alone."""
    winners, together, agreement = [best], tracklets[best], scores[best]
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if len(winners) == settings.max_objects or scores[index] < settings.share_of_best * scores[best]:
            break
        if index in winners or mask_iou(tracklets[index], together) >= settings.max_overlap:
            continue
        union = together | tracklets[index]
        if (better := consistency(union, refined, settings.frame_weight)) > agreement:
            winners.append(index)
            together, agreement = union, better
    return tuple(winners)


def consistency(masks: np.ndarray, refined: AttentionMaps, frame_weight: float) -> float:
    """Weighted Pearson correlation of a tracklet bool [K, H, W] with both maps, in [-1, 1]."""
    frame = pearson(refined.frame, cover(masks, tuple(refined.frame.shape[1:])))
    steps = cover_of_steps(cover(masks, tuple(refined.video.shape[1:])), refined.shows)
    return frame_weight * frame + (1 - frame_weight) * pearson(refined.video, steps)


def highest_under(masks: np.ndarray, joint: Tensor) -> float:
    """The highest attention [0, 1] under a tracklet bool [K, H, W]; cells count as far as it covers them."""
    return float((joint.cpu() * cover(masks, tuple(joint.shape[1:]))).max())


def cover(masks: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Of each cell of a grid (h, w), the share that masks bool [K, H, W] cover: float32 [K, h, w]."""
    pixels = torch.from_numpy(np.ascontiguousarray(masks)).float()
    return functional.adaptive_avg_pool2d(pixels[:, None], grid)[:, 0]


def cover_of_steps(covered: Tensor, shows: Sequence[Sequence[int]]) -> Tensor:
    """Of keyframes float [K, h', w'] the means over those that each of t steps shows: [t, h', w']."""
    return torch.stack([covered[list(keyframes)].mean(0) for keyframes in shows])


def pearson(first: Tensor, second: Tensor) -> float:
    """Correlation over all cells of two float tensors of one shape, in [-1, 1]; 0 if either does not vary."""
    first, second = (_centred(values) for values in (first, second))
    norms = first.norm() * second.norm()
    return float((first @ second / norms).clamp(-1, 1)) if norms.isfinite() and norms > 0 else 0.0


def _centred(values: Tensor) -> Tensor:
    """float64 [n] around its mean; 0 where it varies by no more than the rounding of float32."""
    values = values.detach().cpu().double().flatten()
    centred = values - values.mean()
    return torch.zeros_like(centred) if centred.norm() <= FLAT * values.norm() else centred
