"""Qwen's frames: any size in patches of 14 or 16 pixels, 2 x 2 of them to a cell, two frames to a patch.

Shared by Qwen2-VL, Qwen2.5-VL and Qwen3-VL. A single picture fills both places of the temporal patch; a video
of an odd number of frames has its last one twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.backbones.backbone import Packed
from model.backbones.pixels import normalised, resized
from model.backbones.transformers_backbone import Shown, TransformersBackbone, VisualTokens, grid_of_cells
from model.steering.soft_prompt import Stream

MAX_ASPECT = 200
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
# Fewest and most cells where nobody says how many: of a picture as transformers' processor has it; of a
# video's frame the most that Qwen2-VL's has, and no fewest, as small frames gain nothing by being enlarged.
PICTURE_CELLS = (4, 1280)
VIDEO_CELLS = (4, 768)


@dataclass(frozen=True)
class PatchSizes:
    """side: a patch's, in pixels. merge: patches along a cell's side. frames: of a patch in time."""

    side: int
    merge: int
    frames: int

    @property
    def cell(self) -> int:
        """A cell's side in pixels."""
        return self.side * self.merge


def fitted_size(height: int, width: int, cell: int, fewest: int, most: int) -> tuple[int, int]:
    """The nearest size that is whole cells, about of the same shape, and takes neither too few nor too many.

    Args:
        height, width: in pixels. cell: side of a cell in pixels. fewest, most: cells.

    Returns:
        (height, width) in pixels.

    Raises:
        ValueError: a frame far too narrow, or one that cannot be shown in so few cells.
    """
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"a frame of {width} x {height} pixels is too narrow; expected at most {MAX_ASPECT} : 1"
        )
    rows, cols = round(height / cell), round(width / cell)
    if rows * cols > most:
        shrink = math.sqrt(height * width / (most * cell**2))
        rows = max(1, math.floor(height / shrink / cell))
        cols = max(1, math.floor(width / shrink / cell))
    elif rows * cols < fewest:
        grow = math.sqrt(fewest * cell**2 / (height * width))
        rows, cols = math.ceil(height * grow / cell), math.ceil(width * grow / cell)
    if rows * cols > most:
        raise ValueError(
            f"a frame of {width} x {height} pixels takes {rows * cols} visual tokens, more than {most}"
        )
    return rows * cell, cols * cell


def patches(images: Tensor, sizes: PatchSizes) -> tuple[Tensor, tuple[int, int, int]]:
    """Images to patches in the order in which Qwen's tower takes them: cell by cell, in a cell row by row.

    Args:
        images: float [T, 3, H, W]; H and W are whole cells, T whole temporal patches.

    Returns:
        float [t * h * w, 3 * frames * side * side], and (t, h, w): the grid of patches.
    """
    frames, channels, height, width = images.shape
    grid = (frames // sizes.frames, height // sizes.side, width // sizes.side)
    split = images.reshape(
        grid[0], sizes.frames, channels, grid[1] // sizes.merge, sizes.merge, sizes.side,
        grid[2] // sizes.merge, sizes.merge, sizes.side,
    )  # fmt: skip
    # t, cell row, cell column, row in the cell, column in the cell, channel, frame, pixel row, pixel column
    ordered = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.reshape(grid[0] * grid[1] * grid[2], -1), grid


class PatchBackbone(TransformersBackbone):
    """What Qwen's vision-language models have in common."""

    def control_words(self) -> tuple[str, ...]:
        return (*super().control_words(), VISION_START, VISION_END)

    @property
    def sizes(self) -> PatchSizes:
        """The model's patches."""
        vision = self.model.config.vision_config
        return PatchSizes(vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)

    def token_inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """With the kind of each token, from which the model makes positions in time and place."""
        config = self.model.config
        kinds = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
        return {**super().token_inputs(ids), "mm_token_type_ids": kinds}

    def position_of(self, packed: Packed, index: int) -> int:
        """Frames take fewer positions than tokens, and those of a video may reach beyond the words behind."""
        told = {name: value for name, value in packed.inputs.items() if not name.startswith("pixel_values")}
        return int(self.core.get_rope_index(**told)[0][0, 0, index])

    def show(
        self, frames: np.ndarray, stream: Stream, max_tokens: int | None, seconds: Sequence[float]
    ) -> Shown:
        """See `TransformersBackbone.show`."""
        fewest, most = self._picture_cells() if stream == "frame" else VIDEO_CELLS
        most = most if max_tokens is None else max_tokens
        size = fitted_size(*frames.shape[1:3], self.sizes.cell, min(fewest, most), most)
        frames = resized(frames, *size, self.pixel_settings.resample)
        return self._pictures(frames) if stream == "frame" else self._video(frames, seconds)

    def video_parts(
        self, temporal: Sequence[VisualTokens], seconds: Sequence[float]
    ) -> tuple[str | VisualTokens, ...]:
        """A video's temporal patches in words; each patch's time is that of the middle of its frames."""
        return (VISION_START, *temporal, VISION_END)

    def video_inputs(self, seconds: Sequence[float]) -> dict[str, Tensor]:
        """What the model is told of a video's time."""
        return {}

    def _picture_cells(self) -> tuple[int, int]:
        """Fewest and most cells of a picture, by the model's settings if they are known."""
        size = self.settings.get("size") or {}
        told = [size.get("shortest_edge"), size.get("longest_edge")]
        own = [self.settings.get("min_pixels"), self.settings.get("max_pixels")]
        return tuple(
            (pixels or other or default * self.sizes.cell**2) // self.sizes.cell**2
            for pixels, other, default in zip(own, told, PICTURE_CELLS, strict=True)
        )

    def _pictures(self, frames: np.ndarray) -> Shown:
        images = normalised(frames, self.pixel_settings)
        made = [patches(image[None].expand(self.sizes.frames, -1, -1, -1), self.sizes) for image in images]
        token = self.model.config.image_token_id
        parts: list[str | VisualTokens] = []
        for index, (_, grid) in enumerate(made):
            parts += [VISION_START, self._cells(token, grid, (index,)), VISION_END]
        inputs = {
            "pixel_values": torch.cat([each for each, _ in made]),
            "image_grid_thw": torch.tensor([grid for _, grid in made]),
        }
        return Shown(inputs, tuple(parts))

    def _video(self, frames: np.ndarray, seconds: Sequence[float]) -> Shown:
        together = self.sizes.frames
        order = [*range(len(frames)), *[len(frames) - 1] * (-len(frames) % together)]
        made, grid = patches(normalised(frames[order], self.pixel_settings), self.sizes)
        groups = [order[start : start + together] for start in range(0, len(order), together)]
        token = self.model.config.video_token_id
        temporal = [self._cells(token, grid, tuple(dict.fromkeys(group))) for group in groups]
        middles = [(seconds[group[0]] + seconds[group[-1]]) / 2 for group in groups]
        inputs = {
            "pixel_values_videos": made,
            "video_grid_thw": torch.tensor([grid]),
            **self.video_inputs(seconds),
        }
        return Shown(inputs, self.video_parts(temporal, middles))

    def _cells(self, token: int, grid: tuple[int, int, int], shows: tuple[int, ...]) -> VisualTokens:
        merge = self.sizes.merge
        return grid_of_cells(token, grid[1] // merge, grid[2] // merge, shows)
