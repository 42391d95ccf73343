"""SmolVLM and SmolVLM2 (arXiv 2504.05299): a square of few cells a frame, a video told in words.

A frame is pressed into the square whatever its shape, and never cut into tiles: a cell is always the same
part of a frame.
"""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from PIL import Image
from torch import nn

from model.backbones.pixels import HALF, PixelSettings, normalised, resized
from model.backbones.transformers_backbone import (
    Shown,
    TransformersBackbone,
    VisualTokens,
    check_budget,
    grid_of_cells,
)
from model.backbones.writing import Wording
from model.steering.soft_prompt import Stream

AROUND, WHOLE = "<fake_token_around_image>", "<global-img>"
# How large a picture is made before it is pressed into the square, in squares.
PICTURE_SIDES = 4
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


class Adapter(TransformersBackbone):
    """See `TransformersBackbone`."""

    wording = Wording(
        opening="<|im_start|>",
        turn="{role}:",
        closing="<end_of_utterance>\n",
        answer="Assistant:",
        without_frames=" ",
        space=" ",
        capital_roles=True,
    )
    pixels = PixelSettings(HALF, HALF, Image.Resampling.LANCZOS)

    def control_words(self) -> tuple[str, ...]:
        return (*super().control_words(), AROUND, WHOLE)

    @property
    def language_model(self) -> nn.Module:
        """The language model's decoder stack."""
        return self.core.text_model

    def show(
        self, frames: np.ndarray, stream: Stream, max_tokens: int | None, seconds: Sequence[float]
    ) -> Shown:
        """See `TransformersBackbone.show`."""
        config = self.model.config
        side = config.vision_config.image_size
        grid = side // config.vision_config.patch_size // config.scale_factor
        check_budget(self.family, grid * grid, max_tokens)
        parts: list[str | VisualTokens] = []
        if stream == "video":
            length = timedelta(seconds=int(seconds[-1]))
            parts.append(
                f" You are provided the following series of {spelled_out(len(frames))} frames from a "
                f"{length} [H:MM:SS] video.\n"
            )
        for index, second in enumerate(seconds):
            if stream == "video":
                parts.append(f"\nFrame from {int(second // 60):02d}:{int(second % 60):02d}:")
            cells = grid_of_cells(config.image_token_id, grid, grid, (index,))
            parts += [AROUND + WHOLE, cells, AROUND]
        if stream == "video":
            parts.append("\n\n")
        longest = self._longest(side) if stream == "frame" else side
        images = normalised(self._squares(frames, longest, side), self.pixel_settings)
        return Shown({"pixel_values": images[None]}, tuple(parts))

    def _longest(self, side: int) -> int:
        """Pixels along a picture's longer side before it is made a square."""
        size = self.settings.get("size") or {}
        return size.get("longest_edge") or PICTURE_SIDES * side

    def _squares(self, frames: np.ndarray, longest: int, side: int) -> np.ndarray:
        """Resized twice, as the published processor does: to its longer side, then to the square."""
        height, width = frames.shape[1:3]
        shorter = int(longest * min(height, width) / max(height, width))
        shorter = max(1, shorter + shorter % 2)
        size = (shorter, longest) if width >= height else (longest, shorter)
        resample = self.pixel_settings.resample
        return resized(resized(frames, *size, resample), side, side, resample)


def spelled_out(number: int) -> str:
    """A number from 0 to 999 in English words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{ONES[hundreds]} hundred" + (f" and {spelled_out(rest)}" if rest else "")
