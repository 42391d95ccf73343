"""What SAM is asked: embedding, point, box and mask prompts.

Shapes: N objects, K points or embedding tokens. Coordinates are (x, y) pixels of SAM's input frame
(the picture after its longer side became 1024, see `FrameFeatures.to_input`), not of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def _check(name: str, tensor: Tensor, pattern: tuple[int | str, ...]) -> None:
    shape = tuple(tensor.shape)
    fits = len(shape) == len(pattern) and all(
        isinstance(wanted, str) or wanted == size for wanted, size in zip(pattern, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(size) for size in pattern)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(shape)}; add or remove dimensions")


@dataclass(frozen=True)
class EmbeddingPrompt:
    """Prompt embeddings made outside SAM, as LISA and VISA make them from the [SEG] state.

    Args:
        embeddings: float [N, K, 256].

    Raises:
        ValueError: the tensor does not have three dimensions.
    """

    embeddings: Tensor

    def __post_init__(self) -> None:
        _check("embeddings", self.embeddings, ("N", "K", "D"))

    @property
    def num_objects(self) -> int:
        """N."""
        return self.embeddings.shape[0]


@dataclass(frozen=True)
class PointPrompt:
    """Clicks.

    Args:
        points: float [N, K, 2], (x, y) pixels of SAM's input frame.
        labels: [N, K], 1 inside the object, 0 outside, -1 no point (for padding).

    Raises:
        ValueError: wrong shapes, or a label for another number of points.
    """

    points: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check("points", self.points, ("N", "K", 2))
        _check("labels", self.labels, (self.points.shape[0], self.points.shape[1]))

    @property
    def num_objects(self) -> int:
        """N."""
        return self.points.shape[0]


@dataclass(frozen=True)
class BoxPrompt:
    """One box per object.

    Args:
        boxes: float [N, 4], (x0, y0, x1, y1) pixels of SAM's input frame.

    Raises:
        ValueError: wrong shape.
    """

    boxes: Tensor

    def __post_init__(self) -> None:
        _check("boxes", self.boxes, ("N", 4))

    @property
    def num_objects(self) -> int:
        """N."""
        return self.boxes.shape[0]


@dataclass(frozen=True)
class MaskPrompt:
    """Earlier mask logits of the decoder, one map per object.

    Args:
        mask_logits: float [N, 1, 256, 256], over the padded input frame.

    Raises:
        ValueError: not one map per object.
    """

    mask_logits: Tensor

    def __post_init__(self) -> None:
        _check("mask_logits", self.mask_logits, ("N", 1, "H", "W"))

    @property
    def num_objects(self) -> int:
        """N."""
        return self.mask_logits.shape[0]


Prompt = EmbeddingPrompt | PointPrompt | BoxPrompt | MaskPrompt


@dataclass(frozen=True)
class JoinedPrompts:
    """Several prompts that describe the same N objects, float32, put together by their kinds.

    Attributes:
        num_objects: N, may be 0.
        points: [N, K, 2], or None. labels: [N, K], or None.
        boxes: [N, 4], or None.
        mask_logits: [N, 1, 256, 256], or None.
        embeddings: [N, K, 256], or None.
    """

    num_objects: int
    points: Tensor | None
    labels: Tensor | None
    boxes: Tensor | None
    mask_logits: Tensor | None
    embeddings: Tensor | None


def join_prompts(prompts: Prompt | Sequence[Prompt], device: torch.device) -> JoinedPrompts:
    """One prompt, or several given together, on a device.

    Raises:
        ValueError: no prompt, two boxes or masks, or prompts for different numbers of objects.
    """
    prompts = list(prompts) if isinstance(prompts, Sequence) else [prompts]
    counts = sorted({prompt.num_objects for prompt in prompts})
    if len(counts) != 1:
        raise ValueError(
            "decode needs at least one prompt, got none"
            if not counts
            else f"prompts given together must describe the same objects, got {counts} objects"
        )
    points = [prompt for prompt in prompts if isinstance(prompt, PointPrompt)]
    boxes = [prompt.boxes for prompt in prompts if isinstance(prompt, BoxPrompt)]
    masks = [prompt.mask_logits for prompt in prompts if isinstance(prompt, MaskPrompt)]
    if len(boxes) > 1 or len(masks) > 1:
        raise ValueError(f"one box and one mask per object, got {len(boxes)} and {len(masks)}; decode twice")

    def together(tensors: Sequence[Tensor]) -> Tensor | None:
        return torch.cat([each.to(device, torch.float32) for each in tensors], 1) if tensors else None

    return JoinedPrompts(
        num_objects=counts[0],
        points=together([prompt.points for prompt in points]),
        labels=together([prompt.labels for prompt in points]),
        boxes=together(boxes),
        mask_logits=together(masks),
        embeddings=together([prompt.embeddings for prompt in prompts if isinstance(prompt, EmbeddingPrompt)]),
    )
