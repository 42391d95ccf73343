"""Points become masks, and masks tracklets over the keyframes: what the attention may have meant.

The order is DecAF's (arXiv 2510.19592) turned round: it propagates a mask of every point and then throws the
twins away; here the strongest is propagated first, and a weaker mask that lies on its tracklet never is. What
remains is the same, as there too the stronger of two wins.

Shapes: K keyframes, N masks, H W pixels of the video, h w cells of the attention map.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from model.prompt import PointPrompt
from model.sam.segmenter import SamSegmenter
from model.segmentation import FrameFeatures
from visa.steerseg.points import Peak

_log = logging.getLogger(__name__)

MASKS = ("single", "best", "all")

# A keyframe's number, 0 <= k < K, to SAM's features of it.
Features = Callable[[int], FrameFeatures]
# (keyframe, bool [H, W] in it) to bool [K, H, W].
Carry = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CandidateSettings:
    """How candidates are drawn and thinned. All are guesses where a preset says so.

    masks: what is taken of SAM at a point: its "single" mask, the "best" by its own estimate of the three
        for an ambiguous point, or "all" three.
    suppression_iou: of two masks of one keyframe that overlap by more, the stronger stays.
    max_candidates: at most so many tracklets, the strongest.

    Raises:
        ValueError: a value out of its range.
    """

    masks: str
    suppression_iou: float
    max_candidates: int

    def __post_init__(self) -> None:
        if self.masks not in MASKS:
            raise ValueError(f"candidates.masks must be {', '.join(MASKS[:-1])} or all, not {self.masks!r}")
        if not 0 <= self.suppression_iou <= 1 or self.max_candidates < 1:
            raise ValueError(
                "candidates.suppression_iou must be in [0, 1] and candidates.max_candidates at least 1, "
                f"not {self.suppression_iou} and {self.max_candidates}"
            )


@dataclass(frozen=True)
class Seed:
    """A mask that SAM drew at a peak.

    mask: bool [H, W] in the peak's keyframe. quality: SAM's own estimate of its IoU.
    """

    peak: Peak
    quality: float
    mask: np.ndarray

    @property
    def strength(self) -> float:
        """What decides between two that mean one thing."""
        return self.quality + self.peak.value


@dataclass(frozen=True)
class Candidate:
    """A seed and where it is in the other keyframes: bool [K, H, W], the seed's own included."""

    seed: Seed
    masks: np.ndarray


@torch.inference_mode()
def draw_seeds(
    sam: SamSegmenter,
    features: Features,
    peaks: Sequence[Peak],
    grid: tuple[int, int],
    settings: CandidateSettings,
) -> list[Seed]:
    """What SAM draws at each peak, the strongest first; empty masks and, in each keyframe, twins left out.

    Args:
        sam: prompted with one positive point for each peak.
        grid: (h, w) that the peaks are cells of.
    """
    seeds = []
    for keyframe, group in groupby(sorted(peaks, key=lambda peak: peak.keyframe), lambda peak: peak.keyframe):
        seeds += suppress(_draw(sam, features(keyframe), list(group), grid, settings), settings)
    return sorted(seeds, key=lambda seed: -seed.strength)


def _draw(
    sam: SamSegmenter,
    features: FrameFeatures,
    peaks: Sequence[Peak],
    grid: tuple[int, int],
    settings: CandidateSettings,
) -> list[Seed]:
    places = torch.tensor([peak.place(grid, features.original_size) for peak in peaks])
    prompt = PointPrompt(features.to_input(places)[:, None], torch.ones(len(peaks), 1))
    drawn = sam.decode(features, prompt, multimask=settings.masks != "single")
    masks = (sam.to_frame(drawn.mask_logits, features) > 0).cpu().numpy()
    seeds = [
        [Seed(peak, float(quality), mask) for quality, mask in zip(*choices, strict=True) if mask.any()]
        for peak, choices in zip(peaks, zip(drawn.iou.tolist(), masks, strict=True), strict=True)
    ]
    if settings.masks == "best":
        seeds = [sorted(choices, key=lambda seed: -seed.quality)[:1] for choices in seeds]
    return [seed for choices in seeds for seed in choices]


def suppress(seeds: Sequence[Seed], settings: CandidateSettings) -> list[Seed]:
    """Seeds of one keyframe, the strongest first, without those that lie on a stronger one."""
    kept: list[Seed] = []
    for seed in sorted(seeds, key=lambda seed: -seed.strength):
        if all(mask_iou(seed.mask, other.mask) <= settings.suppression_iou for other in kept):
            kept.append(seed)
    return kept


def grow(seeds: Sequence[Seed], carry: Carry, settings: CandidateSettings) -> list[Candidate]:
    """Tracklets of the seeds, the strongest first.

    A seed on the tracklet of a stronger one is that thing seen again and is not carried. A tracklet may
    vanish in other keyframes: how well it then agrees with the attention is the ranking's affair.

    Args:
        seeds: the strongest first.
        carry: the tracker.
    """
    candidates: list[Candidate] = []
    for seed in seeds:
        if len(candidates) == settings.max_candidates:
            break
        here = seed.peak.keyframe
        if any(mask_iou(seed.mask, c.masks[here]) > settings.suppression_iou for c in candidates):
            continue
        masks = carry(here, seed.mask)
        masks[here] = seed.mask  # a tracker that draws its first frame anew may have lost it
        if masks.sum() == seed.mask.sum():
            _log.info("a tracklet from keyframe %d is in no other keyframe", here)
        candidates.append(Candidate(seed, masks))
    return candidates


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool arrays of one shape; 0 where both are empty."""
    covered = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / covered if covered else 0.0
