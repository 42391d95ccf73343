"""From the section ``data`` of a recipe to batches for a backbone: data sets, or shapes drawn on the spot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from dataset.errors import DatasetError
from dataset.mixed_sample import MixedSample
from model.backbones.backbone import ChatTurn
from model.sam.images import SamImages, input_size
from visa import question_wording
from visa.question_wording import backbone_question
from visa.training.batches.examples import WORDS
from visa.training.batches.opening import open_mixture
from visa.training.batches.pictures import prepared_once
from visa.training.batches.reader import MixtureReader
from visa.training.batches.words import TrainingWords
from visa.training.batches.workers import MicroBatches
from visa.training.engine.batch import BatchReader
from visa.training.engine.moving_shapes import MovingShapes, draw_scene
from visa.training.engine.readers import data_settings
from visa.training.grounded.videos import GroundedVideo

SYSTEM = "visa"  # whose mixture and frames these are
FALLBACK_SIZE = 224


def open_data(
    data: Mapping[str, Any],
    *,
    tokenizer: Any,
    sam_size: int,
    rank: int,
    world_size: int,
    batch_size: int,
    seed: int,
) -> BatchReader:
    """Open what the section describes.

    Raises:
        InputError: the section, or the data, is not as it should be.
    """
    settings = data_settings(data)
    place = {"rank": rank, "world_size": world_size, "batch_size": batch_size, "seed": seed}
    if data.get("source") == "moving_shapes":
        return GroundedShapes(
            settings, system=SYSTEM, tokenizer=tokenizer, clip_size=FALLBACK_SIZE, sam_size=sam_size, **place
        )
    mixture = open_mixture(settings, SYSTEM, seed, told=rank == 0)
    maker = GroundedExamples(tokenizer, sam_size, settings.max_tokens, seed)
    read = (mixture.fingerprint, "backbone", sam_size, settings.max_tokens)
    return MixtureReader(
        MicroBatches(mixture, maker, batch_size),
        fingerprint=hashlib.sha256(repr(read).encode()).hexdigest()[:32],
        rank=rank,
        world_size=world_size,
        workers=settings.workers,
        prefetch=settings.prefetch,
        broken_share=settings.broken_share,
    )


class GroundedShapes(MovingShapes):
    """See `MovingShapes`."""

    def video(self, index: int) -> GroundedVideo:
        """Sample ``index`` of the run."""
        number = index % self.settings.videos if self.settings.videos else index
        rng = np.random.default_rng((self.seed, number))
        frames, masks, expression = draw_scene(rng, self.settings)
        target = int(rng.integers(len(frames)))
        images, size = self._sam_images(frames[[target]])
        turns = (ChatTurn("user", backbone_question(expression)), ChatTurn("assistant", "It is [SEG]."))
        return GroundedVideo(
            name=f"moving shapes {number}",
            frames=torch.from_numpy(frames[[*range(len(frames)), target]]),
            conversations=(turns,),
            images_sam=images,
            drawn=(0,),
            input_size=size,
            masks=torch.from_numpy(masks[[target]])[:, None],
        )


class GroundedWords(TrainingWords):
    """See `TrainingWords`; conversations stay words, for the backbone to write.

    Args:
        tokenizer: counts tokens. max_tokens: of a conversation, without pictures; 0: as many as VISA's.
    """

    def __init__(self, tokenizer: Any, max_tokens: int = 0):
        super().__init__(SYSTEM, tokenizer, max_tokens)
        self._wording = question_wording.BACKBONE

    def _pictures(self, count: int, sample: MixedSample) -> str:
        """Nothing: the backbone puts the frames before the words."""
        return ""

    def _encoded(self, turns: Sequence[tuple[str, str]]) -> tuple[ChatTurn, ...]:
        written = []
        for question, answer in turns:
            written += [ChatTurn("user", question.strip()), ChatTurn("assistant", answer)]
        length = sum(len(self.tokenizer(turn.text).input_ids) for turn in written)
        if length > self.max_tokens:
            raise ValueError(f"its conversation has {length} tokens, of which {self.max_tokens} can be read")
        return tuple(written)


class GroundedExamples:
    """Samples of a mixture to `GroundedVideo`.

    Args:
        tokenizer: of the backbone. sam_size: S. max_tokens: see `GroundedWords`. seed: of the wordings.
    """

    def __init__(self, tokenizer: Any, sam_size: int, max_tokens: int, seed: int):
        self.seed = seed
        self._words = GroundedWords(tokenizer, max_tokens)
        self._sam = SamImages(sam_size)

    def make(self, sample: MixedSample) -> GroundedVideo:
        """What is learnt from a sample. It follows from the sample and the seed.

        Raises:
            DatasetError: a question is empty, its conversation too long, or there is no picture.
        """
        draw = sample.draw
        shown = [*sample.references, *sample.targets]
        if not shown:
            raise DatasetError(f"{draw.source}: clip {draw.name!r} shows no picture", "no picture")
        rng = np.random.default_rng([self.seed, draw.index, draw.clip, WORDS])
        images_sam, drawn = prepared_once(sample.targets, self._sam, self._sam.side)
        size = input_size(sample.targets[0].shape[:2], self._sam.side) if sample.targets else (0, 0)
        return GroundedVideo(
            name=f"{draw.source}: {draw.name}",
            frames=torch.from_numpy(of_one_size(shown)),
            conversations=self._words.write(sample, rng),
            images_sam=images_sam,
            drawn=drawn,
            input_size=size,
            masks=torch.from_numpy(sample.masks),
        )


def of_one_size(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames uint8 [H, W, 3] of any sizes in the last one's size: uint8 [T, H, W, 3]."""
    height, width = frames[-1].shape[:2]
    return np.stack(
        [
            frame
            if frame.shape[:2] == (height, width)
            else np.asarray(Image.fromarray(frame).resize((width, height)))
            for frame in frames
        ]
    )
