"""inference.py --video-folder: every question of every video is asked, once, and its answer kept."""

from __future__ import annotations

from PIL import Image

import visa
from tests import folder_films
from tests.folder_fakes import Fake, Together
from tests.folder_films import by_name, errors_in, save_little, summary_of
from tests.synthetic_clips import write_clip
from visa.batch_run import engine
from visa.tracklet import Tracklet

full_fake = folder_films.full_fake
fake = folder_films.fake
films = folder_films.films
run = folder_films.run


def test_every_video_gets_its_own_questions(films, run, full_fake, tmp_path, capsys) -> None:
    write_clip(films / "b.mp4", 3)
    write_clip(films / "a10.mp4", 5)
    write_clip(films / "a9.mkv", 2)
    queries = {"a10.mp4": ["the  dog", "the red bus"], "a9": ["the cat"]}
    assert run(queries) == 0
    assert full_fake.asked == [("a10", "the dog"), ("a10", "the red bus"), ("a9", "the cat")]
    assert len(full_fake.videos) == 2
    output = tmp_path / "out"
    summary = summary_of(output)
    assert (summary["model"], summary["done"]) == ("embedded", True)
    assert [entry["video"] for entry in summary["videos"]] == ["a10", "a9"]
    results = summary["videos"][0]["results"]
    assert [(one["number"], one["question"], one["found"], one["target_frame"]) for one in results] == [
        (0, "the dog", True, 0),
        (1, "the red bus", False, -1),
    ]
    for entry in summary["videos"]:
        for one in entry["results"]:
            names = {path.name for path in (output / one["folder"]).iterdir()}
            assert {"00000.png", "overlay.mp4", "contact_sheet.png", "result.json"} <= names
    captured = capsys.readouterr()
    assert "3 of 3 questions answered" in captured.out
    row = next(line for line in captured.out.splitlines() if line.startswith("a10"))
    assert row.split() == ["a10", "2", "1", "1", "0"]
    for words in ("video 2/2", "3/3 questions", "frames/s", "100%", " left"):
        assert words in captured.err
    assert not list(output.rglob(".*"))


def test_one_list_is_for_every_video(films, run, fake, tmp_path, capsys) -> None:
    for name in ("10.mp4", "9.webm"):
        write_clip(films / name, 2, codec="libvpx" if name.endswith("webm") else "libx264")
    (films / "walk").mkdir()
    Image.new("RGB", (16, 16)).save(films / "walk" / "0.png")
    (films / "empty").mkdir()
    (films / "notes.txt").write_text("words")
    write_clip(films / ".hidden.mp4", 2)
    write_clip(films / "x.mp4", 2).rename(films / "wrong extension.dat")
    assert run(["the dog"]) == 0
    assert [name for name, _ in fake.asked] == ["9", "10", "walk", "wrong extension"]
    warning = next(line for line in capsys.readouterr().err.splitlines() if "left out" in line)
    assert "2 entries" in warning
    assert "empty, notes.txt" in warning


def test_a_question_that_fails_costs_no_other(films, run, fake, tmp_path, capsys) -> None:
    write_clip(films / "a.mp4", 2)
    write_clip(films / "b.mp4", 2)
    assert run(["the dog", "an impossible thing", "the cat"]) == 1
    for entry in summary_of(tmp_path / "out")["videos"]:
        assert [one["number"] for one in entry["results"]] == [0, 2]
        (failed,) = entry["failed"]
        assert failed["number"] == "1"
        assert "cannot answer" in failed["error"]
    assert len(errors_in(capsys)) == 2
    assert len(fake.asked) == 6


def test_answers_that_come_together_are_kept_each(films, run, tmp_path, monkeypatch, capsys) -> None:
    together = Together()
    monkeypatch.setattr(Tracklet, "save", save_little)
    monkeypatch.setitem(vars(visa), "load", lambda name: together)
    write_clip(films / "a.mp4", 2)
    questions = [f"thing {number}" for number in range(20)]
    assert run([*questions, "impossible", "the end"]) == 1
    assert together.calls[0] == questions[:16]
    entry = by_name(tmp_path / "out")["a"]
    assert [one["number"] for one in entry["results"]] == [*range(20), 21]
    assert len(errors_in(capsys)) == 1


def test_a_thousand_questions_for_one_video(films, run, fake, tmp_path, monkeypatch) -> None:
    write_clip(films / "a.mp4", 1, height=16, width=16)
    monkeypatch.setattr(Tracklet, "save", lambda self, folder: (folder / "result.json").touch())
    assert run({"a.mp4": [f"thing {number}" for number in range(1000)]}) == 0
    assert len(by_name(tmp_path / "out")["a"]["results"]) == 1000
    assert len(set(map(id, fake.videos))) == 1  # opened once
    fake.asked.clear()
    assert run({"a.mp4": [f"thing {number}" for number in range(1000)]}) == 0
    assert fake.asked == []


def test_questions_that_all_fail_alike_are_given_up(films, run, fake, monkeypatch, tmp_path, capsys) -> None:
    write_clip(films / "a.mp4", 2)
    write_clip(films / "b.mp4", 2)
    plain = fake.segment_each

    def fail(video, questions, *, progress=None):
        if video.name == "a":
            fake.asked.append((video.name, questions[0]))
            raise RuntimeError("out of memory")
        yield from plain(video, questions, progress=progress)

    fake.segment_each = fail
    assert run([f"thing {number}" for number in range(9)]) == 1
    assert sum(name == "a" for name, _ in fake.asked) == engine.MAX_SAME_FAILURES
    entries = by_name(tmp_path / "out")
    assert len(entries["a"]["failed"]) == 9
    assert "RuntimeError: out of memory" in entries["a"]["failed"][0]["error"]
    assert len(entries["b"]["results"]) == 9
    assert len(errors_in(capsys)) == 4


def test_a_system_that_gives_answers_one_by_one_is_asked_all_at_once(
    films, run, tmp_path, monkeypatch
) -> None:
    fake, calls = Fake(), []
    monkeypatch.setattr(Tracklet, "save", save_little)
    monkeypatch.setitem(vars(visa), "load", lambda name: fake)
    each = fake.segment_each

    def noted(video, questions, **options):
        calls.append(questions)
        return each(video, questions, **options)

    monkeypatch.setattr(fake, "segment_each", noted, raising=False)
    write_clip(films / "a.mp4", 2)
    questions = [f"thing {number}" for number in range(40)]
    assert run(questions) == 0
    assert calls == [questions]


def test_other_questions_and_changed_videos_are_answered_anew(films, run, fake, tmp_path) -> None:
    write_clip(films / "a.mp4", 2)
    write_clip(films / "b.mp4", 2)
    assert run(["the dog", "the cat"]) == 0
    fake.asked.clear()
    assert run(["the dog", "the bus", "the cat"]) == 0
    assert fake.asked == [("a", "the bus"), ("a", "the cat"), ("b", "the bus"), ("b", "the cat")]
    write_clip(films / "b.mp4", 3)
    fake.asked.clear()
    assert run(["the dog"]) == 0
    assert fake.asked == [("b", "the dog")]
    assert (tmp_path / "out" / "b" / "0" / "00002.png").exists()
