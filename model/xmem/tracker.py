"""One video, step by step: the order in which XMem reads, segments and memorises.

Shapes: N objects known so far, H W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from model.xmem.contests import Contests, aggregate, per_contest, sum_of_others, without_backgrounds
from model.xmem.framing import padding_for, unpad
from model.xmem.memory import Memory, MemoryConfig
from model.xmem.network import FrameKey, FrameParts, XMem


class XMemTracker:
    """Carries the masks of several objects from frame to frame.

    Frames are numbered from the first ``step``, which must bring a mask. A frame is segmented from what
    earlier frames left in memory; it never reads itself.

    Args:
        network: in evaluation mode, on any device and in any dtype.
        config: how memory is kept.
        contests: numbers of objects that compete with one another but not with the rest, so that several
            questions share keys and affinity and still come out as if tracked alone, to the last bit: each
            contest is a batch of its own, for what a batch rounds hangs on its size. All objects enter in
            the first step then. None: all objects compete, and more may enter later.

    Raises:
        ValueError: a contest without objects.
    """

    def __init__(self, network: XMem, config: MemoryConfig | None = None, contests: Contests = None):
        if contests is not None and not (len(contests) and min(contests) >= 1):
            raise ValueError(f"expected contests of at least one object each, got {list(contests)}")
        self.network = network
        self.contests = contests
        self.config = MemoryConfig() if config is None else config
        self.memory = Memory(self.config)
        self._size: torch.Size | None = None
        self._time = -1
        self._last_memory_time = 0
        self._last_deep_time = -self.config.deep_update_every

    @torch.inference_mode()
    def encode(self, image: Tensor) -> FrameKey:
        """Features of a frame, for ``step(..., frame_key=...)`` of this tracker and of any other of this
        network.

        Args:
            image: float [3, H, W], ImageNet-normalised, unpadded. For networks whose trunk takes images.
        """
        return self.network.encode_key(self._padded(image)[None])

    def _padded(self, image: Tensor) -> Tensor:
        return functional.pad(image, padding_for(*image.shape[-2:]))

    @torch.inference_mode()
    def step(
        self,
        image: Tensor,
        masks: Tensor | None = None,
        *,
        given: list[int] | None = None,
        end: bool = False,
        frame_key: FrameKey | None = None,
        frame_parts: FrameParts | None = None,
        refine: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Take the next frame.

        Args:
            image: float [3, H, W], ImageNet-normalised, any size, unpadded.
            masks: float or bool [N, H, W] in [0, 1], one row per object known so far and then per new object.
            given: rows of ``masks`` that hold a mask; None: all. The other rows are filled from the
                prediction, which gives way wherever a given mask is above 0.5.
            end: the last frame: nothing is memorised.
            frame_key: features of this frame, padded as ``encode`` does it, if they are known already.
            frame_parts: ``network.frame_parts(frame_key)``, where another tracker takes the same frame.
            refine: improves a prediction before it is used and memorised: float32 [1 + N, H, W] to the same;
                called for each contest.

        Returns:
            mask_probs, float32 [1 + N, H, W], background first, summing to 1 over the first axis. With
            contests [K + N, H, W]: those of each contest, one after another.

        Raises:
            RuntimeError: no mask yet.
            ValueError: ``masks`` or ``given`` do not fit.
        """
        if masks is None and not self.memory.num_objects:
            raise RuntimeError("the first frame needs a mask: call step(image, masks) before step(image)")
        given = self._check(image, masks, given)
        self._time += 1
        memorise = not end and (
            masks is not None or self._time - self._last_memory_time >= self.config.mem_every
        )
        synchronous = self.config.deep_update_every < 0
        deep_due = synchronous or self._time - self._last_deep_time >= self.config.deep_update_every
        deep_update = memorise and deep_due
        light_update = not end and not (synchronous and memorise)

        padding = padding_for(*image.shape[-2:])
        image = self._padded(image)[None]
        if frame_key is None:
            frame_key = self.network.encode_key(image)

        mask_probs = None
        if self._time > 0 and (masks is None or len(given) < len(masks)):
            readout = self.memory.read(frame_key.key, frame_key.selection)
            mask_probs = self._segment(
                frame_parts or self.network.frame_parts(frame_key), readout, light_update
            )
            if refine is not None:
                refined = [refine(part) for part in per_contest(unpad(mask_probs[0], padding), self.contests)]
                mask_probs = functional.pad(torch.cat(refined), padding)[None]
        if masks is not None:
            masks = functional.pad(masks.to(image.device, torch.float32), padding)
            mask_probs = self._merge(masks, given, mask_probs)
            entering = len(masks) - self.memory.num_objects
            if entering:
                for count in self.contests or [entering]:
                    self.memory.enter(count, self.network.hidden_dim, frame_key.key)
        if memorise:
            self._memorise(image, frame_key, mask_probs, deep_update)
        return unpad(mask_probs[0], padding)

    def _check(self, image: Tensor, masks: Tensor | None, given: list[int] | None) -> list[int]:
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(f"expected an image [3, H, W], got {list(image.shape)}")
        if self._size not in (None, image.shape[1:]):
            raise ValueError(
                f"all frames of a video must have one size: the first was {list(self._size)}, "
                f"this one is {list(image.shape[1:])}; resize it or start a new tracker"
            )
        self._size = image.shape[1:]
        if masks is None:
            return []
        known = self.memory.num_objects
        if self.contests is not None and len(masks) != sum(self.contests):
            raise ValueError(
                f"contests {list(self.contests)} need {sum(self.contests)} masks, got {len(masks)}"
            )
        if masks.ndim != 3 or masks.shape[1:] != image.shape[1:] or len(masks) < max(1, known):
            raise ValueError(
                f"expected masks [N, {image.shape[1]}, {image.shape[2]}] with a row for each of the {known} "
                f"objects known so far and at least one row, got {list(masks.shape)}"
            )
        rows = set(range(len(masks)) if given is None else given)
        if not rows <= set(range(len(masks))):
            raise ValueError(f"given names rows {sorted(rows)}, but masks has {len(masks)} rows")
        missing = sorted(set(range(known, len(masks))) - rows)
        if missing:
            raise ValueError(f"rows {missing} of masks are new objects: name them in given, with their masks")
        return sorted(rows)

    def _merge(self, masks: Tensor, given: list[int], predicted: Tensor | None) -> Tensor:
        """Aggregated probabilities [1, K + N, H, W] of given masks and predicted ones [1, K + M, H, W]."""
        if predicted is not None:
            predicted = without_backgrounds(predicted, self.contests)[0]
            filled = [row for row in range(len(predicted)) if row not in given]
            claimed = torch.zeros_like(masks)
            claimed[given] = masks[given]
            outside = sum_of_others(claimed[None], self.contests)[0] <= 0.5
            masks = masks.clone()
            masks[filled] = predicted[filled] * outside[filled]
        return aggregate(masks[None], self.contests)[1]

    def _segment(self, frame: FrameParts, readout: Tensor, light_update: bool) -> Tensor:
        """mask_probs [1, K + N, H, W] by a batch for each contest; renews the sensory state."""
        answers = [
            self.network.segment(frame, *parts, light_update)
            for parts in zip(self._split(readout), self._split(self.memory.sensory), strict=True)
        ]
        self.memory.sensory = torch.cat([sensory for _, _, sensory in answers], 1)
        return torch.cat([mask_probs for _, mask_probs, _ in answers], 1)

    def _memorise(self, image: Tensor, frame_key: FrameKey, mask_probs: Tensor, deep_update: bool) -> None:
        object_probs = without_backgrounds(mask_probs, self.contests)
        answers = [
            self.network.encode_value(image, frame_key.f16, *parts, deep_update)
            for parts in zip(self._split(self.memory.sensory), self._split(object_probs), strict=True)
        ]
        value = torch.cat([value for value, _ in answers], 1)
        self.memory.add(frame_key.key, frame_key.shrinkage, frame_key.selection, value)
        self._last_memory_time = self._time
        if deep_update:
            self.memory.sensory = torch.cat([sensory for _, sensory in answers], 1)
            self._last_deep_time = self._time

    def _split(self, objects: Tensor) -> tuple[Tensor, ...]:
        """float [1, N, ...] -> each contest's part of it."""
        return objects.split(list(self.contests) if self.contests else objects.shape[1], 1)
