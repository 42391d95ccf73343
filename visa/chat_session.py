"""A conversation about a clip: `visa.ChatSession` holds its state and talks to no terminal.

    session = visa.ChatSession("embedded")
    session.open("clip.mp4")
    session.ask("the red car").answer
    session.ask("and the one behind it?").question    # "the car behind the red car"

The models served here read one question at a time. So the session keeps every turn with its masks, puts what
a follow-up points back to into words (`visa/follow_ups.py`, where the limits stand), and holds the answer
against the earlier masks (`visa/mask_relations.py`): where another thing was asked for and the same one
found, or one "to the left of it" found to the right, the turn's `remark` says so. The model itself does not
see the earlier masks.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visa.errors import InputError
from visa.follow_ups import FollowUp, Mention, complete, mention_in
from visa.mask_relations import lies_to, same_thing
from visa.mask_track import MaskTrack
from visa.preset_files import check_model
from visa.questions import clean_question
from visa.tracklet import Tracklet
from visa.video import Video

if TYPE_CHECKING:
    from visa.segmenter import Segmenter

# Called as progress(stage, done, total), as `Segmenter.segment` does.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Turn:
    """One question and its answer.

    Attributes:
        number: place in the conversation, from 0.
        typed: the question as the person put it.
        question: the question as the model was asked.
        model: which model.
        answer: its words.
        found: whether the clip shows what was asked for.
        score: how sure the system is, higher is surer.
        target_frame: index of the frame in which the object was segmented first; None if there is none.
        remark: what the earlier masks say against the answer, one line, or "".
        mention: what was found, as a follow-up may point back to it; None where the words are not plain.
    """

    number: int
    typed: str
    question: str
    model: str
    answer: str
    found: bool
    score: float
    target_frame: int | None
    remark: str = ""
    mention: Mention | None = None
    _tracks: tuple[MaskTrack, ...] = field(default=(), repr=False)
    _tells_apart: bool = field(default=False, repr=False)

    def masks_at(self, frame_index: int) -> np.ndarray:
        """The masks of one frame, bool [N, H, W], one for each object."""
        return np.stack([track[frame_index] for track in self._tracks])

    def union(self) -> MaskTrack:
        """All objects' masks as one's."""
        return MaskTrack.union(self._tracks)


class ChatSession:
    """One conversation. It reads clips and weights, and neither prints nor asks.

    Invariant: what fails or is interrupted leaves the conversation as it was; `turns` are all about `video`.

    Args:
        model: what `visa.load` takes; loaded with the first question.
        segmenter: a system that is loaded already, in place of `model`'s.

    Attributes:
        model: the model's name.
        turns: what was asked about the clip, in order.
        frame_index: the frame that is looked at: the last answer's target frame, or where `go_to` went.
    """

    def __init__(self, model: str | Path = "embedded", *, segmenter: Segmenter | None = None) -> None:
        self.model = str(model)
        self.turns: tuple[Turn, ...] = ()
        self.frame_index = 0
        self._segmenter: Any = segmenter
        self._video: Video | None = None
        self._path: Path | None = None
        self._is_doubtful = False

    @property
    def is_loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._segmenter is not None

    def load(self) -> None:
        """Load the model now and not with the next question.

        Raises:
            InputError: there is no such model. DownloadError: a public part of it cannot be had.
        """
        if self._segmenter is None:
            import visa

            self._segmenter = visa.load(self.model)

    def use(self, model: str | Path) -> None:
        """Go on with another model; the conversation stays. If it does not load, the old one is kept.

        What is no model at all leaves the old one loaded. Otherwise its memory is given back before the new
        one is loaded, for two large models may not fit: after a failure then it is loaded again with the
        next question.

        Raises:
            InputError: there is no such model. DownloadError: a public part of it cannot be had.
        """
        check_model(model)
        before, self.model, self._segmenter = self.model, str(model), None
        try:
            self.load()
        except BaseException:
            self.model = before
            raise

    @property
    def has_clip(self) -> bool:
        """Whether a clip is open."""
        return self._video is not None

    @property
    def video(self) -> Video:
        """The open clip.

        Raises:
            InputError: no clip is open, or it cannot be read any more.
        """
        if self._video is None:
            raise InputError("open a clip first: a video file or a folder of frames")
        if self._is_doubtful:
            # A copy for what has no file: the models know a clip by identity, and look anew at another one.
            video = copy.copy(self._video) if self._path is None else Video.open(self._path)
            if _size(video) != _size(self._video):
                raise InputError(f"{self._path} has changed; open it again")
            self._video, self._is_doubtful = video, False
        return self._video

    def open(self, clip: Video | str | Path) -> Video:
        """Open a clip, a file or a folder of frames; the conversation begins anew.

        Raises:
            InputError: it cannot be read; the clip that was open stays open.
        """
        is_open = isinstance(clip, Video)
        self._video, self._path = (clip, None) if is_open else (Video.open(clip), Path(clip))
        self._is_doubtful = False
        self.reset()
        return self._video

    def reset(self) -> None:
        """Forget the conversation; the clip stays open and the model loaded."""
        self.turns = ()
        self.frame_index = 0 if self._video is None else self._video.num_frames // 2

    def look_anew(self) -> None:
        """Read the clip afresh from now on: to be called when work with `video` was broken off.

        A decoder, or what a model keeps of the clip, may then be in the middle of something.
        """
        self._is_doubtful = True

    def ask(self, question: str, *, progress: Progress | None = None) -> Turn:
        """Ask about the open clip; the turn is added to `turns`.

        Args:
            question: as typed; it may point back to what was found before ("and the one behind it?").
            progress: called as progress(stage, done, total) as the stages go on.

        Raises:
            InputError: no clip is open, the question is empty or too long, or the clip can no longer be read.
            DownloadError: a public part of the model cannot be had.
        """
        video = self.video
        typed = clean_question(question)
        earlier = next((turn for turn in reversed(self.turns) if turn.found), None)
        follow_up = complete(typed, earlier.mention if earlier else None)
        asked = clean_question(follow_up.question) if follow_up else typed
        self.load()
        try:
            tracklet = self._segmenter.segment(video, asked, progress=progress or (lambda *_: None))
            turn = self._turn(typed, asked, tracklet)
        except BaseException:
            self.look_anew()
            raise
        if turn.found and earlier and follow_up:
            turn = dataclasses.replace(turn, remark=_remark(turn, follow_up, earlier))
        self.turns = (*self.turns, turn)
        if turn.target_frame is not None:
            self.frame_index = turn.target_frame
        return turn

    def tracklet(self, turn: Turn) -> Tracklet:
        """A turn's whole result, with the masks of every frame, as `Segmenter.segment` gave it.

        Raises:
            InputError: the clip cannot be read any more.
        """
        return Tracklet(
            question=turn.question,
            answer=turn.answer,
            found=turn.found,
            score=turn.score,
            target_frame=turn.target_frame,
            masks=turn.union(),
            video=self.video,
            object_masks=turn._tracks if turn._tells_apart else None,
        )

    def go_to(self, frame_index: int) -> None:
        """Look at another frame of the clip, from 0.

        Raises:
            InputError: no clip is open, or it has no such frame.
        """
        last = self.video.num_frames - 1
        if not 0 <= frame_index <= last:
            raise InputError(f"there is no frame {frame_index}: the clip has 0 to {last}")
        self.frame_index = frame_index

    def picture(self) -> np.ndarray:
        """The frame that is looked at, uint8 [H, W, 3] RGB, with the last answer drawn over it.

        Raises:
            InputError: no clip is open, or its frame cannot be read any more.
        """
        from visa.overlay import draw_masks

        frame = self.video[self.frame_index]
        return draw_masks(frame, self.turns[-1].masks_at(self.frame_index)) if self.turns else frame

    def _turn(self, typed: str, asked: str, tracklet: Tracklet) -> Turn:
        return Turn(
            number=len(self.turns),
            typed=typed,
            question=asked,
            model=self.model,
            answer=tracklet.answer,
            found=bool(tracklet.found),
            score=float(tracklet.score),
            target_frame=tracklet.target_frame,
            mention=mention_in(asked, tracklet.answer),
            _tracks=tracklet.tracks,
            _tells_apart=tracklet.tells_apart,
        )


def _remark(turn: Turn, follow_up: FollowUp, earlier: Turn) -> str:
    """What the earlier masks say against an answer that was to be about another thing."""
    before, now = earlier.union().as_json(), turn.union().as_json()
    if follow_up.is_another and same_thing(before, now):
        return f"another one was asked for, and this is the one found for {earlier.question!r} again"
    if follow_up.side and lies_to(follow_up.side, before, now) is False:
        words = {"left": "to the left of", "right": "to the right of"}.get(follow_up.side, follow_up.side)
        return f"most of the time this does not lie {words} what was found for {earlier.question!r}"
    return ""


def _size(video: Video) -> tuple[int, int, int]:
    return video.num_frames, video.height, video.width
