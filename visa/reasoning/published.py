"""Reason and segment as the published systems do.

What VISA and VideoLISA share. How frames are shown and how a question is put is each one's own affair: see
`visa.reasoning.visa` and `visa.reasoning.videolisa`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from model.clip_images import ClipImages
from model.mllm.answering import Reading
from model.mllm.packing import IGNORE_INDEX
from model.mllm.reasoning_model import ReasoningModel
from model.mllm.splicing import Visual
from visa.conversations import ChatFormat, encode
from visa.reasoning.pointing import AnswerSettings, PointingReasoner, told
from visa.viewing import Viewing


@dataclass(frozen=True)
class Shown:
    """What is read before the question: frames, those of them in full, and the tokens up to the last of them.

    head: ids with placeholders.
    """

    frames: tuple[int, ...]
    dense: tuple[int, ...]
    head: tuple[int, ...]


class PublishedReasoner(PointingReasoner):
    """See `PointingReasoner`; the tokenizer is the checkpoint's."""

    chat: ChatFormat
    model: ReasoningModel

    def __init__(
        self,
        name: str,
        model: ReasoningModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: AnswerSettings,
    ):
        super().__init__(name, model, tokenizer, settings)
        self._images = ClipImages(model.tower.image_size)

    # Each system's own

    def frame_tokens(self, images_clip: Tensor) -> Tensor:
        """One frame float [1, 3, S, S] to what is kept of it, float [n, D]."""
        raise NotImplementedError

    def visual(self, cells: Sequence[Tensor], dense: Sequence[int]) -> tuple[Sequence[Visual], Tensor]:
        """Frames' tokens T x [n, D] to what each placeholder stands for and the tokens of all, [m, D]."""
        raise NotImplementedError

    # The same for both

    def tower(self, frames: np.ndarray) -> list[Tensor]:
        """One frame uint8 [1, H, W, 3] as the language model will see it."""
        weight = next(self.model.tower.parameters())
        return [self.frame_tokens(self._images(frames).to(weight))]

    def prepare(
        self,
        viewing: Viewing,
        frames: tuple[int, ...],
        dense: tuple[int, ...],
        turn: tuple[str, str | None],
    ) -> tuple[Reading, Tensor, Tensor]:
        """The reading of the frames, and the ids behind them: question's, and answer's without its end."""
        encoded = told(encode, self.chat.write([turn]), self.tokenizer)
        head, tail = self.model.split_behind_frames(encoded.input_ids)
        answer = encoded.labels[len(head) :] != IGNORE_INDEX
        reading = viewing.reading(
            Shown(frames, dense, tuple(head.tolist())), lambda shown: self._read(viewing, shown)
        )
        return reading, tail[~answer], tail[answer][:-1]

    def _read(self, viewing: Viewing, shown: Shown) -> Reading:
        counts, tokens = self.visual(viewing.cells(shown.frames), shown.dense)
        return told(self.model.read, torch.tensor(shown.head), counts, tokens)

    @property
    def stop_ids(self) -> set[int]:
        """See `PointingReasoner`."""
        ends = {self.tokenizer.convert_tokens_to_ids(self.chat.end), self.tokenizer.eos_token_id}
        return ends - {None}

    def weights(self) -> Iterable[Tensor]:
        """See `PointingReasoner`."""
        return self.model.language.parameters()
