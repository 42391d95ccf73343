"""Clips of Ref-YouTube-VOS as items: frames spread evenly for the video stream, frames with the thing for the
other.

Videos, not expressions, are held out for validation, so that no scene is on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from dataset.clip import Clip, Expression
from dataset.errors import DatasetError
from model.steering.soft_prompt import Stream
from visa.errors import InputError
from visa.steerseg.attention import seen_at
from visa.training.steering.items import SteeringItem

MASK_SIDE = 512  # longer side of the masks that items carry: they are pooled to a few dozen cells


@dataclass(frozen=True)
class VideoItems:
    """Items of one stream from a data set's clips.

    clips: with masks. num_frames: of one item. questions: at most, about one item; each its own pass.
    word: turns an expression and attributes into what the model is asked.
    attributes: what is known of a clip's expression.
    held_out: read what is held out of training, in place of the rest.
    held_out_share: of the videos.
    """

    clips: Sequence[Clip]
    stream: Stream
    word: Callable[[str, tuple[str, ...], np.random.Generator], str]
    num_frames: int
    questions: int = 1
    attributes: Callable[[Clip, Expression], tuple[str, ...]] = lambda clip, expression: ()
    held_out: bool = False
    held_out_share: float = 0.02
    chosen: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [clip.name for clip in self.clips]
        mine = [k for k, name in enumerate(names) if self._is_held_out(name) == self.held_out]
        if not mine:
            side = "held out" if self.held_out else "left for training"
            raise InputError(f"of {len(names)} videos none is {side}: change data.held_out_share")
        object.__setattr__(self, "chosen", tuple(mine))

    def _is_held_out(self, name: str) -> bool:
        """By the name alone, so that it holds for every seed and every copy of the data."""
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
        return place < self.held_out_share

    @property
    def fingerprint(self) -> str:
        """Says whether two runs read the same data."""
        names = "\n".join(self.clips[k].name for k in self.chosen)
        return f"{len(self.chosen)} videos {hashlib.sha256(names.encode()).hexdigest()[:16]}, {self.stream}"

    def __len__(self) -> int:
        return len(self.chosen)

    def draw(self, rng: np.random.Generator) -> SteeringItem:
        """An item of a video drawn at random.

        Raises:
            DatasetError: its frames or masks are broken.
        """
        while True:
            if item := self.item(int(rng.integers(len(self))), rng):
                return item

    def item(self, number: int, rng: np.random.Generator) -> SteeringItem | None:
        """The item of one of the videos; None where nothing that is asked for can be seen.

        Raises:
            DatasetError: its frames or masks are broken.
        """
        clip = self.clips[self.chosen[number]]
        asked = [expression for expression in clip.expressions if expression.annotation_ids]
        if not asked:
            return None
        order = rng.permutation(len(asked))[: self.questions]
        first = asked[order[0]]
        indices = self._frames(clip, first, rng)
        if not len(indices):
            return None
        masks = np.stack([clip.target(asked[k], indices) for k in order])
        kept = [n for n in range(len(order)) if masks[n].any()]
        if not kept:
            return None
        questions = tuple(
            self.word(asked[order[n]].text, self.attributes(clip, asked[order[n]]), rng) for n in kept
        )
        frames = np.asarray(clip.frames[list(indices)])
        seconds = tuple(seen_at(indices))  # as the pipeline has them of a folder of frames
        return SteeringItem(f"video {clip.name}", frames, questions, smaller(masks[kept]), seconds)

    def _frames(self, clip: Clip, expression: Expression, rng: np.random.Generator) -> list[int]:
        """Which frames: of the video stream, evenly spread; of the other, some that show the thing."""
        total = len(clip.frames)
        if self.stream == "video":
            return np.linspace(0, total - 1, min(self.num_frames, total)).astype(int).tolist()
        found: list[int] = []
        for index in rng.permutation(total).tolist():
            if clip.target(expression, [index]).any():
                found.append(index)
            if len(found) == self.num_frames:
                break
        return sorted(found)


def smaller(masks: np.ndarray) -> torch.Tensor:
    """Masks bool [N, T, H, W] as shares of fewer pixels: float [N, T, h, w], longer side at most 512."""
    height, width = masks.shape[-2:]
    scale = min(1.0, MASK_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(masks).float(), size)


def masked_clips(root: str) -> Sequence[Clip]:
    """The clips of Ref-YouTube-VOS that can be trained on.

    Raises:
        DatasetError: the folder is not as the data set's layout says, or shows no clip.
    """
    from dataset.registry import open_dataset

    clips = open_dataset("ref_youtube_vos", root, "train", lenient=True)
    if not len(clips):
        raise DatasetError(f"{root}: no clip of Ref-YouTube-VOS can be read", "missing file")
    return clips
