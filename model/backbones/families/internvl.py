"""InternVL3 as transformers has it (arXiv 2504.10479, ``-hf`` repositories): a square of 256 cells a frame.

A frame is pressed into the square whatever its shape, and never cut into tiles: a cell is always the same
part of a frame. Frames of a video are numbered in words.
"""

from collections.abc import Sequence

import numpy as np

from model.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, PixelSettings, normalised, resized
from model.backbones.transformers_backbone import (
    Shown,
    TransformersBackbone,
    VisualTokens,
    check_budget,
    grid_of_cells,
    sides,
)
from model.steering.soft_prompt import Stream

START, END = "<img>", "</img>"


class Adapter(TransformersBackbone):
    """See `TransformersBackbone`."""

    pixels = PixelSettings(IMAGENET_MEAN, IMAGENET_STD)

    def control_words(self) -> tuple[str, ...]:
        return (*super().control_words(), START, END)

    def show(
        self, frames: np.ndarray, stream: Stream, max_tokens: int | None, seconds: Sequence[float]
    ) -> Shown:
        """See `TransformersBackbone.show`; the clock is not looked at."""
        config = self.model.config
        height, width = sides(config.vision_config.image_size)
        patch_height, patch_width = sides(config.vision_config.patch_size)
        rows = int(height // patch_height * config.downsample_ratio)
        cols = int(width // patch_width * config.downsample_ratio)
        check_budget(self.family, rows * cols, max_tokens)
        parts: list[str | VisualTokens] = []
        for index in range(len(frames)):
            label = f"Frame{index + 1}: " if stream == "video" else ""
            parts += [label + START, grid_of_cells(config.image_token_id, rows, cols, (index,)), f"{END}\n"]
        images = normalised(resized(frames, height, width, self.pixel_settings.resample), self.pixel_settings)
        return Shown({"pixel_values": images}, tuple(parts))
