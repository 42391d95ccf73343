"""Propagate: carry the masks of one frame through the whole clip, both ways in time.

VISA (Yan et al., ECCV 2024, section 3.4) runs XMem forwards and backwards from the target frame. Here the
target frame is encoded once for both directions, all objects go as one batch, and the target frame keeps the
masks it was given. Shapes: N objects, T frames, H W pixels of the video, h w pixels at which it is tracked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.xmem import FrameKey, MemoryConfig, XMem, XMemTracker
from model.xmem.framing import normalise, padding_for, resize_images, resize_masks, working_size
from visa.video import Video

# Called as progress(done, total), in frames.
FrameProgress = Callable[[int, int], None]

CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class TrackedFrame:
    """A frame as the tracker takes it.

    Attributes:
        image: float [3, h, w], ImageNet-normalised, unpadded.
        frame_key: the network's features of the padded image.
        refine: what improves a prediction of this frame, float32 [1 + N, h, w] to the same; None for nothing.
        held_bytes: memory that ``refine`` keeps alive.
    """

    image: Tensor
    frame_key: FrameKey
    refine: Callable[[Tensor], Tensor] | None = None
    held_bytes: int = 0


# Makes the tracker's frame of one uint8 [H, W, 3] RGB frame.
FrameEncoder = Callable[[np.ndarray], TrackedFrame]


@dataclass(frozen=True)
class ImageEncoder:
    """Frames for a network whose key trunk reads the image itself, as the published XMem does.

    Args:
        network: XMem.
        short_side: pixels of the shorter side while tracking; 480 in VISA, None for the video's own size.
    """

    network: XMem
    short_side: int | None = 480

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> TrackedFrame:
        """uint8 [H, W, 3] -> TrackedFrame on the network's device, in its dtype."""
        like = next(self.network.parameters())
        image = normalise(torch.from_numpy(np.ascontiguousarray(frame)).to(like.device))[None]
        image = resize_images(image, working_size(*image.shape[-2:], self.short_side)).to(like.dtype)
        padded = functional.pad(image, padding_for(*image.shape[-2:]))
        return TrackedFrame(image[0], self.network.encode_key(padded))


class ClipFeatures:
    """The tracker's frames of one clip, encoded when first asked for and shared by all its questions.

    Invariant: at most ``cache_bytes`` are held, the least recently used going first; the newest is always
        held.

    Args:
        video: the clip.
        encoder: as the Propagator's.
        cache_bytes: bound on what is held.
    """

    def __init__(self, video: Video, encoder: FrameEncoder, cache_bytes: int = CACHE_BYTES) -> None:
        self.video, self.encoder, self.cache_bytes = video, encoder, cache_bytes
        self._held: OrderedDict[int, TrackedFrame] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, index: int) -> TrackedFrame:
        """Frame ``index`` as the tracker takes it."""
        if index not in self._held:
            self._held[index] = self.encoder(self.video[index])
            self._bytes += _bytes_of(self._held[index])
            while self._bytes > self.cache_bytes and len(self._held) > 1:
                self._bytes -= _bytes_of(self._held.popitem(last=False)[1])
        self._held.move_to_end(index)
        return self._held[index]


def _bytes_of(frame: TrackedFrame) -> int:
    maps = [frame.image, *(getattr(frame.frame_key, field.name) for field in fields(frame.frame_key))]
    return frame.held_bytes + sum(each.numel() * each.element_size() for each in maps)


class Propagator:
    """Carries masks from one frame of a video to all of its frames.

    Args:
        network: XMem, in evaluation mode.
        config: how memory is kept; VISA's settings by default.
        encoder: how a frame is read; ``ImageEncoder(network)`` by default.
        autocast: dtype of the convolutions, such as bfloat16; None for the network's own.
    """

    def __init__(
        self,
        network: XMem,
        config: MemoryConfig | None = None,
        encoder: FrameEncoder | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.network = network
        self.autocast = autocast
        self.config = MemoryConfig() if config is None else config
        self.encoder = ImageEncoder(network) if encoder is None else encoder

    def features(self, video: Video) -> ClipFeatures:
        """Frames of a clip to share between calls of ``propagate`` and ``stream``."""
        return ClipFeatures(video, self.encoder)

    def propagate(
        self,
        video: Video,
        target_frame: int,
        masks: np.ndarray | Tensor,
        *,
        progress: FrameProgress | None = None,
        features: ClipFeatures | None = None,
    ) -> np.ndarray:
        """Masks of all frames.

        Args:
            video: the clip.
            target_frame: the frame that ``masks`` belong to, 0 <= target_frame < T.
            masks: bool [N, H, W]. An empty mask stays empty in all frames, and the network does not run for
                it.
            progress: called after every frame.
            features: of this clip, when it is propagated more than once.

        Returns:
            bool [N, T, H, W]; at most one object per pixel outside the target frame.

        Raises:
            ValueError: there is no such frame, or the masks do not have the video's size.
        """
        result = np.zeros((len(masks), len(video), video.height, video.width), dtype=bool)
        frames = self.stream(video, target_frame, masks, features=features)
        for done, (index, frame_masks) in enumerate(frames, start=1):
            result[:, index] = frame_masks
            if progress is not None:
                progress(done, len(video))
        return result

    def propagate_anchored(
        self,
        video: Video,
        frames: Sequence[int],
        masks: np.ndarray,
        *,
        progress: FrameProgress | None = None,
        features: ClipFeatures | None = None,
    ) -> np.ndarray:
        """Masks of all frames from those of several.

        As XMem++ (Bekuzarov et al. 2023, arXiv 2307.15958) does for VideoLISA: what was drawn is memorised
        before anything is tracked, then one pass goes from the first frame to the last. Two things differ:
        frames that were drawn keep their masks, and in a long video all of them but the first are condensed
        in time, like any other frame in memory.

        Args:
            video: the clip.
            frames: F different frame indices.
            masks: bool [N, F, H, W]. Frames without any object are passed over, like the clip if all are.
            progress, features: as for `propagate`.

        Returns:
            bool [N, T, H, W].

        Raises:
            ValueError: there are no such frames, or the masks do not have their number and the video's size.
        """
        length, size = len(video), (video.height, video.width)
        if len({*frames} & {*range(length)}) != len(frames):
            raise ValueError(f"frames must be different ones of 0..{length - 1}, got {list(frames)}")
        if masks.dtype != bool or masks.shape[1:] != (len(frames), *size):
            raise ValueError(
                f"masks must be bool [N, {len(frames)}, {size[0]}, {size[1]}], "
                f"got {masks.dtype} {list(masks.shape)}"
            )
        result = np.zeros((len(masks), length, *size), dtype=bool)
        result[:, list(frames)] = masks
        features = features or self.features(video)
        present = masks.any((1, 2, 3))
        anchors = [place for place in range(len(frames)) if masks[:, place].any()]
        tracker = XMemTracker(self.network, self.config)
        for place in anchors:
            self._step(tracker, features[frames[place]], torch.from_numpy(masks[present, place]))
            # What moved is no use at the next frame, which is of another time.
            tracker.memory.sensory = torch.zeros_like(tracker.memory.sensory)
        for index in range(length):
            if anchors and index not in frames:
                probs = self._step(tracker, features[index], end=index == length - 1)
                result[present, index] = self._winners(probs, size)
            if progress is not None:
                progress(index + 1, length)
        return result

    def stream(
        self,
        video: Video,
        target_frame: int,
        masks: np.ndarray | Tensor,
        *,
        features: ClipFeatures | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """The same frame by frame, as soon as each is known: (frame index, bool [N, H, W]).

        Order: the target frame, on to the last frame, then from the target frame back to the first.
        """
        masks = np.asarray(masks.cpu() if isinstance(masks, Tensor) else masks)
        if not 0 <= target_frame < len(video):
            raise ValueError(f"target_frame must be in 0..{len(video) - 1}, got {target_frame}")
        if masks.dtype != bool or masks.ndim != 3 or masks.shape[1:] != (video.height, video.width):
            raise ValueError(
                f"masks must be bool [N, {video.height}, {video.width}] like the video, "
                f"got {masks.dtype} {list(masks.shape)}"
            )
        return self._stream(features or self.features(video), target_frame, masks)

    def _stream(
        self, features: ClipFeatures, target_frame: int, masks: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        yield target_frame, masks.copy()
        last = len(features.video) - 1
        present = masks.any((1, 2))
        for others in (range(target_frame + 1, last + 1), range(target_frame - 1, -1, -1)):
            if not others:
                continue
            if not present.any():
                yield from ((index, np.zeros_like(masks)) for index in others)
                continue
            tracker = XMemTracker(self.network, self.config)
            self._step(tracker, features[target_frame], torch.from_numpy(masks[present]))
            for index in others:
                probs = self._step(tracker, features[index], end=index == others[-1])
                frame_masks = np.zeros_like(masks)
                frame_masks[present] = self._winners(probs, masks.shape[1:])
                yield index, frame_masks

    def _step(
        self, tracker: XMemTracker, frame: TrackedFrame, masks: Tensor | None = None, end: bool = False
    ) -> Tensor:
        if masks is not None:
            masks = resize_masks(masks, tuple(frame.image.shape[-2:]))
        with torch.autocast(frame.image.device.type, self.autocast, enabled=self.autocast is not None):
            return tracker.step(frame.image, masks, end=end, frame_key=frame.frame_key, refine=frame.refine)

    @staticmethod
    def _winners(mask_probs: Tensor, size: tuple[int, int]) -> np.ndarray:
        """float [1 + N, h, w] -> bool [N, H, W], where the object's probability is the largest."""
        winner = resize_images(mask_probs[None], size)[0].argmax(0)
        objects = torch.arange(1, len(mask_probs), device=winner.device)
        return (winner == objects[:, None, None]).cpu().numpy()
