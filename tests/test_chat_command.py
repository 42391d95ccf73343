"""chat.py: a conversation that bad input never ends."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    assert "clip: 3 frames of 96x64" in said
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
        RuntimeError("CUDA out of memory"),
        MemoryError(),
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


def test_what_is_no_model_leaves_the_one_that_is_loaded(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = []

    def load(name: str) -> FakeSegmenter:
        loaded.append(name)
        return FakeSegmenter()

    monkeypatch.setitem(vars(visa), "load", load)
    (tmp_path / "mine").mkdir()
    lines = ["the dog", "/model nonsense", f"/model {tmp_path / 'mine'}", "/model", "the cat"]
    assert talk(monkeypatch, tmp_path / "out", lines, clip) == 0
    assert loaded == ["embedded"]
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if "loading" in line or "error" in line]
    assert said[0] == "loading embedded ..."
    assert said[1].startswith("error: no model is called 'nonsense'")
    assert said[2].startswith(f"error: the folder {tmp_path / 'mine'} holds no model")
    assert len(said) == 3
    assert "\nembedded (there are " in captured.out


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


def test_a_folder_that_is_no_model_is_bad_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setitem(vars(visa), "load", lambda name: pytest.fail("loaded for nothing"))
    arguments = ["--model", str(tmp_path / "mine"), "--output", str(tmp_path / "out")]
    assert chat.main(arguments) == 2
    assert f"the folder {tmp_path / 'mine'} holds no model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bad_clip_on_the_command_line_ends_a_piped_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(monkeypatch, tmp_path / "out", ["the dog", "/quit"], tmp_path / "no.mp4") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: no such video: ")
    assert captured.err.count("\n") == 1, "nothing is asked about it"
    assert captured.out == ""


def test_a_clip_opened_twice_begins_anew_and_overwrites_nothing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segmenter: FakeSegmenter, capsys
) -> None:
    lines = ["the dog", f"/open {clip}", "/save kept", "and the one behind it?", "/quit"]
    monkeypatch.chdir(tmp_path)
    assert talk(monkeypatch, tmp_path / "out", lines, clip) == 0
    captured = capsys.readouterr()
    assert captured.out.count("clip: 3 frames") == 2
    assert "nothing to save yet" in captured.err
    # Nothing has been found since, so there is nothing that "it" could be.
    assert segmenter.asked == ["the dog", "and the one behind it?"]
    assert {path.name for path in (tmp_path / "out" / "clip").iterdir()} == {"0", "1"}


def test_commands_with_nothing_or_nonsense_to_take(
    clip: Path,
    tmp_path: Path,
    segmenter: FakeSegmenter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    lines = [
        "/show",
        "/frame 0",
        "/save there",
        f"/open {clip}",
        "/frame",
        "/frame two",
        f"/frame {'9' * 5000}",
        "/frame -1",
        "/frame 3",
        "/save",
        f"/save {tmp_path / 'new'}",
        "the dog",
        f"/save {tmp_path / 'full'}",
        f"/save {clip}",
        f"/open ~nobody-of-this-name/{'x' * 5000}",
        "/opne x",
    ]
    assert talk(monkeypatch, tmp_path / "out", lines) == 0
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    complaints = [line for line in captured.err.splitlines() if line.startswith("error:")]
    expected = [
        "open a clip first",
        "open a clip first",
        "nothing to save yet",
        "give a frame's number",
        "not 'two'",
        "give a frame's number",
        "not '-1'",
        "the clip has 0 to 2",
        "give a folder",
        "nothing to save yet",
        "is not empty",
        "is a file",
        "cannot read",
        "did you mean /open",
    ]
    assert len(complaints) == len(expected)
    for complaint, words in zip(complaints, expected, strict=True):
        assert words in complaint
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("typed", ["'{}'", '"{}"', "{}", "dropped on the terminal"])
def test_paths_as_people_type_them(
    typed: str,
    tmp_path: Path,
    segmenter: FakeSegmenter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = write_clip(tmp_path / "a strange -- clip's name.mp4", 2)
    path = str(clip).replace("'", "\\'").replace(" ", "\\ ") if typed == "{}" else str(clip)
    line = shlex.quote(path) if typed.startswith("dropped") else typed.format(path)
    assert talk(monkeypatch, tmp_path / "out", [f"/open {line}", f"/open {clip}"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("2 frames") == 2, captured.err


def test_the_frame_is_shown_with_the_answer_on_it(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["/frame 2", "the dog", "/frame 2", "/reset", "/show"]
    assert talk(monkeypatch, tmp_path / "out", lines, clip) == 0
    folder = tmp_path / "out" / "clip"
    bare, drawn = (np.asarray(Image.open(folder / at / "shown_00002.png")) for at in ("", "0"))
    left = np.abs(bare.astype(int) - drawn)[:, :40].max(-1)
    assert (left > 0).all()
    assert np.array_equal(bare[:, 60:], drawn[:, 60:])
    assert (folder / "shown_00001.png").exists(), "after a reset the middle frame is looked at"


def test_control_codes_command_no_terminal(
    tmp_path: Path,
    segmenter: FakeSegmenter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 2).rename(tmp_path / "a\x1b]0;b\u202ec.mp4")
    assert talk(monkeypatch, tmp_path / "out", ["the [bold]dog[/bold] :car:"], clip) == 0
    said = capsys.readouterr().out
    assert "a\\x1b]0;b\\u202ec: 2 frames" in said
    assert "\x1b" not in said
    assert "Here: the (bold)dog(/bold) :car:." in said


def test_tab_completes_commands_paths_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from visa.commands.chat_input import CommandCompleter

    (tmp_path / "my clips").mkdir()
    (tmp_path / "my film.mp4").touch()
    monkeypatch.chdir(tmp_path)
    commands = {"/open": "CLIP", "/save": "DIR", "/show": "", "/model": "NAME", "/frame": "N"}
    completer = CommandCompleter(commands, lambda: ["embedded", "visa-7b"])

    def completed(text: str) -> list[str]:
        found = completer.get_completions(Document(text), CompleteEvent())
        return [text[: len(text) + one.start_position] + one.text for one in found]

    assert completed("/s") == ["/save ", "/show"]
    assert completed("/open my f") == ["/open my film.mp4"]
    assert completed("/open 'my f") == ["/open 'my film.mp4"]
    assert sorted(completed("/open my")) == ["/open my clips", "/open my film.mp4"]
    assert completed("/save my") == ["/save my clips"]
    assert completed(f"/open {tmp_path}/my f") == [f"/open {tmp_path}/my film.mp4"]
    assert completed("/model v") == ["/model visa-7b"]
    for text in ("", "the dog", "my", "open my", "/frame 1", "/nonsense m", "what is /op"):
        assert completed(text) == []
