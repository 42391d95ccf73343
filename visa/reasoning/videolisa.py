"""How VideoLISA is shown a video: all sampled frames at one placeholder, a token each and a few in full."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.llava_phi3.sparse_dense import sparse_dense_tokens
from visa.conversations import IMAGE_PLACEHOLDER, PHI3_INSTRUCT
from visa.question_wording import videolisa_question
from visa.reasoning.published import PublishedReasoner
from visa.sampling import FrameChoice


class VideoLisaReasoner(PublishedReasoner):
    """See `PublishedReasoner`; the model is a `VideoLisaModel`. One [SEG] draws every frame."""

    chat = PHI3_INSTRUCT

    def frames_shown(self, choice: FrameChoice) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The references; of a sampler that names no dense frames also the target, which is the dense one."""
        if choice.dense:
            return choice.references, choice.dense
        frames = tuple(sorted({*choice.references, choice.target}))
        return frames, (frames.index(choice.target),)

    def frame_tokens(self, images_clip: Tensor) -> Tensor:
        """float [1, 3, S, S] to its projected patches [n, D]."""
        return self.model.patch_tokens(images_clip)[0]

    def visual(self, cells: Sequence[Tensor], dense: Sequence[int]) -> tuple[Sequence, Tensor]:
        """One placeholder for all frames."""
        return self.model.visual_counts(len(cells), len(dense)), sparse_dense_tokens(
            torch.stack(list(cells)), dense
        )

    def request(self, question: str, num_frames: int) -> str:
        """As VideoLISA was evaluated on videos."""
        return videolisa_question(question)

    def conversation(self, words: str, num_frames: int) -> str:
        """As LLaVA is shown an image."""
        return f"{IMAGE_PLACEHOLDER}\n{words}"
