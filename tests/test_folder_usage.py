"""inference.py --video-folder: bad questions, folders and options are told before anything is loaded."""

from __future__ import annotations

import pytest

import visa
from tests import folder_films
from tests.folder_films import errors_in
from tests.synthetic_clips import write_clip
from visa.commands import inference

films = folder_films.films
run = folder_films.run


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
        ({"gone.mp4": ["x"], "lost.mp4": ["y"]}, "the questions name 2 videos, and none is in"),
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
