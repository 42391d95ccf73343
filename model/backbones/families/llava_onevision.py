"""LLaVA-OneVision (arXiv 2408.03326): one picture in tiles, several in squares, a video pooled.

One picture is shown as a thumbnail and as tiles put together to one grid, cut to the picture's shape, with a
newline token at the end of each row; its cells are those of that finer grid. Of several pictures each is
put in the middle of a square, and its cells are those that do not lie in the square's margin. A video's
frames are pressed into the square, and 2 x 2 patches pooled to a cell.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers.image_processing_utils import select_best_resolution

from model.backbones.pixels import HALF, PixelSettings, normalised, resized
from model.backbones.transformers_backbone import (
    Shown,
    TransformersBackbone,
    VisualTokens,
    check_budget,
)
from model.backbones.writing import Wording
from model.mllm.layout import FrameSpan
from model.steering.soft_prompt import Stream

SHRUNK_ABOVE = 1.1  # a grid of more than so many times the most tiles, along a side, is made coarser


class Adapter(TransformersBackbone):
    """See `TransformersBackbone`."""

    wording = Wording(
        turn="<|im_start|>{role} ", closing="<|im_end|>", before_words="\n", without_frames="\n"
    )
    pixels = PixelSettings(HALF, HALF)

    def show(
        self, frames: np.ndarray, stream: Stream, max_tokens: int | None, seconds: Sequence[float]
    ) -> Shown:
        """See `TransformersBackbone.show`; the clock is not looked at."""
        if stream == "video":
            return self._video(frames, max_tokens)
        return self._picture(frames, max_tokens) if len(frames) == 1 else self._pictures(frames, max_tokens)

    @property
    def side(self) -> int:
        """Of the tower's square, in pixels."""
        return self.model.config.vision_config.image_size

    @property
    def patches(self) -> int:
        """Along the square's side."""
        return self.side // self.model.config.vision_config.patch_size

    def _video(self, frames: np.ndarray, max_tokens: int | None) -> Shown:
        pooled = math.ceil(self.patches / 2)
        check_budget(self.family, pooled * pooled, max_tokens)
        spans = tuple(
            FrameSpan(index * pooled * pooled, pooled, pooled, shows=(index,)) for index in range(len(frames))
        )
        images = self._images(resized(frames, self.side, self.side, self.pixel_settings.resample))
        count = len(frames) * pooled * pooled + 1  # a newline ends the video
        tokens = VisualTokens(self.model.config.video_token_id, count, spans)
        return Shown({"pixel_values_videos": images[None]}, (tokens,))

    def _pictures(self, frames: np.ndarray, max_tokens: int | None) -> Shown:
        count = self.patches**2 + 1  # with a newline
        check_budget(self.family, count, max_tokens)
        size = frames.shape[1:3]
        padded = padded_to_square(frames, tuple(int(255 * mean) for mean in self.pixel_settings.mean))
        images = self._images(resized(padded, self.side, self.side, self.pixel_settings.resample))
        # Cells whose middle lies in the picture.
        rows, cols = (max(1, round(self.patches * length / max(size))) for length in size)
        start = (self.patches - rows) // 2 * self.patches + (self.patches - cols) // 2
        token = self.model.config.image_token_id
        parts = tuple(
            VisualTokens(token, count, (FrameSpan(start, rows, cols, self.patches, (index,)),))
            for index in range(len(frames))
        )
        inputs = {
            "pixel_values": images[:, None],
            "image_sizes": torch.tensor([size] * len(frames)),
            "batch_num_images": torch.tensor([len(frames)]),
        }
        return Shown(inputs, parts)

    def _picture(self, frames: np.ndarray, max_tokens: int | None) -> Shown:
        size = self._size_within(frames.shape[1:3], max_tokens)
        frames = resized(frames, *size, self.pixel_settings.resample)
        rows, cols = self._fine_grid(size)
        thumbnail = self.patches**2
        span = FrameSpan(thumbnail, rows, cols, cols + 1, (0,))
        tokens = VisualTokens(self.model.config.image_token_id, thumbnail + rows * (cols + 1), (span,))
        inputs = {
            "pixel_values": self._images(self._tiles(frames[0]))[None],
            "image_sizes": torch.tensor([size]),
            "batch_num_images": torch.tensor([1]),
        }
        return Shown(inputs, (tokens,))

    def _size_within(self, size: tuple[int, int], max_tokens: int | None) -> tuple[int, int]:
        """The picture's own size, or the largest one whose tiles are few enough tokens."""
        best = (0, size)
        sizes = [size, *(_fit(size, grid) for grid in self.model.config.image_grid_pinpoints)]
        for candidate in sizes:
            rows, cols = self._fine_grid(candidate)
            count = self.patches**2 + rows * (cols + 1)
            if max_tokens is None:
                return candidate
            if best[0] < count <= max_tokens:
                best = (count, candidate)
        if not best[0]:
            fewest = min(self.patches**2 + rows * (cols + 1) for rows, cols in map(self._fine_grid, sizes))
            check_budget(self.family, fewest, max_tokens)
        return best[1]

    def _fine_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tiles' cells that a picture of this (height, width) keeps."""
        height, width = size
        whole = select_best_resolution(size, self.model.config.image_grid_pinpoints)
        rows, cols = (length // self.side * self.patches for length in whole)
        # The margins that the tiles' canvas has around the picture are cut off, evenly on both sides.
        if width / height > cols / rows:
            rows -= (rows - int(round(height * (cols / width), 7))) // 2 * 2
        else:
            cols -= (cols - int(round(width * (rows / height), 7))) // 2 * 2
        most = int(self.model.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(rows * cols / (most * self.patches**2))
        return (int(rows // ratio), int(cols // ratio)) if ratio > SHRUNK_ABOVE else (rows, cols)

    def _tiles(self, frame: np.ndarray) -> np.ndarray:
        """Thumbnail and tiles, row by row: uint8 [n, side, side, 3] of a frame uint8 [H, W, 3]."""
        resample, side = self.pixel_settings.resample, self.side
        whole = select_best_resolution(frame.shape[:2], self.model.config.image_grid_pinpoints)
        height, width = _fit(frame.shape[:2], whole)
        top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
        canvas = np.zeros((*whole, 3), np.uint8)
        canvas[top : top + height, left : left + width] = resized(frame[None], height, width, resample)[0]
        tiles = canvas.reshape(whole[0] // side, side, whole[1] // side, side, 3).swapaxes(1, 2)
        thumbnail = resized(frame[None], side, side, resample)
        return np.concatenate([thumbnail, tiles.reshape(-1, side, side, 3)])

    def _images(self, frames: np.ndarray) -> torch.Tensor:
        return normalised(frames, self.pixel_settings)


def padded_to_square(frames: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] in the middle of squares of one colour."""
    count, height, width, _ = frames.shape
    side = max(height, width)
    padded = np.empty((count, side, side, 3), np.uint8)
    padded[:] = colour
    top, left = (side - height) // 2, (side - width) // 2
    padded[:, top : top + height, left : left + width] = frames
    return padded


def _fit(size: tuple[int, int], room: Sequence[int]) -> tuple[int, int]:
    """The largest (height, width) of the same shape that fits into ``room``."""
    height, width = size
    if room[1] / width < room[0] / height:
        return min(math.ceil(height * room[1] / width), room[0]), room[1]
    return room[0], min(math.ceil(width * room[0] / height), room[1])
