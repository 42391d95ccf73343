"""A second look: once something is drawn, is it what was asked for?

What was drawn is cut out and shown to CLIP, which says what it could be called; the MLLM says how hot places
that look like each of those names would be for the question. Where what is seen is not what is meant, that
speaks against the answer; nothing speaks for it here, as that is what the heat is for. Neither half was
trained for this, and the figures below were set on the clips that benchmarks/RESULTS.md names.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from model.clip_pictures import ClipPictures
from model.name_table import NameTable

SIDE = 224  # of a cut-out, in pixels
BACKGROUND = 200  # grey, 0..255, around a cut-out
MARGIN = 1.15  # side of the picture over the longer side of the thing
LEAST_PIXELS = 16
SHARPNESS = 45.0  # a name whose cosine is larger by one part of so many is e times likelier
# Cosine of the best name from which on a thing counts as known, and how fast; what is unknown says nothing.
KNOWN, KNOWN_SPREAD = 0.35, 0.04
LEAST_EVIDENCE = -4.0  # what is not meant at all speaks no louder than this
# How hot, in logits, the best name must be for a question to mean a kind of thing, rather than a place.
MEANT = 3.0


@dataclass(frozen=True)
class SecondLook:
    """pictures: CLIP's image tower. names: what its points are called."""

    pictures: ClipPictures
    names: NameTable

    def seen(self, frame: np.ndarray, mask: np.ndarray) -> torch.Tensor | None:
        """How well each name fits what a mask covers: cosines [K]; None if it is too small.

        Args:
            frame: uint8 [H, W, 3]. mask: bool [H, W].
        """
        if mask.sum() < LEAST_PIXELS:
            return None
        # Alone and where it is, as a part alone tells little.
        pictures = [cut_out(frame, mask, alone=alone) for alone in (True, False)]
        return self.names.likeness(self.pictures(np.stack(pictures)).cpu()).mean(0)

    def evidence(self, seen: torch.Tensor | None, fits: torch.Tensor) -> float:
        """What speaks against the answer, in logits: 0 for nothing, down to about -4.

        The question is compared with one that means just what is seen, which has nothing against it.

        Args:
            seen: see `seen`. fits: float [M] logits, how well each of the table's words fits the question.
        """
        if seen is None:
            return 0.0
        meant = self.names.best_of_kinds(fits.float())
        sure = (meant.max() - MEANT).sigmoid()
        relative = (meant - meant.max()).clamp(min=LEAST_EVIDENCE)
        likely = (SHARPNESS * seen).softmax(-1)
        known = ((seen.max() - KNOWN) / KNOWN_SPREAD).sigmoid()
        against = (likely * relative.exp()).sum().log() - likely.max().log()
        return float(sure * known * against.clamp(max=0))


def cut_out(frame: np.ndarray, mask: np.ndarray, *, alone: bool = True) -> np.ndarray:
    """What a mask covers, in the middle of a square: uint8 [224, 224, 3].

    Args:
        frame: uint8 [H, W, 3], RGB.
        mask: bool [H, W], not empty.
        alone: on grey; otherwise with what is around it, and grey beyond the frame.
    """
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    side = round(max(bottom - top, right - left) * MARGIN)
    square = np.full((side, side, 3), BACKGROUND, np.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    if alone:
        covered = cv2.dilate(mask[top:bottom, left:right].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        square[y : y + bottom - top, x : x + right - left][covered] = frame[top:bottom, left:right][covered]
    else:
        high, low = max(0, top - y), min(len(frame), top - y + side)
        near, far = max(0, left - x), min(frame.shape[1], left - x + side)
        square[high - top + y : low - top + y, near - left + x : far - left + x] = frame[high:low, near:far]
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC)
