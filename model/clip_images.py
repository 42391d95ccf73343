"""Frames as CLIP's image encoders take them.

The steps of the published processors, on PIL whether or not torchvision is there: torchvision interpolates
otherwise, and the published systems saw PIL's pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil


class ClipImages:
    """Shorter side to S (bicubic), centre crop, CLIP's normalisation.

    Args:
        size: S, the encoder's input side: 224 for VISA, 336 for VideoLISA.
        pad_square: first pad a frame to a square in CLIP's mean colour, so that nothing is cropped;
            Chat-UniVi does so with the images of its own question-answer data. Videos are always cropped.
    """

    def __init__(self, size: int = 224, *, pad_square: bool = False):
        self.size = size
        self.pad_square = pad_square
        self._processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
        self.padding_colour = tuple(int(255 * mean) for mean in self._processor.image_mean)

    def __call__(self, frames: np.ndarray) -> Tensor:
        """Normalised crops.

        Args:
            frames: uint8 [T, H, W, 3], RGB, T >= 1.

        Returns:
            float32 [T, 3, S, S] on the CPU.

        Raises:
            ValueError: another shape or dtype, or no pixel.
        """
        return self._process(frames)

    def crops(self, frames: np.ndarray) -> Tensor:
        """The crops before normalisation: uint8 [T, 3, S, S]. Arguments as above."""
        return self._process(frames, do_rescale=False, do_normalize=False)

    def _process(self, frames: np.ndarray, **steps: bool) -> Tensor:
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
            raise ValueError(f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
        if self.pad_square:
            frames = self._padded(frames)
        # Said outright, as a frame of three rows could be taken for three channels.
        processed = self._processor(list(frames), input_data_format="channels_last", **steps)
        return torch.from_numpy(np.stack(processed["pixel_values"]))

    def _padded(self, frames: np.ndarray) -> np.ndarray:
        """[T, H, W, 3] in the middle of [T, side, side, 3]."""
        count, height, width, _ = frames.shape
        side = max(height, width)
        padded = np.empty((count, side, side, 3), np.uint8)
        padded[:] = self.padding_colour
        top, left = (side - height) // 2, (side - width) // 2
        padded[:, top : top + height, left : left + width] = frames
        return padded
