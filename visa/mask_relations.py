"""How two answers lie to each other in the picture, told from their masks alone.

Masks are COCO run lengths {"size": [H, W], "counts"}, one per frame, never decoded. Which of two things is in
front cannot be told from masks, so it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from visa.mask_track import EncodedMask

# Intersection over union, over the whole clip, from which on two answers are one thing.
SAME_THING_IOU = 0.5


def same_thing(first: Sequence[EncodedMask], second: Sequence[EncodedMask]) -> bool:
    """Whether two answers about one clip cover the same pixels for the most part; empty ones never do."""
    from pycocotools import mask as coco_mask

    shared = covered = 0
    for pair in zip(first, second, strict=True):
        shared += int(coco_mask.area(coco_mask.merge(list(pair), intersect=True)))
        covered += int(coco_mask.area(coco_mask.merge(list(pair))))
    return covered > 0 and shared / covered >= SAME_THING_IOU


def lies_to(side: str, first: Sequence[EncodedMask], second: Sequence[EncodedMask]) -> bool | None:
    """Whether the second thing lies on a side of the first, going by the middles of their boxes.

    Args:
        side: "left", "right", "above" or "below", in the picture.
        first: one mask per frame.
        second: likewise, of the same clip.

    Returns:
        Whether it does in more than half of the frames that show both; None if none does.
    """
    from pycocotools import mask as coco_mask

    axis, sign = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}[side]
    votes = []
    for pair in zip(first, second, strict=True):
        if all(coco_mask.area(list(pair)) > 0):
            (begin, size), (other_begin, other_size) = (
                (box[axis], box[axis + 2]) for box in coco_mask.toBbox(list(pair))
            )
            votes.append(sign * (other_begin + other_size / 2 - begin - size / 2) > 0)
    return bool(sum(votes) > len(votes) / 2) if votes else None
