"""After a cut, is what is followed still the thing that was pointed at?

A tracker that meets another shot fills what it remembers into whatever lies there. So where the picture
changes from one frame to the next as it does at a cut, an object must look as it did in its target frame to
be drawn at all, until the end of the walk. Looks are those of the tracker's image encoder, means over a mask.
Shapes: N objects, C channels, h w pixels while tracking, r c their places.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.xmem import aggregate

# Cosines of MobileSAM's features. Two frames whose means are less alike than this belong to two shots: of
# filmed synthetic clips' cuts 11 of 12 are below it, of their other steps none, nor any of davis7's.
CUT = 0.94
# An object is the same if it is as like itself; seen from the mean of both frames. Of things followed into
# another shot four of five are below it; within one shot two in a hundred, but there nothing is asked.
LIKE = 0.8
# What fills the frame is nothing beside its mean: it is the same, too, if the looks themselves are as alike
# as this. Of things followed into another shot nine of ten are below 0.89.
SAME = 0.95


class Recogniser:
    """Knows the objects of one question by their looks in the target frame.

    Args:
        look: float [C, r, c], the frame's features.
        masks: bool [N, h, w], none of them empty.
    """

    def __init__(self, look: Tensor, masks: Tensor):
        look = functional.normalize(look.float(), dim=0)
        self._mean = self._last = look.mean((1, 2))
        self._looks = _looks(look, masks.float())
        self._cut = False

    def __call__(self, look: Tensor, mask_probs: Tensor) -> Tensor:
        """Takes out what is not recognised.

        Args:
            look: of the next frame.
            mask_probs: float [1 + N, h, w], background first.
        """
        look = functional.normalize(look.float(), dim=0)
        mean = look.mean((1, 2))
        self._cut |= bool(torch.cosine_similarity(mean, self._last, dim=0) < CUT)
        self._last = mean
        if not self._cut:
            return mask_probs
        objects = torch.arange(1, len(mask_probs), device=mask_probs.device)
        seen = _looks(look, (mask_probs.argmax(0) == objects[:, None, None]).float())
        middle = (mean + self._mean) / 2
        unlike = torch.cosine_similarity(seen - middle, self._looks - middle, dim=1) < LIKE
        unlike &= torch.cosine_similarity(seen, self._looks, dim=1) < SAME
        if not unlike.any():
            return mask_probs
        return aggregate(mask_probs[1:].masked_fill(unlike[:, None, None], 0.0)[None])[1][0]


def _looks(look: Tensor, masks: Tensor) -> Tensor:
    """Mean features float [N, C] over masks float [N, h, w]; of an empty one zero."""
    shares = functional.interpolate(masks[None], look.shape[1:], mode="area")[0].to(look.device)
    with torch.autocast(look.device.type, enabled=False):  # the target frame's were taken in float32 too
        return torch.einsum("nrc,krc->nk", shares, look) / shares.sum((1, 2)).clamp(min=1e-6)[:, None]
