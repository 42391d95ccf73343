"""visa.ChatSession: what a conversation remembers, and that what fails leaves it as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import visa
from tests.chat_fakes import PlacedSegmenter, half
from tests.synthetic_clips import number_of, write_clip
from visa.chat_session import ChatSession
from visa.errors import DownloadError, InputError
from visa.overlay import draw_masks
from visa.video import Video


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 5)


@pytest.fixture
def segmenter() -> PlacedSegmenter:
    return PlacedSegmenter()


@pytest.fixture
def session(clip: Path, segmenter: PlacedSegmenter) -> ChatSession:
    session = ChatSession(segmenter=segmenter)
    session.open(clip)
    return session


def test_it_is_public() -> None:
    assert visa.ChatSession is ChatSession


def test_a_turn_is_the_models_answer(session: ChatSession, segmenter: PlacedSegmenter) -> None:
    turn = session.ask("the  twins on the left")
    assert (turn.number, turn.typed, turn.question) == (0, "the twins on the left", "the twins on the left")
    expected = segmenter.segment(session.video, turn.question, progress=lambda *_: None)
    assert session.tracklet(turn) == expected
    for frame in range(5):
        assert np.array_equal(turn.masks_at(frame), expected.object_masks[:, frame])
    absent = session.ask("the bus")
    assert session.turns == (turn, absent)
    assert not absent.found
    assert not session.tracklet(absent).masks.any()


def test_a_follow_up_is_asked_in_words(session: ChatSession, segmenter: PlacedSegmenter) -> None:
    for question in ("the car on the right", "and the one behind it?", "the bus", "is it red?"):
        session.ask(question)
    assert segmenter.asked == [
        "the car on the right",
        "the car behind the car on the right",
        "the bus",
        "is the car behind the car on the right red?",
    ]
    assert session.turns[1].typed == "and the one behind it?"


def test_it_means_what_was_found_last_even_without_a_name(
    session: ChatSession, segmenter: PlacedSegmenter
) -> None:
    session.ask("the car")
    session.ask("why is it so loud at the end of this")  # found, but nothing that can be named
    assert session.turns[-1].mention is None
    session.ask("the one behind it")
    assert segmenter.asked[-1] == "the one behind it"


@pytest.mark.parametrize(
    ("first", "second", "remark"),
    [
        ("the car on the left", "the other one on the left", "another one was asked for"),
        ("the car on the left", "the other one on the right", ""),
        ("the car on the left", "the red one on the left", ""),
        ("the car at the left", "what is at the right , left of it?", "does not lie to the left of"),
        ("the car at the right", "what is at the left , left of it?", ""),
        ("the car at the top", "what is at the bottom above it?", "does not lie above"),
        ("the car at the bottom", "what is at the top above it?", ""),
        ("the car on the left", "the bus behind it", ""),
    ],
)
def test_earlier_masks_tell_what_cannot_be(
    session: ChatSession, first: str, second: str, remark: str
) -> None:
    session.ask(first)
    said = session.ask(second).remark
    assert remark in said
    assert bool(said) == bool(remark)


def test_the_frame_that_is_looked_at(session: ChatSession) -> None:
    assert session.frame_index == 2
    assert number_of(session.picture()) == 2
    turn = session.ask("the car on the left")
    assert session.frame_index == 1
    session.go_to(4)
    frame = session.video[4]
    assert np.array_equal(session.picture(), draw_masks(frame, turn.masks_at(4)))
    assert not np.array_equal(session.picture(), frame)
    for beyond in (5, -1):
        with pytest.raises(InputError, match="0 to 4"):
            session.go_to(beyond)
    assert session.frame_index == 4
    session.ask("the bus")
    assert np.array_equal(session.picture(), frame)


def test_reset_and_another_clip_begin_anew(
    session: ChatSession, segmenter: PlacedSegmenter, tmp_path: Path
) -> None:
    session.ask("the car")
    session.reset()
    assert session.turns == ()
    session.ask("the one behind it")
    assert segmenter.asked[-1] == "the one behind it"
    with pytest.raises(InputError, match="no such video"):
        session.open(tmp_path / "no.mp4")
    assert len(session.turns) == 1
    session.open(write_clip(tmp_path / "second.mp4", 3))
    assert session.turns == ()
    assert session.video.name == "second"
    session.open(tmp_path / "second.mp4")
    assert len(session.ask("the car").masks_at(2)) == 1


def test_nothing_can_be_asked_before_a_clip_is_open(segmenter: PlacedSegmenter) -> None:
    session = ChatSession(segmenter=segmenter)
    for do in (
        lambda: session.ask("the car"),
        lambda: session.go_to(0),
        session.picture,
        lambda: session.video,
    ):
        with pytest.raises(InputError, match="open a clip first"):
            do()
    assert segmenter.asked == []
    session.reset()


@pytest.mark.parametrize("failure", [InputError("gone"), RuntimeError("bug"), KeyboardInterrupt()])
def test_a_failed_answer_leaves_no_trace(
    session: ChatSession, segmenter: PlacedSegmenter, failure: BaseException
) -> None:
    session.ask("the car on the right")
    before = session.turns
    segmenter.fail = failure
    with pytest.raises(type(failure)):
        session.ask("fail")
    assert session.turns == before
    session.ask("and the one behind it?")
    assert segmenter.asked[-1] == "the car behind the car on the right"
    # What the model keeps of a video may be half done: it must not be shown the same one again.
    assert segmenter.videos[1] is segmenter.videos[0]
    assert segmenter.videos[2] is not segmenter.videos[1]
    assert session.tracklet(session.turns[0]).video is session.video


def test_a_decoder_that_was_stopped_is_not_used_again(session: ChatSession) -> None:
    reader = session.video._source._pyav
    session.video._source._decord = None
    session.video._cache.clear()
    frames = reader.read(range(1))
    assert number_of(frames[0]) == 0
    with pytest.raises(KeyboardInterrupt):
        reader._decoded.throw(KeyboardInterrupt())  # as Ctrl-C does in the middle of a frame
    session.look_anew()
    assert [number_of(frame) for frame in session.video.frames(range(5))] == [0, 1, 2, 3, 4]


def test_a_clip_that_changed_meanwhile_is_said(session: ChatSession, clip: Path) -> None:
    session.ask("the car")
    write_clip(clip, 7)
    session.look_anew()
    with pytest.raises(InputError, match=r"clip\.mp4 has changed; open it again"):
        session.ask("the car")
    session.open(clip)
    session.ask("the car")


def test_frames_in_memory_are_a_clip_too(segmenter: PlacedSegmenter) -> None:
    session = ChatSession(segmenter=segmenter)
    session.open(Video.from_frames(np.zeros((3, 8, 8, 3), np.uint8)))
    session.ask("the car")
    session.look_anew()
    session.ask("it")
    assert segmenter.videos[1] is not segmenter.videos[0]
    assert np.array_equal(session.turns[1].masks_at(0)[0], half("left", np.zeros((1, 8, 8), bool))[0])


def test_the_model_is_loaded_once_and_another_takes_over(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(name: str) -> PlacedSegmenter:
        loaded.append(name)
        if name == "owner/unreachable":
            raise DownloadError("no network")
        return PlacedSegmenter.load(name)

    monkeypatch.setitem(vars(visa), "load", load)
    session = ChatSession("embedded")
    session.open(clip)
    assert loaded == []
    session.ask("the car")
    session.ask("the dog")
    assert loaded == ["embedded"]
    session.use("visa-7b")
    assert "visa-7b" in session.ask("and it?").answer
    assert [turn.model for turn in session.turns] == ["embedded", "embedded", "visa-7b"]
    with pytest.raises(InputError, match="no model is called 'nonsense'"):
        session.use("nonsense")
    assert session.model == "visa-7b"
    assert session.is_loaded
    with pytest.raises(DownloadError):
        session.use("owner/unreachable")
    assert session.model == "visa-7b"
    assert "visa-7b" in session.ask("the car").answer
    assert loaded == ["embedded", "visa-7b", "owner/unreachable", "visa-7b"]
