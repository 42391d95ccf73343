"""A segmenter that answers with further anchors and remembers what it would have answered without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from visa.carrying import carry
from visa.questions import clean_question
from visa.reanchoring import CarriedAnchor, agree
from visa.segmenter import Segmenter


@dataclass
class Both(Segmenter):
    """A segmenter that remembers what each answer would have been without further anchors.

    alone: tracklets by the video's name and the question.
    num_drawn, num_agreed: questions with further anchors, and those where at least one agreed.
    """

    alone: dict = field(default_factory=dict)
    num_drawn: int = 0
    num_agreed: int = 0

    def _carry(self, viewing, walk, report):
        for sighting in walk:
            strands = list(sighting.strands)
            tracks = carry(
                self.propagator, viewing.video, strands, viewing.tracker_features, lambda done, total: None
            )
            alone = (
                replace(sighting, strands=sighting.strands[:1], again=False) if sighting.again else sighting
            )
            kept = tracks[:1] if sighting.again else list(tracks)
            question = sighting.answer.question
            self.alone[viewing.video.name, question] = alone.tracklet(viewing.video, kept)
            if sighting.again:
                first, *others = (
                    CarriedAnchor(strand.frames[0], strand.score, each)
                    for strand, each in zip(strands, tracks, strict=True)
                )
                self.num_drawn += 1
                self.num_agreed += any(agree(first, other) for other in others)
            yield sighting.tracklet(viewing.video, tracks)


@dataclass(frozen=True)
class Remembered:
    """The answers that a run of `Both` remembered."""

    alone: dict

    def segment_many(self, video, questions: Sequence[str]) -> list:
        """One tracklet for each question."""
        return [self.alone[video.name, clean_question(question)] for question in questions]
