"""The frames of a clip as the tracker takes them: read, encoded once, and held as long as memory allows.

Shapes: H W pixels of the video, h w pixels at which it is tracked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.xmem import FrameKey, XMem
from model.xmem.framing import normalise, padding_for, resize_images, working_size
from visa.video import Video

CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class TrackedFrame:
    """A frame as the tracker takes it.

    Attributes:
        pixels: uint8 [h, w, 3] RGB, or what ``normalise`` and a resizing made of it, float [3, h, w];
            unpadded.
        frame_key: the network's features of the padded image.
        refine: what improves a prediction of this frame, float32 [1 + N, h, w] to the same; None for nothing.
        look: float [C, r, c], by which objects are recognised after a cut; None: they are not.
        held_bytes: memory that ``refine`` and ``look`` keep alive.
    """

    pixels: Tensor
    frame_key: FrameKey
    refine: Callable[[Tensor], Tensor] | None = None
    held_bytes: int = 0
    look: Tensor | None = None

    @property
    def image(self) -> Tensor:
        """float [3, h, w], ImageNet-normalised. Bytes take a quarter of its memory while a frame is held."""
        return normalise(self.pixels) if self.pixels.dtype == torch.uint8 else self.pixels

    @property
    def num_bytes(self) -> int:
        """Memory that the frame takes."""
        maps = [self.pixels, *(getattr(self.frame_key, field.name) for field in fields(self.frame_key))]
        return self.held_bytes + sum(each.numel() * each.element_size() for each in maps)


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
        """uint8 [H, W, 3] -> TrackedFrame on the network's device."""
        like = next(self.network.parameters())
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).to(like.device)
        size = working_size(*frame.shape[:2], self.short_side)
        image = resize_images(normalise(pixels)[None], size)
        frame_key = self.network.encode_key(functional.pad(image.to(like.dtype), padding_for(*size)))
        return TrackedFrame(pixels if size == frame.shape[:2] else image[0], frame_key)


class ClipFeatures:
    """The tracker's frames of one clip, encoded when first asked for and shared by all its questions.

    Invariant: at most ``cache_bytes`` are held; the newest is always held. Of the others the one used last
        goes first: questions walk the clip in the same order, and whoever forgets the oldest has forgotten
        each frame of a long clip just before it is asked for again.

    Args:
        video: the clip.
        encoder: as the Propagator's.
        cache_bytes: bound on what is held.
    """

    def __init__(self, video: Video, encoder: FrameEncoder, cache_bytes: int = CACHE_BYTES) -> None:
        self.video, self.encoder, self.cache_bytes = video, encoder, cache_bytes
        self._held: OrderedDict[int, TrackedFrame] = OrderedDict()
        self._bytes = 0
        self._ahead: tuple[int, Future] | None = None

    def __getitem__(self, index: int) -> TrackedFrame:
        """Frame ``index`` as the tracker takes it."""
        if index in self._held:
            self._held.move_to_end(index)
            return self._held[index]
        frame = self.encoder(self._read(index))
        self._bytes += frame.num_bytes
        while self._bytes > self.cache_bytes and self._held:
            self._bytes -= self._held.popitem()[1].num_bytes
        self._held[index] = frame
        return frame

    def read_ahead(self, index: int, reader: Executor) -> None:
        """Let ``reader`` read frame ``index`` meanwhile, unless it is known.

        ``settle`` before anyone else may read the video.
        """
        if index not in self._held and self._ahead is None:
            self._ahead = index, reader.submit(self.video.__getitem__, index)

    def settle(self) -> None:
        """Wait until nobody is reading the video."""
        if self._ahead is not None:
            wait([self._ahead[1]])

    def _read(self, index: int) -> np.ndarray:
        self.settle()
        ahead, self._ahead = self._ahead, None
        return ahead[1].result() if ahead is not None and ahead[0] == index else self.video[index]
