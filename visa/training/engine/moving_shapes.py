"""Coloured shapes that move: training data for smoke runs and tests, drawn on the spot."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.clip_images import ClipImages
from model.sam.build import PIXEL_MEAN, PIXEL_STD
from visa.conversations import LLAVA_V1, PHI3_INSTRUCT, encode
from visa.question_wording import videolisa_question, visa_question, with_reference_frames
from visa.training.engine.batch import TrainingBatch, TrainingVideo

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (230, 210, 40)}
SHAPES = ("square", "disk")


@dataclass(frozen=True)
class MovingShapesSettings:
    """The section ``data`` with this source. videos: how many different ones, over and over; 0: always new
    ones. frames: T. height, width: in pixels. absent: share of questions about what is not there."""

    source: Literal["moving_shapes"] = "moving_shapes"
    videos: int = 0
    frames: int = 3
    height: int = 48
    width: int = 64
    absent: float = 0.1


class MovingShapes:
    """A `BatchReader` of such videos; arguments as for `open_reader`."""

    def __init__(
        self,
        settings: MovingShapesSettings,
        *,
        system: str,
        tokenizer: Any,
        clip_size: int,
        sam_size: int,
        rank: int,
        world_size: int,
        batch_size: int,
        seed: int,
    ):
        self.settings, self.system, self.tokenizer = settings, system, tokenizer
        self.clip_images, self.sam_size = ClipImages(clip_size), sam_size
        self.rank, self.world_size, self.batch_size, self.seed = rank, world_size, batch_size, seed
        self.samples = 0
        self.fingerprint = f"moving shapes {settings} {seed}"
        self.broken: dict[str, str] = {}

    def __iter__(self) -> Iterator[TrainingBatch]:
        return self

    def close(self) -> None:
        """See `BatchReader`; no process reads."""

    def __next__(self) -> TrainingBatch:
        first = self.samples + self.rank * self.batch_size
        self.samples += self.world_size * self.batch_size
        return TrainingBatch(first, tuple(self.video(first + place) for place in range(self.batch_size)))

    def state_dict(self) -> dict[str, Any]:
        return {"samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.samples = state["samples"]

    def video(self, index: int) -> TrainingVideo:
        """Sample ``index`` of the run."""
        number = index % self.settings.videos if self.settings.videos else index
        rng = np.random.default_rng((self.seed, number))
        frames, masks, expression = draw_scene(rng, self.settings)
        count = len(frames)
        if self.system == "visa":
            target = int(rng.integers(count))
            question = with_reference_frames(visa_question(expression), count)
            turns, form, drawn = [(question, "It is [SEG].")], LLAVA_V1, (target,)
            shown, dense = (*range(count), target), ()
        else:
            turns, form = [(videolisa_question(expression), "Sure, [SEG].")], PHI3_INSTRUCT
            drawn = shown = tuple(range(count))
            dense = drawn
        images, size = self._sam_images(frames[list(drawn)])
        return TrainingVideo(
            name=f"moving shapes {number}",
            images_clip=self.clip_images(frames),
            shown=shown,
            conversations=(encode(form.write(turns), self.tokenizer),),
            images_sam=images,
            drawn=tuple(range(len(drawn))),
            input_size=size,
            masks=torch.from_numpy(masks[list(drawn)])[:, None],
            dense_indices=dense,
        )

    def _sam_images(self, frames: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """Frames uint8 [F, H, W, 3] as SAM's input, and how much of it they fill."""
        scale = self.sam_size / max(frames.shape[1:3])
        height, width = (int(side * scale + 0.5) for side in frames.shape[1:3])
        images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
        images = functional.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (PIXEL_MEAN, PIXEL_STD))
        padding = (0, self.sam_size - width, 0, self.sam_size - height)
        return functional.pad((images - mean) / std, padding), (height, width)


def draw_scene(
    rng: np.random.Generator, settings: MovingShapesSettings
) -> tuple[np.ndarray, np.ndarray, str]:
    """Two shapes of different colours on grey, moving.

    Returns:
        uint8 [T, H, W, 3], the mask of what is meant bool [T, H, W], and its name.
    """
    count, height, width = settings.frames, settings.height, settings.width
    colours = rng.permutation(list(COLOURS))
    kinds = rng.choice(SHAPES, 2)
    frames = np.full((count, height, width, 3), rng.integers(60, 160), dtype=np.uint8)
    rows, cols = np.mgrid[:height, :width]
    masks = []
    for side, (colour, kind) in enumerate(zip(colours[:2], kinds, strict=True)):
        radius = int(rng.integers(height // 6, height // 4))
        # Each on its own half, so that neither hides the other.
        x = rng.uniform(radius, width / 2 - radius, 2) + side * width / 2
        y = rng.uniform(radius, height - radius, 2)
        mask = np.zeros((count, height, width), dtype=bool)
        for index, share in enumerate(np.linspace(0, 1, count)):
            away_x = np.abs(cols - (x[0] + share * (x[1] - x[0])))
            away_y = np.abs(rows - (y[0] + share * (y[1] - y[0])))
            reach = np.maximum(away_x, away_y) if kind == "square" else np.hypot(away_x, away_y)
            mask[index] = reach <= radius
        frames[mask] = COLOURS[colour]
        masks.append(mask)
    if rng.random() < settings.absent:
        return frames, np.zeros_like(masks[0]), f"the {colours[2]} {kinds[0]}"
    meant = int(rng.integers(2))
    return frames, masks[meant], f"the {colours[meant]} {kinds[meant]}"
