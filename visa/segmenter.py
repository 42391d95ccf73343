"""The whole system, top to bottom: a video and a question become words and masks.

sample     which frames to look at               visa/sampling
reason     the MLLM reads them and answers       model/mllm
segment    [SEG] becomes SAM's prompt            model/mllm/grounding.py, visa/mask_drawing.py
propagate  XMem carries the mask both ways       visa/propagation.py
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from model.mllm.mllm import MLLM, Reading, RefusalPolicy
from model.sam.segmenter import SamSegmenter
from visa.mask_drawing import MaskDrawing
from visa.propagation import Propagator
from visa.questions import clean_question
from visa.sampling import FrameChoice, Sampler
from visa.tracklet import Tracklet
from visa.video import Video
from visa.viewing import Viewing

# What the MLLM is asked to answer by when its first answer points nowhere in particular.
CERTAIN_REFUSAL = RefusalPolicy(bias=1e4)

# Called as progress(stage, done, total): stage is "sample", "reason", "segment" or "propagate".
Progress = Callable[[str, int, int], None]


@dataclass
class Segmenter:
    """A loaded system; make one with `visa.load`.

    mllm: reads frames and answers. sam: draws masks. drawing: how the [SEG] head prompts SAM.
    propagator: carries masks through the video. sampler: picks frames.
    refusal: when the MLLM answers "not there".
    """

    mllm: MLLM
    sam: SamSegmenter
    drawing: MaskDrawing
    propagator: Propagator
    sampler: Sampler
    refusal: RefusalPolicy = field(default_factory=RefusalPolicy)
    _viewing: Viewing | None = field(default=None, repr=False)

    def segment(
        self,
        video: Video | str | Path,
        question: str,
        *,
        sampler: Sampler | None = None,
        progress: Progress | None = None,
    ) -> Tracklet:
        """Answer one question about a video.

        Args:
            video: an open `Video`, a file, or a folder of frames.
            question: what to look for, in words.
            sampler: another way to pick the frames than the preset's.
            progress: called as the stages go on.

        Raises:
            InputError: the video cannot be read, or the question is empty or too long.
        """
        return self.segment_many(video, [question], sampler=sampler, progress=progress)[0]

    def segment_many(
        self,
        video: Video | str | Path,
        questions: Sequence[str],
        *,
        sampler: Sampler | None = None,
        progress: Progress | None = None,
    ) -> list[Tracklet]:
        """Answer several questions about one video, which is encoded once. See `segment`."""
        video = video if isinstance(video, Video) else Video.open(video)
        questions = [clean_question(question) for question in questions]
        viewing = self._view(video)
        return [self._answer(viewing, question, sampler or self.sampler, progress) for question in questions]

    def _view(self, video: Video) -> Viewing:
        """The viewing of the last video if it is the same one, so that a later question finds it encoded."""
        if self._viewing is None or self._viewing.video is not video:
            self._viewing = Viewing(video, self.mllm.tower, self.sam, self.propagator)
        return self._viewing

    @torch.inference_mode()
    def _answer(
        self, viewing: Viewing, question: str, sampler: Sampler, progress: Progress | None
    ) -> Tracklet:
        report = progress or (lambda stage, done, total: None)
        video = viewing.video

        report("sample", 0, 1)
        choice = sampler.choose(
            len(video), question, lambda frames, asked: self._found_probs(viewing, frames, asked)
        )
        report("sample", 1, 1)

        report("reason", 0, 1)
        reading = self._read(viewing, choice)
        answer = self.mllm.answer(reading, question, refusal=self.refusal)
        report("reason", 1, 1)

        masks = np.zeros((len(video), video.height, video.width), dtype=bool)
        score = answer.found_prob
        if answer.found:
            report("segment", 0, 1)
            drawn = self.drawing.draw(self.mllm, reading, answer, viewing.sam_features(choice.target))
            report("segment", 1, 1)
            score = self.refusal.found_prob(score, drawn.heat_logits.amax(0))
            if score < 0.5:
                answer = self.mllm.answer(reading, question, refusal=CERTAIN_REFUSAL)
        if answer.found:
            masks = self.propagator.propagate(
                video,
                choice.target,
                drawn.masks,
                progress=lambda done, total: report("propagate", done, total),
                features=viewing.tracker_features,
            ).any(axis=0)
        return Tracklet(
            question=question,
            answer=answer.text,
            found=answer.found,
            score=score,
            target_frame=choice.target if answer.found else None,
            masks=masks,
            video=video,
        )

    def _read(self, viewing: Viewing, choice: FrameChoice) -> Reading:
        """The MLLM reads the reference frames and then the target frame."""
        return viewing.reading((*choice.references, choice.target), self.mllm.read)

    def _found_probs(self, viewing: Viewing, frames: Sequence[int], question: str) -> list[float]:
        """For each frame alone: how sure the MLLM is that what is asked for is in it."""
        alone = (self._read(viewing, FrameChoice(index, ())) for index in frames)
        return [
            self.mllm.answer(reading, question, refusal=self.refusal, max_new_tokens=1).found_prob
            for reading in alone
        ]
