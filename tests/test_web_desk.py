"""Visitors, their clips and answers, without a page: what is kept, who finds it, what is shown."""

from __future__ import annotations

import json
import re
import threading
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.synthetic_clips import write_clip
from tests.web_fakes import HalfSegmenter
from visa.errors import InputError
from visa.web import markup
from visa.web.desk import ANSWERS, CLIPS, Desk, RecordedSampler
from visa.web.limits import Limits
from visa.web.timeline import describe, draw_timeline, presence
from visa.web.visitors import MAX_ANSWERS, MAX_CLIPS, Visitor, Visitors


@pytest.fixture
def visitors(tmp_path: Path) -> Visitors:
    root = tmp_path / "root"
    root.mkdir()
    return Visitors(root)


@pytest.fixture
def visitor(visitors: Visitors) -> Visitor:
    return visitors.get(visitors.welcome())


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "uploaded.mp4", 8)


def test_an_answer_is_written_for_its_visitor(visitors: Visitors, visitor: Visitor, clip: Path) -> None:
    desk = Desk(HalfSegmenter())
    told: list[tuple[str, int, int]] = []
    opened = desk.open(visitor, clip, "my cats.mp4")
    assert (opened.name, opened.num_frames, opened.width) == ("my cats.mp4", 8, 96)
    shown = desk.ask(visitor, opened.key, " the   left ", lambda *report: told.append(report))
    assert list(dict.fromkeys(stage for stage, *_ in told)) == [
        "sample",
        "reason",
        "segment",
        "propagate",
        "save",
    ]
    saving = [report for report in told if report[0] == "save"]
    assert saving == [("save", done, 16) for done in range(17)], "8 masks and 8 frames"
    assert (shown.question, shown.found, shown.target, shown.looked_at) == ("the left", True, 4, (0, 4, 7))
    np.testing.assert_allclose(shown.areas, [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    folder = visitor.find(ANSWERS, shown.key)
    assert {"overlay.mp4", "target.jpg", "masks.zip", "result.json"} <= {p.name for p in folder.iterdir()}
    with zipfile.ZipFile(folder / "masks.zip") as masks:
        assert "my cats/result.json" in masks.namelist()
        with masks.open("my cats/00002.png") as file:
            mask = np.asarray(Image.open(file))
        assert json.loads(masks.read("my cats/result.json"))["video"] == "my cats"
    assert mask[:, :48].min() == 255
    assert mask[:, 48:].max() == 0
    stranger = visitors.get(visitors.welcome())
    assert stranger.find(ANSWERS, shown.key) is None
    with pytest.raises(InputError, match="upload a clip first"):
        desk.ask(stranger, opened.key, "the left")


def test_what_is_not_there(visitor: Visitor, clip: Path) -> None:
    desk = Desk(HalfSegmenter())
    shown = desk.ask(visitor, desk.open(visitor, clip, "a.mp4").key, "the bus")
    assert (shown.found, shown.target, shown.num_objects, shown.areas.max()) == (False, 4, 0, 0)
    assert visitor.find(ANSWERS, shown.key, "target.jpg") is None
    text = markup.show_answer(shown)
    assert "not found" in text
    assert "<video" not in text


def test_a_clip_stays_open_from_question_to_question(visitor: Visitor, clip: Path) -> None:
    segmenter = HalfSegmenter()
    desk = Desk(segmenter)
    key = desk.open(visitor, clip, "a.mp4").key
    desk.ask(visitor, key, "one")
    desk.ask(visitor, key, "two")
    assert segmenter.videos[0] is segmenter.videos[1]
    with pytest.raises(RuntimeError, match="secret"):
        desk.ask(visitor, key, "break")
    desk.ask(visitor, key, "three")
    assert segmenter.videos[3] is not segmenter.videos[2], "a broken-off clip is opened anew"


def test_broken_clips_are_told_by_their_owners_name(visitor: Visitor, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.bin"
    broken.write_bytes(clip.read_bytes()[:400])  # its beginning, without an index
    desk = Desk(HalfSegmenter())
    with pytest.raises(InputError) as raised:
        desk.open(visitor, broken, "C:\\holiday\\be<a>ch.mp4")
    assert str(raised.value).count("beach.mp4") == 1
    assert str(tmp_path) not in str(raised.value)
    with pytest.raises(InputError, match=r"^beach\.mp4 has 8 frames.*at most 7"):
        Desk(HalfSegmenter(), Limits(frames=7)).open(visitor, clip, "/tmp/../beach.mp4")
    with pytest.raises(InputError, match="is not here any more"):
        desk.open(visitor, tmp_path / "gone", "gone.mp4")
    assert list((visitor.folder / CLIPS).iterdir()) == [], "nothing stays of what was refused"


def test_whoever_leaves_while_pictures_are_written_leaves_nothing_behind(
    visitor: Visitor, clip: Path
) -> None:
    desk = Desk(HalfSegmenter())

    def leave(stage: str, done: int, total: int) -> None:
        if stage == "save" and done > 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.ask(visitor, desk.open(visitor, clip, "a.mp4").key, "one", leave)
    assert list((visitor.folder / ANSWERS).iterdir()) == []


def test_closing_stops_the_answer_in_work(visitor: Visitor, clip: Path) -> None:
    desk = Desk(HalfSegmenter())
    key = desk.open(visitor, clip, "a.mp4").key
    reported, go_on = threading.Event(), threading.Event()
    failures: list[RuntimeError] = []

    def report(stage: str, done: int, total: int) -> None:
        reported.set()
        go_on.wait(10)

    def ask() -> None:
        try:
            desk.ask(visitor, key, "one", report)
        except RuntimeError as error:
            failures.append(error)

    answering = threading.Thread(target=ask)
    answering.start()
    assert reported.wait(10)
    assert not desk.close(0.05), "it is in the middle of something"
    go_on.set()
    assert desk.close(10)
    answering.join(10)
    assert [str(error) for error in failures] == ["the page has ended"]


@pytest.mark.parametrize("question", ["", "   ", "x" * 2001])
def test_bad_questions(visitor: Visitor, clip: Path, question: str) -> None:
    desk = Desk(HalfSegmenter())
    with pytest.raises(InputError, match="question") as raised:
        desk.ask(visitor, desk.open(visitor, clip, "a.mp4").key, question)
    assert "--query" not in str(raised.value)


def test_only_the_newest_are_kept(visitor: Visitor, clip: Path) -> None:
    desk = Desk(HalfSegmenter())
    clips = [desk.open(visitor, clip, "a.mp4").key for _ in range(MAX_CLIPS + 1)]
    answers = [visitor.new_folder(ANSWERS, MAX_ANSWERS).name for _ in range(MAX_ANSWERS)]
    answers.append(desk.ask(visitor, clips[-1], "one").key)
    assert visitor.find(CLIPS, clips[0]) is None
    assert visitor.find(CLIPS, clips[1]) is not None
    assert visitor.find(ANSWERS, answers[0]) is None
    assert visitor.find(ANSWERS, answers[1]) is not None


@pytest.mark.parametrize("name", ["..", ".", "", "../answers", "/", "\x00"])
def test_names_from_the_browser_are_no_paths(visitor: Visitor, clip: Path, name: str) -> None:
    key = Desk(HalfSegmenter()).open(visitor, clip, "a.mp4").key
    assert visitor.find(CLIPS, key, "name") is not None
    assert visitor.find(CLIPS, name, "name") is None
    assert name == "" or visitor.find(CLIPS, key, name) is None


def test_visitors_are_forgotten_with_their_files(tmp_path: Path) -> None:
    now = [0.0]
    visitors = Visitors(tmp_path, idle_seconds=10, capacity=3, clock=lambda: now[0])
    token = visitors.welcome()
    visitor = visitors.get(token)
    upload = tmp_path / "upload"
    upload.touch()
    visitor.uploads.add(str(upload))
    assert visitors.owns_session(visitor, "tab")
    assert visitors.get("other") is None
    assert visitors.get(None) is None
    now[0] = 11.0
    other = visitors.get(visitors.welcome())
    assert visitors.get(token) is None
    assert not visitor.folder.exists()
    assert not upload.exists()
    assert visitors.owns_session(other, "tab"), "the name is free again"


def test_a_crowd_of_empty_visitors_drives_nobody_out(tmp_path: Path) -> None:
    visitors = Visitors(tmp_path, capacity=3)
    token = visitors.welcome()
    visitors.get(token).new_folder(CLIPS, 1)
    for _ in range(10):
        visitors.welcome()
    assert len(visitors) == 3
    assert visitors.get(token) is not None


def test_which_frames_were_read() -> None:
    class Fixed:
        def choose(self, num_frames, question, scorer):
            from visa.sampling.choice import FrameChoice

            return FrameChoice(5, (2, 9, 2), dense=(1,) if question == "dense" else ())

    sampler = RecordedSampler(Fixed())
    assert sampler.looked_at() == ()
    sampler.choose(10, "plain", None)
    assert sampler.looked_at() == (2, 5, 9)
    sampler.choose(10, "dense", None)
    assert sampler.looked_at() == (2, 9), "VideoLISA reads the references alone"


def test_the_line_of_time() -> None:
    areas = np.array([0, 0.1, 0.2, 0, 0, 0.001])
    assert presence(areas) == [(1, 2), (5, 5)]
    assert describe(areas, (0, 3), 2) == "in 3 of 6 frames: 1 to 2, 5; looked at 0, 3; target frame 2"
    drawn = ElementTree.fromstring(draw_timeline(areas, (0, 3), 2, fps=3.0))
    bars = [element for element in drawn.iter() if element.get("class") == "here"]
    assert [round(float(bar.get("x"))) for bar in bars] == [167, 333, 833]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[1] == 2 * heights[0] > heights[2] > 5
    dots = [element for element in drawn.iter() if element.get("class") == "looked"]
    assert [(dot.get("data-frame"), dot.get("cx")) for dot in dots] == [("0", "83.3"), ("3", "583.3")]
    assert "frame 5 · 2.0 s" in "".join(drawn.itertext())
    long = draw_timeline(np.ones(5000))
    assert long.count('class="here"') == 500
    assert "here" not in draw_timeline(np.zeros(3)).replace('aria-label="in 0 of 3 frames"', "")


@pytest.mark.parametrize(("areas", "looked_at", "target"), [([], (), None), ([0], (1,), None), ([0], (), -1)])
def test_no_such_frame_on_the_line(areas: list, looked_at: tuple, target: int | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        draw_timeline(np.array(areas, float), looked_at, target)


def test_what_a_person_writes_is_never_markup(visitor: Visitor, clip: Path) -> None:
    desk = Desk(HalfSegmenter())
    opened = desk.open(visitor, clip, "a&b's.mp4")
    shown = desk.ask(visitor, opened.key, 'the "left" & <img src=x onerror=alert(1)>')
    assert "[SEG]" not in markup.show_answer(shown)
    text = markup.show_clip(opened) + markup.show_answer(shown) + markup.message("<script>1</script>\nline")
    assert "onerror" in text
    assert not re.search(r"<(script|img src=x)", text)
    assert "&lt;script&gt;1&lt;/script&gt; line" in text
    assert "a&amp;b&#x27;s.mp4" in text
