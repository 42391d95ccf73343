"""Re-anchoring: objects drawn on several frames hold each other against the tracker's drift.

A mask that is carried far from the frame it was drawn on drifts. So the same objects may be drawn again on
other frames, where the sampler is sure to find them, and carried through the whole video from each; where two
tracks differ, the one that was drawn nearby is the better one. A model can also draw another object there.
Then what was carried and what was drawn do not meet, and that anchor is left out.

Shapes: A anchors, N objects, T frames, H W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visa.mask_track import EncodedMask, MaskTrack

# Mean IoU of what is carried to a frame and what was drawn there, from which on they are the same objects.
# Seen on one clip only, breakdance of davis7: an anchor at 0.69 made an answer worse, one at 0.92 better.
AGREEMENT = 0.7
# At this distance from its anchor, as a share of the video, a track counts half as much as at the anchor.
HALF_DISTANCE = 0.1


@dataclass(frozen=True)
class CarriedAnchor:
    """Objects that were drawn on one frame and carried to all of them.

    frame: where they were drawn. score: how sure it is that they are there, [0, 1]. tracks: N of T frames.
    """

    frame: int
    score: float
    tracks: tuple[MaskTrack, ...]


def fused(anchors: Sequence[CarriedAnchor]) -> tuple[MaskTrack, ...]:
    """One track for each object, from all anchors that agree with the first.

    Each pixel goes by vote. An anchor's vote is its score, less the further away it was drawn; on a tie the
    first decides.

    Args:
        anchors: the target frame's, then further ones, which may be of other objects.

    Returns:
        N tracks of T frames; the first anchor's own if it stands alone.
    """
    kept = [anchors[0], *(other for other in anchors[1:] if agree(anchors[0], other))]
    if len(kept) == 1:
        return anchors[0].tracks
    return tuple(_voted(kept, number) for number in range(len(anchors[0].tracks)))


def agree(first: CarriedAnchor, other: CarriedAnchor) -> bool:
    """Whether the same objects were drawn: the other's, carried to the first's frame, meet those drawn there.

    The way from the first to the other does not count: what drifts on it is to be mended.
    """
    if len(first.tracks) != len(other.tracks):
        return False
    there = first.frame
    pairs = zip(first.tracks, other.tracks, strict=True)
    return bool(np.mean([_iou(a.encoded(there), b.encoded(there)) for a, b in pairs]) >= AGREEMENT)


def vote_weights(anchors: Sequence[CarriedAnchor], index: int, num_frames: int) -> np.ndarray:
    """What each anchor's vote counts in frame ``index``: float64 [A], which sum to 1."""
    away = np.array([abs(index - anchor.frame) for anchor in anchors]) / num_frames
    weights = np.array([max(anchor.score, 1e-6) for anchor in anchors]) / (1 + away / HALF_DISTANCE)
    return weights / weights.sum()


def _voted(anchors: Sequence[CarriedAnchor], number: int) -> MaskTrack:
    tracks = [anchor.tracks[number] for anchor in anchors]
    result = MaskTrack(tracks[0].shape)
    for index in range(len(result)):
        if any(track.areas[index] for track in tracks):
            weights = vote_weights(anchors, index, len(result))
            masks = np.stack([track[index] for track in tracks])
            share = np.tensordot(weights, masks, 1)
            result.put(index, (share > 0.5 + 1e-9) | ((share > 0.5 - 1e-9) & masks[0]))
    return result


def _iou(first: EncodedMask, second: EncodedMask) -> float:
    """0 where both are empty: two anchors do not agree on what they cannot see."""
    from pycocotools import mask as coco_mask

    return float(coco_mask.iou([first], [second], [False])[0, 0])
