"""How a [SEG] system on another backbone is shown a video: reference frames, then the target frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from model.backbones.backbone import ChatTurn, Packed
from model.backbones.grounded import GroundedBackbone
from model.mllm.answering import Reading
from model.steering.soft_prompt import STREAMS, Stream
from visa.question_wording import backbone_question
from visa.reasoning.pointing import AnswerSettings, PointingReasoner, told
from visa.sampling import FrameChoice
from visa.viewing import Viewing


@dataclass(frozen=True)
class Showing:
    """How frames are shown.

    stream: "frame" shows each as a picture of its own, "video" all of them as one. max_tokens: the most
    visual tokens of one frame; None leaves it to the backbone.

    Raises:
        ValueError: another ``stream``.
    """

    stream: Stream = "frame"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.stream not in STREAMS:
            raise ValueError(f"stream must be {' or '.join(map(repr, STREAMS))}, not {self.stream!r}")


@dataclass(frozen=True)
class FramesRead:
    """What is read before the question: frames, as they are shown."""

    frames: tuple[int, ...]


class BackboneReasoner(PointingReasoner):
    """See `PointingReasoner`. The mask is drawn on the target frame, which comes last.

    Args:
        showing: how frames are shown.
    """

    model: GroundedBackbone

    def __init__(self, name: str, model: GroundedBackbone, settings: AnswerSettings, showing: Showing):
        super().__init__(name, model, model.backbone.tokenizer, settings)
        self.showing = showing

    def tower(self, frames: np.ndarray) -> list[np.ndarray]:
        """Frames as they are: how a backbone sees one may depend on those around it."""
        return list(frames)

    def frames_shown(self, choice: FrameChoice) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The references, and then the target."""
        return (*choice.references, choice.target), ()

    def request(self, question: str, num_frames: int) -> str:
        """As it was trained."""
        return backbone_question(question)

    def conversation(self, words: str, num_frames: int) -> str:
        """The words alone: the backbone puts the frames before them."""
        return words

    def prepare(
        self,
        viewing: Viewing,
        frames: tuple[int, ...],
        dense: tuple[int, ...],
        turn: tuple[str, str | None],
    ) -> tuple[Reading, Tensor, Tensor]:
        """See `PointingReasoner`."""
        packed = self._packed(viewing, frames, turn)
        ids, begin = packed.inputs["input_ids"][0], self.model.split_behind_frames(packed)
        start, stop = packed.layout.turns[0].answer
        reading = viewing.reading(FramesRead(frames), lambda _: told(self.model.read, packed))
        return reading, ids[begin:start], ids[start : max(start, stop - 1)]

    @property
    def stop_ids(self) -> set[int]:
        """See `PointingReasoner`."""
        return self.model.backbone.stop_ids

    def weights(self) -> Iterable[Tensor]:
        """See `PointingReasoner`; with the [SEG] token, which no two trainings have alike."""
        return (self.model.seg_embedding, *self.model.backbone.language_model.parameters())

    def _packed(self, viewing: Viewing, frames: tuple[int, ...], turn: tuple[str, str | None]) -> Packed:
        question, answer = turn
        turns = [ChatTurn("user", question)]
        if answer is not None:
            turns.append(ChatTurn("assistant", answer))
        # No times, as in training: with the target frame last they would run backwards.
        return told(
            lambda: self.model.backbone.pack(
                viewing.video.frames(list(frames)),
                turns,
                stream=self.showing.stream,
                generate=answer is None,
                max_tokens_per_frame=self.showing.max_tokens,
            )
        )
