"""One video, step by step: the order in which XMem reads, segments and memorises.

Shapes: N objects known so far, H W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from model.xmem.framing import padding_for, unpad
from model.xmem.memory import Memory, MemoryConfig
from model.xmem.network import FrameKey, XMem, aggregate


class XMemTracker:
    """Carries the masks of several objects from frame to frame.

    Frames are numbered from the first ``step``, which must bring a mask. A frame is segmented from what
    earlier frames left in memory; it never reads itself.

    Args:
        network: in evaluation mode, on any device and in any dtype.
        config: how memory is kept.
    """

    def __init__(self, network: XMem, config: MemoryConfig | None = None):
        self.network = network
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
            refine: improves a prediction before it is used and memorised: float32 [1 + N, H, W] to the same.

        Returns:
            mask_probs, float32 [1 + N, H, W], background first, summing to 1 over the first axis.

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
            _, mask_probs, sensory = self.network.segment(
                frame_key, readout, self.memory.sensory, light_update
            )
            self.memory.sensory = sensory
            if refine is not None:
                mask_probs = functional.pad(refine(unpad(mask_probs[0], padding)), padding)[None]
        if masks is not None:
            masks = functional.pad(masks.to(image.device, torch.float32), padding)
            mask_probs = self._merge(masks, given, mask_probs)
            entering = len(masks) - self.memory.num_objects
            if entering:
                self.memory.enter(entering, self.network.hidden_dim, frame_key.key)
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

    @staticmethod
    def _merge(masks: Tensor, given: list[int], predicted: Tensor | None) -> Tensor:
        """Aggregated probabilities [1, 1 + N, H, W] of given masks and predicted ones [1, 1 + M, H, W]."""
        if predicted is not None:
            filled = [row for row in range(predicted.shape[1] - 1) if row not in given]
            outside = masks[given].sum(0) <= 0.5
            masks = masks.clone()
            masks[filled] = predicted[0, 1:][filled] * outside
        return aggregate(masks[None])[1]

    def _memorise(self, image: Tensor, frame_key: FrameKey, mask_probs: Tensor, deep_update: bool) -> None:
        value, sensory = self.network.encode_value(
            image, frame_key.f16, self.memory.sensory, mask_probs[:, 1:], deep_update
        )
        self.memory.add(frame_key.key, frame_key.shrinkage, frame_key.selection, value)
        self._last_memory_time = self._time
        if deep_update:
            self.memory.sensory = sensory
            self._last_deep_time = self._time
