"""Where questions stand before their masks are carried, and which of them go through the video together.

A walk through the video serves several questions for less than each would cost alone (`visa/propagation.py`),
so answers wait for one another, but for no more than one walk takes. Which questions walk together changes
nothing about any of them.

Shapes: N objects, F frames that were drawn, T frames, H W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from visa.mask_track import MaskTrack, as_tracks
from visa.propagation import OBJECTS_AT_ONCE
from visa.reanchoring import CarriedAnchor, fused
from visa.reasoning import DrawnFrames, GivenAnswer
from visa.tracklet import Tracklet
from visa.video import Video


@dataclass(frozen=True)
class Strand:
    """Objects that were drawn on the same frames, and compete for pixels.

    frames: the F frames, ascending. masks: N tracks of F frames. score: the answer's.
    """

    frames: tuple[int, ...]
    masks: tuple[MaskTrack, ...]
    score: float = 1.0

    @property
    def first(self) -> np.ndarray:
        """The masks of the first frame that was drawn, bool [N, H, W]."""
        return np.stack([track[0] for track in self.masks])


@dataclass(frozen=True)
class Sighting:
    """An answer, and what was drawn of it.

    answer: its `pointing`, which may be large, is left out.
    target_frame: that of the result; None if nothing was found.
    strands: none if nothing was found.
    again: whether each strand after the first holds its objects once more, drawn on another frame.
    """

    answer: GivenAnswer
    target_frame: int | None = None
    strands: tuple[Strand, ...] = ()
    again: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer", replace(self.answer, pointing=None))

    @classmethod
    def of(cls, drawn: DrawnFrames, target_frame: int) -> Sighting:
        """Of what was drawn; looked at closely, the answer may have been taken back."""
        answer = drawn.answer
        if not answer.found:
            return cls(answer)
        target_frame = target_frame if target_frame in drawn.frames else drawn.frames[0]
        if drawn.starts is None:
            return cls(answer, target_frame, (Strand(drawn.frames, as_tracks(drawn.masks), answer.score),))
        alone = zip(drawn.starts, drawn.masks, strict=True)
        strands = (Strand((drawn.frames[n],), (MaskTrack.of(masks[n][None]),)) for n, masks in alone)
        return cls(answer, target_frame, tuple(strands))

    def anchored(self, others: Iterable[Sighting]) -> Sighting:
        """The same with what was drawn for the same question on other frames; nothing may be."""
        again = [each.strands[0] for each in others if each._drawn_once]
        if not again or not self._drawn_once:
            return self
        return replace(self, strands=(*self.strands, *again), again=True)

    @property
    def _drawn_once(self) -> bool:
        """Whether all objects were drawn on one and the same frame."""
        return len(self.strands) == 1 and len(self.strands[0].frames) == 1

    def tracklet(self, video: Video, tracks: list[tuple[MaskTrack, ...]]) -> Tracklet:
        """The result, from the tracks of each strand through the whole video."""
        if self.again:
            anchors = zip(self.strands, tracks, strict=True)
            tracks = [fused([CarriedAnchor(each.frames[0], each.score, masks) for each, masks in anchors])]
        objects = [track for strand in tracks for track in strand]
        empty = MaskTrack((video.num_frames, video.height, video.width))
        return Tracklet(
            question=self.answer.question,
            answer=self.answer.text,
            found=self.answer.found,
            score=self.answer.score,
            target_frame=self.target_frame,
            masks=MaskTrack.union(objects or [empty]),
            video=video,
            object_masks=objects if len(objects) > 1 else None,
        )


def in_walks(sightings: Iterable[Sighting], num_frames: int) -> Iterator[list[Sighting]]:
    """Groups of successive questions, none empty, that go through the video together.

    What is drawn already on all frames, or not there, waits for nobody, unless somebody before it does. If a
    question fails, those before it come first: whoever reads the results can tell which one it was.

    Args:
        sightings: made one by one as they are asked for.
        num_frames: of the video.
    """
    walk: list[Sighting] = []
    try:
        for sighting in sightings:
            walk.append(sighting)
            strands = [strand for each in walk for strand in each.strands]
            objects = sum(len(strand.masks) for strand in strands if len(strand.frames) < num_frames)
            if objects == 0 or objects >= OBJECTS_AT_ONCE:
                yield walk
                walk = []
    except Exception:
        if walk:
            yield walk
        raise
    if walk:
        yield walk
