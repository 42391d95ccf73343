"""inference.py --video-folder: every question of every video, whatever the videos are like."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import visa
from tests.folder_fakes import Fake, Together
from tests.synthetic_clips import write_clip
from visa.batch_run import engine
from visa.commands import inference
from visa.tracklet import Tracklet


def save_little(self: Tracklet, folder: Path) -> Path:
    """In place of `Tracklet.save`, which draws for a second."""
    for name in self.frame_names:
        (folder / f"{name}.png").touch()
    text = json.dumps(self.as_json(), ensure_ascii=False)
    (folder / "result.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def fake(full_fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(Tracklet, "save", save_little)
    return full_fake


@pytest.fixture
def full_fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    system = Fake()
    monkeypatch.setitem(vars(visa), "load", lambda name: system)
    return system


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


@pytest.fixture
def run(films: Path, tmp_path: Path):
    def _run(queries, *more: str, folder: Path = films, output: Path = tmp_path / "out") -> int:
        path = tmp_path / "queries.json"
        path.write_text(queries if isinstance(queries, str) else json.dumps(queries), encoding="utf-8")
        arguments = ["--video-folder", str(folder), "--queries", str(path), "--output", str(output), *more]
        return inference.main(arguments)

    return _run


def errors_in(capsys: pytest.CaptureFixture[str]) -> list[str]:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return [line[line.index("error: ") :] for line in text.splitlines() if "error: " in line]


def summary_of(output: Path) -> dict:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def by_name(output: Path) -> dict[str, dict]:
    return {entry["video"]: entry for entry in summary_of(output)["videos"]}


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


def test_a_bad_video_never_stops_the_rest(films, run, fake, tmp_path, capsys, monkeypatch) -> None:
    write_clip(films / "0 good.mp4", 2)
    (films / "1 text.mp4").write_text("words\n" * 100)
    (films / "2 nothing.mp4").touch()
    cut = write_clip(films / "3 cut.mp4", 20)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with av.open(str(films / "4 zero.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        container.start_encoding()
    (films / "5 dangling.mp4").symlink_to(films / "nowhere.mp4")
    write_clip(films / "6 locked.mp4", 2)
    half = write_clip(films / "7 half.mp4", 50, height=240, width=320, movflags="faststart")
    half.write_bytes(half.read_bytes()[: int(half.stat().st_size * 0.7)])
    write_clip(films / "x.mp4", 2).rename(films / "8 film.jpg")
    write_clip(films / "9 good.mp4", 2)
    opened = Path.open

    def refuse(self: Path, *args: object, **kwargs: object):
        if self.name == "6 locked.mp4":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    queries = {path.name: ["the dog", "the cat"] for path in sorted(films.iterdir())}
    assert run(queries | {"10 gone.mp4": ["the dog"], "9 goods.mp4": ["x"]}) == 1
    entries = by_name(tmp_path / "out")
    assert [name for name, entry in entries.items() if not entry.get("error")] == [
        "0 good",
        "7 half",
        "8 film",
        "9 good",
    ]
    assert all(len(entry["results"]) == 2 for entry in entries.values() if not entry.get("error"))
    assert "truncated" in entries["7 half"]["warnings"][0]
    assert "no permission" in entries["6 locked"]["error"]
    assert "empty file" in entries["2 nothing"]["error"]
    assert "did you mean '9 good.mp4'?" in entries["9 goods"]["error"]
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    errors = [line for line in captured.err.splitlines() if "error: " in line]
    assert len(errors) == 8
    rows = [line.split() for line in captured.out.splitlines() if line.startswith(("1 text", "10 gone"))]
    assert [row[2:6] for row in rows] == [["0", "0", "0", "2"], ["0", "0", "0", "1"]], "questions that failed"
    for name, entry in entries.items():
        if entry.get("error"):
            assert any(name in line for line in errors)
    assert summary_of(tmp_path / "out")["done"] is True
    # asked again, only the bad ones are tried again
    fake.asked.clear()
    write_clip(films / "2 nothing.mp4", 2)
    assert run(queries) == 1
    assert fake.asked == [("2 nothing", "the dog"), ("2 nothing", "the cat")]
    assert "error" not in by_name(tmp_path / "out")["2 nothing"]


NAMES = (
    "-dash.mp4",
    "--output.mp4",
    'it\'s "quoted" $(x) `y`.mp4',
    "кошка 猫 🐈.mp4",
    "%05d.mp4",
    "two\nlines.mp4",
    "http:__x.mp4",
    "[bold]red.mp4",
    "...mp4",
    "results.json.mp4",
    "  .mp4",
    "long" * 62 + ".mp4",
    "bad \udcff byte.mp4",
)


def test_names_of_any_kind(films, run, fake, tmp_path, capsys) -> None:
    for name in NAMES:
        write_clip(films / "plain.mp4", 2).rename(films / name)
    assert run({name: ["the dog"] for name in NAMES}) == 0
    output = tmp_path / "out"
    assert len(fake.asked) == len(NAMES)
    folders = [path for path in output.iterdir() if path.is_dir()]
    assert len(folders) == len(NAMES)
    assert all((folder / "0" / "result.json").is_file() for folder in folders)
    assert {"-dash", "--output", "кошка 猫 🐈", "%05d", "...mp4", "results.json.mp4"} <= {
        folder.name for folder in folders
    }
    fake.asked.clear()
    assert run(["the dog"]) == 0
    assert fake.asked == []
    # That of three dots is hidden and not asked about again; its answer is there all the same.
    assert len(by_name(output)) == len(NAMES)


def test_videos_of_one_stem_do_not_share_a_folder(films, run, fake, tmp_path) -> None:
    for name in ("a.mp4", "A.mkv", "a.mkv.avi", "b.mp4"):
        write_clip(films / name, 2, codec="mpeg4")
    (films / "b").mkdir()
    Image.new("RGB", (16, 16)).save(films / "b" / "0.png")
    assert run(["the dog"]) == 0
    names = list(by_name(tmp_path / "out"))
    assert len({name.lower() for name in names}) == 5
    assert {"a.mp4", "b.mp4", "b"} <= set(names)


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


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('"the dog"', "holds a text: expected"),
        ("null", "holds null"),
        ([], "holds no question"),
        ({}, "holds no question"),
        ({"a.mp4": []}, "holds no question"),
        ({"a.mp4": "the dog"}, "'a.mp4': expected a list of questions, got a text"),
        ({"a.mp4": ["the dog", 3]}, "question 2: expected words, got a number"),
        (["the dog", " "], "question 2: the question is empty"),
        (["a" * 5000], "5000 characters"),
        ('{"a.mp4": ["x"], "a.mp4": ["y"]}', "names 'a.mp4' twice"),
        ({"a.mp4": ["x"], "./a.mp4": ["y"]}, "a.mp4 twice"),
        ({"a.mp4": ["x"], "a": ["y"]}, "a.mp4 twice"),
        ({"../a.mp4": ["x"]}, "expected the name of a video in"),
        ({"/etc/a.mp4": ["x"]}, "expected the name of a video in"),
        ({"nul\0.mp4": ["x"]}, "expected the name of a video in"),
        ({"gone.mp4": ["x"], "lost.mp4": ["y"]}, "of 2 videos that the questions name none is in"),
    ],
)
def test_bad_questions_are_found_first(films, run, tmp_path, capsys, monkeypatch, queries, words) -> None:
    monkeypatch.setitem(vars(visa), "load", lambda name: pytest.fail("loaded for nothing"))
    write_clip(films / "a.mp4", 2)
    assert run(queries) == 2
    (line,) = errors_in(capsys)
    assert words in line
    assert not (tmp_path / "out").exists()


def test_folders_that_are_none(films, run, tmp_path, capsys) -> None:
    assert run(["x"], folder=tmp_path / "nowhere") == 2
    assert "no such folder" in errors_in(capsys)[0]
    (films / "notes.txt").write_text("words")
    assert run(["x"]) == 2
    assert "holds no videos" in errors_in(capsys)[0]
    assert run(["x"], folder=films / "notes.txt") == 2
    assert "no such folder" in errors_in(capsys)[0]
    write_clip(films / "a.mp4", 2)
    assert run(["x"], output=films / "notes.txt") == 2
    assert "is a file" in errors_in(capsys)[0]
    path = tmp_path / "nothing.json"
    arguments = ["--video-folder", str(films), "--queries", str(path), "--output", str(tmp_path / "out")]
    assert inference.main(arguments) == 2
    assert "cannot read the questions" in errors_in(capsys)[0]


def test_a_video_without_questions_is_said_and_not_opened(films, run, fake, tmp_path, capsys) -> None:
    write_clip(films / "a.mp4", 2)
    (films / "b.mp4").write_text("no video")
    assert run({"a.mp4": ["the dog"], "b.mp4": []}) == 0
    assert "no questions about" in capsys.readouterr().err
    assert by_name(tmp_path / "out")["b"]["results"] == []


def test_a_file_where_a_videos_folder_belongs_costs_that_video_only(
    films, run, fake, tmp_path, capsys
) -> None:
    write_clip(films / "a.mp4", 2)
    write_clip(films / "b.mp4", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("in the way")
    assert run(["the dog"]) == 1
    assert "File exists" in by_name(tmp_path / "out")["a"]["error"]
    assert len(by_name(tmp_path / "out")["b"]["results"]) == 1
    assert len(errors_in(capsys)) == 1


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    films, run, fake, tmp_path, capsys, monkeypatch
) -> None:
    for name in ("a", "b", "c"):
        write_clip(films / f"{name}.mp4", 2)
    save = Tracklet.save

    def full(self: Tracklet, folder: Path) -> Path:
        if (self.video.name, self.question) == ("b", "the cat"):
            (folder / "00000.png").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, folder)

    monkeypatch.setattr(Tracklet, "save", full)
    assert run(["the dog", "the cat"]) == 1
    (line,) = errors_in(capsys)
    assert "stopped: " in line
    assert "No space left on device; what is done is kept" in line
    assert len(fake.asked) == 4
    output = tmp_path / "out"
    assert summary_of(output)["done"] is False
    assert not (output / "b" / "1").exists()
    assert not list(output.rglob(".*"))
    monkeypatch.setattr(Tracklet, "save", save)
    fake.asked.clear()
    assert run(["the dog", "the cat"]) == 0
    assert fake.asked == [("b", "the cat"), ("c", "the dog"), ("c", "the cat")]


def test_an_output_holds_one_models_answers(films, run, fake, tmp_path, capsys) -> None:
    write_clip(films / "a.mp4", 2)
    assert run(["the dog"]) == 0
    assert run(["the dog"], "--model", "other") == 2
    assert "holds predictions of model 'embedded' and not 'other'" in errors_in(capsys)[-1]
    assert run(["the dog"], "--cutout") == 2


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


def test_the_output_may_lie_in_the_folder(films, run, fake, tmp_path) -> None:
    (films / "walk").mkdir()
    Image.new("RGB", (16, 16)).save(films / "walk" / "0.png")
    for _ in range(2):
        assert run(["the dog"], output=films / "out") == 0
    assert fake.asked == [("walk", "the dog")]
    assert run(["the dog"], output=films) == 0
    assert run(["the dog"], output=films) == 0
    assert fake.asked == [("walk", "the dog")] * 2


def test_the_cut_out_is_the_object_and_nothing_else(films, run, full_fake, tmp_path) -> None:
    write_clip(films / "a.mp4", 4, height=63, width=95, pixel_format="yuv444p")
    assert run(["the dog", "the bus"], "--cutout") == 0
    folder = tmp_path / "out" / "a" / "0"
    with Image.open(folder / "cutout.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (63, 95, 4)
    assert (pixels[:, :47, 3] == 255).all()
    assert not pixels[:, 47:].any()
    with av.open(str(folder / "cutout.webm")) as container:
        # libavcodec's own VP9 decoder leaves the alpha channel out
        stream = container.streams.video[0]
        assert stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = [packet for packet in container.demux(stream) if packet.size]
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    assert len(frames) == 4
    alpha = frames[2].to_ndarray(format="rgba")[..., 3]
    assert alpha[:63, :44].min() > 200
    assert alpha[:63, 52:].max() < 50
    assert not (tmp_path / "out" / "a" / "1" / "cutout.png").exists()


def test_one_video_can_be_cut_out_too(films, tmp_path, monkeypatch) -> None:
    from tests.test_inference_command import FakeSegmenter

    monkeypatch.setitem(vars(visa), "load", lambda name: FakeSegmenter())
    clip = write_clip(films / "a.mp4", 2)
    arguments = ["--video", str(clip), "--query", "the dog", "--output", str(tmp_path / "out"), "--cutout"]
    assert inference.main(arguments) == 0
    assert (tmp_path / "out" / "a" / "0" / "cutout.webm").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--video-folder", "x"], "needs --queries"),
        (["--video-folder", "x", "--queries", "q", "--query", "the dog"], "--query goes with --video"),
        (["--video", "x", "--query", "the dog", "--queries", "q"], "--queries goes with --video-folder"),
        (["--dataset", "revos", "--root", "x", "--cutout"], "--cutout goes with --video or --video-folder"),
        (["--video-folder", "x", "--queries", "q", "--video", "x"], "not allowed with"),
    ],
)
def test_the_forms_are_not_mixed(arguments, words, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        inference.main([*arguments, "--output", str(tmp_path)])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
