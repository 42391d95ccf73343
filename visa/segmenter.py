"""The whole system, top to bottom: a video and a question become words and masks.

sample     which frames to look at               visa/sampling
reason     the MLLM reads them and answers       visa/reasoning, which also
segment    [SEG] becomes SAM's prompt            draws what an answer points at
propagate  XMem carries the masks both ways      visa/carrying.py, visa/propagation.py

A sampler may name further frames to draw on; visa/reanchoring.py makes one of what is carried from each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from visa.carrying import carry
from visa.propagation import ClipPropagator
from visa.questions import clean_question
from visa.reasoning import Reasoner
from visa.sampling import FrameChoice, ModelScorer, Sampler, choose_frames
from visa.sightings import Sighting, in_walks
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
    propagator: ClipPropagator | None
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
        """Answer several questions about one video, each as if it were the only one. See `segment`.

        Frames are encoded once for all of them, and they are carried through the video together.
        """
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
        viewing, sampler = self._view(video), sampler or self.sampler
        report = progress or _unreported
        sightings = (self._look(viewing, question, sampler, report) for question in questions)
        for walk in in_walks(sightings, len(video)):
            yield from self._carry(viewing, walk, report)

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
    def _look(self, viewing: Viewing, question: str, sampler: Sampler, report: Progress) -> Sighting:
        """Sample, reason and segment: what is answered to one question, and drawn of it."""
        video = viewing.video

        scorer = self.guide.scorer(video) if self.guide else self.reasoner.scorer(viewing)
        choice = choose_frames(
            sampler, len(video), question, scorer, lambda done, total: report("sample", done, total)
        )

        sighting = self._see(viewing, choice, question, report)
        if sighting.answer.found and choice.anchors:
            others = (self._see(viewing, other, question, _unreported) for other in choice.at_anchors())
            sighting = sighting.anchored(others)
        return sighting

    def _see(self, viewing: Viewing, choice: FrameChoice, question: str, report: Progress) -> Sighting:
        """Reason and segment on one choice of frames."""
        report("reason", 0, 1)
        answer = self.reasoner.answer(viewing, choice, question)
        report("reason", 1, 1)

        if not answer.found:
            return Sighting(answer)
        drawn = self.reasoner.draw(
            viewing, choice, answer, lambda done, total: report("segment", done, total)
        )
        return Sighting.of(drawn, choice.target)

    def _carry(self, viewing: Viewing, walk: list[Sighting], report: Progress) -> Iterator[Tracklet]:
        """Propagate: the results of questions that go through the video together."""
        carried = carry(
            self.propagator,
            viewing.video,
            [strand for sighting in walk for strand in sighting.strands],
            viewing.tracker_features,
            lambda done, total: report("propagate", done, total),
        )
        for sighting in walk:
            tracks = [carried.pop(0) for _ in sighting.strands]
            yield sighting.tracklet(viewing.video, tracks)


def _unreported(stage: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""
