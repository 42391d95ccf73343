"""Objects that compete for pixels, and objects that do not know of one another.

The objects of one question share a background and compete; those of different questions about the same video
must come out as if each question had been tracked alone. ``contests`` are the numbers of objects of the
questions, in the order of the objects; None: all objects compete.

Shapes: B batch, N objects, K contests, H W pixels. Probabilities with backgrounds are [B, K + N, H, W]: for
each contest its background and then its objects.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Contests = Sequence[int] | None


def aggregate(object_probs: Tensor, contests: Contests = None) -> tuple[Tensor, Tensor]:
    """Soft aggregation of independent object probabilities with a background (STM section 3.3; XMem section
    3.1), within each contest.

    Args:
        object_probs: float [B, N, H, W] in [0, 1].
        contests: see above.

    Returns:
        mask_logits and mask_probs, float32 [B, K + N, H, W], backgrounds first; the probabilities of a
        contest sum to 1.
    """
    if contests is not None:
        parts = [aggregate(part) for part in object_probs.split(tuple(contests), 1)]
        mask_logits, mask_probs = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return mask_logits, mask_probs
    object_probs = object_probs.float()
    background = (1 - object_probs).prod(1, keepdim=True)
    probs = torch.cat([background, object_probs], 1).clamp(1e-7, 1 - 1e-7)
    mask_logits = torch.log(probs / (1 - probs))
    return mask_logits, mask_logits.softmax(1)


def per_contest(mask_probs: Tensor, contests: Contests) -> tuple[Tensor, ...]:
    """float [K + N, H, W] -> for each contest its float [1 + n, H, W]."""
    return (mask_probs,) if contests is None else mask_probs.split([1 + count for count in contests])


def without_backgrounds(mask_probs: Tensor, contests: Contests = None) -> Tensor:
    """float [B, K + N, H, W] -> the objects' float [B, N, H, W]."""
    if contests is None:
        return mask_probs[:, 1:]
    return torch.cat([part[:, 1:] for part in mask_probs.split([1 + count for count in contests], 1)], 1)


def sum_of_others(object_probs: Tensor, contests: Contests = None) -> Tensor:
    """For each object the sum of its competitors' probabilities, float [B, N, H, W]."""
    parts = (object_probs,) if contests is None else object_probs.split(tuple(contests), 1)
    return torch.cat([part.sum(1, keepdim=True) - part for part in parts], 1)
