"""chat.py: a conversation that bad input never ends."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import visa
from tests.synthetic_clips import write_clip
from tests.test_inference_command import FakeSegmenter
from visa.commands import chat
from visa.errors import DownloadError, InputError


@pytest.fixture
def segmenter(monkeypatch: pytest.MonkeyPatch) -> FakeSegmenter:
    fake = FakeSegmenter()
    monkeypatch.setitem(vars(visa), "load", lambda name: fake)
    return fake


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 3)


def talk(monkeypatch: pytest.MonkeyPatch, output: Path, lines: list[str], clip: Path | None = None) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
    return chat.main([*([str(clip)] if clip else []), "--output", str(output)])


def test_questions_are_answered_with_words_and_a_picture(
    clip: Path,
    tmp_path: Path,
    segmenter: FakeSegmenter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    assert talk(monkeypatch, output, ["the dog", "a red bus", "/quit", "never asked"], clip) == 0
    assert segmenter.asked == ["the dog", "a red bus"]
    said = capsys.readouterr().out
    assert "clip: 3 frame(s) of 96x64" in said
    assert "Here: the dog." in said
    assert "not found: There is none." in said
    for number in ("0", "1"):
        assert str(output / "clip" / number / "contact_sheet.png") in said
        assert (output / "clip" / number / "result.json").exists()


def test_earlier_answers_are_never_overwritten(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert talk(monkeypatch, tmp_path / "out", ["the dog"], clip) == 0
    assert sorted(path.name for path in (tmp_path / "out" / "clip").iterdir()) == ["0", "1"]


def test_bad_input_gets_one_line_and_the_conversation_goes_on(
    clip: Path,
    tmp_path: Path,
    segmenter: FakeSegmenter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [
        "too early",
        "/open",
        "/open nothing.mp4",
        "/no_such_command",
        "",
        "/",
        f"/open '{clip}'",
        "/open /dev/null",
        "a" * 10_000,
        "\x07\u200b",
        "help the dog",
        "? [SEG]",
        "!dog",
        "EOFs",
    ]
    assert talk(monkeypatch, tmp_path / "out", lines) == 0
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    complaints = [line for line in errors.splitlines() if line.startswith("error:")]
    expected = [
        "open a clip first",
        "give the clip",
        "no such video: nothing.mp4",
        "no such command: /no_such_command",
        "neither a file nor a folder",
        "10000 characters",
        "the question is empty",
    ]
    assert len(complaints) == len(expected)
    for complaint, words in zip(complaints, expected, strict=True):
        assert words in complaint
    assert segmenter.asked == ["help the dog", "? (SEG)", "!dog", "EOFs"]


@pytest.mark.parametrize(
    "failure",
    [
        InputError("a frame is gone"),
        OSError(28, "No space left"),
        DownloadError("no network"),
        KeyboardInterrupt(),
    ],
)
def test_a_failed_answer_does_not_end_it(
    clip: Path,
    tmp_path: Path,
    segmenter: FakeSegmenter,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    segmenter.fail = failure
    assert talk(monkeypatch, tmp_path / "out", ["fail", "the dog"], clip) == 0
    assert segmenter.asked == ["fail", "the dog"]
    assert (tmp_path / "out" / "clip" / "0" / "result.json").exists()


def test_a_model_that_does_not_load_is_tried_again(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    attempts = []

    def load(name: str) -> None:
        attempts.append(name)
        raise DownloadError("no network: put a.bin at b")

    monkeypatch.setitem(vars(visa), "load", load)
    assert talk(monkeypatch, tmp_path / "out", ["the dog", "the cat"], clip) == 0
    assert attempts == ["embedded", "embedded"]
    assert capsys.readouterr().err.count("error: no network") == 2


def test_help_names_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(monkeypatch, tmp_path / "out", ["/help"]) == 0
    said = capsys.readouterr().out
    for command in (
        "/open CLIP",
        "/frame N",
        "/show",
        "/save DIR",
        "/reset",
        "/model NAME",
        "/help",
        "/quit",
    ):
        assert command in said


def test_an_output_that_is_a_file_is_bad_usage(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(monkeypatch, clip, ["the dog"]) == 2
    assert "is a file" in capsys.readouterr().err


def test_the_clip_on_the_command_line_may_be_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(monkeypatch, tmp_path / "out", ["/quit"], tmp_path / "no.mp4") == 0
    assert "no such video" in capsys.readouterr().err
