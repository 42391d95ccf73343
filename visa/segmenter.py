"""The whole system, top to bottom: a video and a question become words and masks.

sample     which frames to look at               visa/sampling
reason     the MLLM reads them and answers       visa/reasoning, which also
segment    [SEG] becomes SAM's prompt            draws what an answer points at
propagate  XMem carries the mask both ways       visa/propagation.py
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from visa.anchored_propagation import propagate_anchored
from visa.propagation import Anchor, Propagator
from visa.questions import clean_question
from visa.reasoning import DrawnFrames, Reasoner
from visa.sampling import ModelScorer, Sampler
from visa.tracklet import Tracklet
from visa.video import Video
from visa.viewing import Viewing

# Called as progress(stage, done, total): stage is "sample", "reason", "segment" or "propagate".
Progress = Callable[[str, int, int], None]


@dataclass
class Segmenter:
    """A loaded system; make one with `visa.load`.

    reasoner: reads frames, answers, and draws what it points at.
    propagator: carries masks through the video; None where every frame is drawn.
    sampler: picks frames.
    guide: the system whose MLLM the sampler asks; None asks this one's.
    """

    reasoner: Reasoner
    propagator: Propagator | None
    sampler: Sampler
    guide: "Segmenter | None" = None
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
        return list(self.segment_each(video, questions, sampler=sampler, progress=progress))

    def segment_each(
        self,
        video: Video | str | Path,
        questions: Sequence[str],
        *,
        sampler: Sampler | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Tracklet]:
        """The answers of `segment_many`, each as soon as it is there, so that it can be kept at once."""
        video = video if isinstance(video, Video) else Video.open(video)
        questions = [clean_question(question) for question in questions]
        viewing = self._view(video)
        for question in questions:
            yield self._answer(viewing, question, sampler or self.sampler, progress)

    def scorer(self, video: Video) -> ModelScorer:
        """The MLLM as a sampler asks it about a video."""
        return self.reasoner.scorer(self._view(video))

    def _view(self, video: Video) -> Viewing:
        """The viewing of the last video if it is the same one, so that a later question finds it encoded."""
        if self._viewing is None or self._viewing.video is not video:
            self._viewing = None  # gone before the next one grows
            reasoner = self.reasoner
            self._viewing = Viewing(video, reasoner.tower, reasoner.sam, self.propagator, reasoner.limits)
        return self._viewing

    @torch.inference_mode()
    def _answer(
        self, viewing: Viewing, question: str, sampler: Sampler, progress: Progress | None
    ) -> Tracklet:
        report = progress or (lambda stage, done, total: None)
        video = viewing.video

        report("sample", 0, 1)
        scorer = self.guide.scorer(video) if self.guide else self.reasoner.scorer(viewing)
        choice = sampler.choose(len(video), question, scorer)
        report("sample", 1, 1)

        report("reason", 0, 1)
        answer = self.reasoner.answer(viewing, choice, question)
        report("reason", 1, 1)

        masks = np.zeros((len(video), video.height, video.width), dtype=bool)
        if answer.found:
            drawn = self.reasoner.draw(
                viewing, choice, answer, lambda done, total: report("segment", done, total)
            )
            answer = drawn.answer  # looking closely, it may have been taken back
            target = choice.target if choice.target in drawn.frames else drawn.frames[0]
        if answer.found:
            masks = self._propagate(viewing, drawn, report).any(axis=0)
        return Tracklet(
            question=question,
            answer=answer.text,
            found=answer.found,
            score=answer.score,
            target_frame=target if answer.found else None,
            masks=masks,
            video=video,
        )

    def _propagate(self, viewing: Viewing, drawn: DrawnFrames, report: Progress) -> np.ndarray:
        """Masks of all frames, bool [N, T, H, W], from those that were drawn."""
        if self.propagator is None:
            return drawn.masks
        shared = {
            "progress": lambda done, total: report("propagate", done, total),
            "features": viewing.tracker_features,
        }
        if drawn.starts is not None:
            anchors = [
                Anchor(drawn.frames[start], masks[None, start])
                for start, masks in zip(drawn.starts, drawn.masks, strict=True)
            ]
            return np.concatenate(self.propagator.propagate_many(viewing.video, anchors, **shared))
        if len(drawn.frames) == 1:
            return self.propagator.propagate(viewing.video, drawn.frames[0], drawn.masks[:, 0], **shared)
        return propagate_anchored(self.propagator, viewing.video, drawn.frames, drawn.masks, **shared)
