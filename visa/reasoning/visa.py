"""How VISA is shown a video: reference frames, then the target frame, 112 tokens each, then the question."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visa.conversations import LLAVA_V1
from visa.question_wording import visa_question, with_reference_frames
from visa.reasoning.published import PublishedReasoner
from visa.sampling import FrameChoice


class VisaReasoner(PublishedReasoner):
    """See `PublishedReasoner`; the model is a `VisaModel`. The mask is drawn on the target frame."""

    chat = LLAVA_V1

    def frames_shown(self, choice: FrameChoice) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The references, the target at least, and then the target once more."""
        return (*(choice.references or (choice.target,)), choice.target), ()

    def frame_tokens(self, images_clip: Tensor) -> Tensor:
        """float [1, 3, S, S] to [112, D]."""
        return self.model.visual_tokens(images_clip)[0]

    def visual(self, cells: Sequence[Tensor], dense: Sequence[int]) -> tuple[list[int], Tensor]:
        """A placeholder for each frame."""
        return [len(tokens) for tokens in cells], torch.cat(list(cells))

    def request(self, question: str, num_frames: int) -> str:
        """As VISA was evaluated."""
        return with_reference_frames(visa_question(question), num_frames - 1)

    def conversation(self, words: str, num_frames: int) -> str:
        """As Chat-UniVi is shown a video."""
        return with_reference_frames("<video>\n", num_frames) + words
