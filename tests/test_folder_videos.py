"""inference.py --video-folder, whatever the videos are like: broken, oddly named, alike in name."""

from __future__ import annotations

from pathlib import Path

import av
from PIL import Image

from tests import folder_films
from tests.folder_films import by_name, summary_of
from tests.synthetic_clips import write_clip

full_fake = folder_films.full_fake
fake = folder_films.fake
films = folder_films.films
run = folder_films.run


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


def test_a_video_without_questions_is_said_and_not_opened(films, run, fake, tmp_path, capsys) -> None:
    write_clip(films / "a.mp4", 2)
    (films / "b.mp4").write_text("no video")
    assert run({"a.mp4": ["the dog"], "b.mp4": []}) == 0
    assert "no questions about" in capsys.readouterr().err
    assert by_name(tmp_path / "out")["b"]["results"] == []
