"""chat.py as a program: through a pipe, and through a pseudo-terminal with a person's keys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chat_fakes import ROOT, RUNNER
from tests.synthetic_clips import write_clip

CTRL_C, CTRL_D, TAB, UP = "\x03", "\x04", "\t", "\x1b[A"
# What a prompt begins with: from here on it takes keys.
READY = r"\x1b\[\?2004h"
PATIENCE = 60


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 5)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("TMUX", "NO_COLOR", "COLORTERM")
    }
    return kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody is there to answer where the cursor is
        "TERM": "xterm-256color",
        "OMP_NUM_THREADS": "1",
    }


class TestPiped:
    """`python chat.py clip.mp4 < questions.txt`."""

    def run(self, folder: Path, environment: dict[str, str], text: bytes, *arguments: str):
        return subprocess.run(
            [sys.executable, "-c", RUNNER, *arguments],
            check=False,
            input=text,
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=PATIENCE,
        )

    def test_a_file_of_questions(self, clip: Path, tmp_path: Path, environment: dict[str, str]) -> None:
        text = "\ufeffthe car on the right\r\n\r\nand the one behind it?\nthe bus\n/save kept"
        result = self.run(tmp_path, environment, text.encode(), str(clip))
        assert result.returncode == 0, result.stderr
        assert result.stderr.decode().splitlines() == ["loading embedded ..."]
        folders = [Path("out/chat/clip") / str(number) for number in range(3)]
        assert result.stdout.decode().splitlines() == [
            "clip: 5 frames of 96x64, 25 per second",
            "> the car on the right",
            "It is the car on the right says embedded.",
            str(folders[0] / "contact_sheet.png"),
            "> and the one behind it?",
            "(asked as: the car behind the car on the right)",
            "It is the car behind the car on the right says embedded.",
            "but another one was asked for, and this is the one found for 'the car on the right' again",
            str(folders[1] / "contact_sheet.png"),
            "> the bus",
            "not found: There is none.",
            str(folders[2] / "contact_sheet.png"),
            "> /save kept",
            str(Path("kept") / "conversation.json"),
        ]
        for folder in folders:
            assert (tmp_path / folder / "result.json").exists()
        kept = json.loads((tmp_path / "kept" / "conversation.json").read_text())
        assert [turn["typed"] for turn in kept["turns"]][1] == "and the one behind it?"
        for turn in kept["turns"]:
            assert (tmp_path / "kept" / turn["folder"] / "overlay.mp4").exists()
        assert not (tmp_path / "state").exists(), "a piped conversation is not for the history"

    def test_bytes_that_are_no_text_cost_their_line(
        self, clip: Path, tmp_path: Path, environment: dict[str, str]
    ) -> None:
        result = self.run(tmp_path, environment, b"the c\xffr\nthe dog\n", str(clip))
        assert result.returncode == 0
        assert b"error: that line is not text" in result.stderr
        assert b"It is the dog" in result.stdout

    def test_no_input_at_all(self, clip: Path, tmp_path: Path, environment: dict[str, str]) -> None:
        assert self.run(tmp_path, environment, b"", str(clip)).returncode == 0
        command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", RUNNER]
        closed = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True)
        assert (closed.returncode, closed.stderr) == (0, b"")

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
    def test_an_interrupt_costs_an_answer_and_two_leave(
        self, clip: Path, tmp_path: Path, environment: dict[str, str]
    ) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(clip)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
        ) as process:
            process.stdin.write(b"a slow car\nthe dog\nslow one\nslow two\n")
            process.stdin.close()
            wait_for(process.stderr, b"at it")
            process.send_signal(signal.SIGINT)
            wait_for(process.stderr, b"stopped; Ctrl-C again leaves")
            wait_for(process.stdout, b"It is the dog")
            for _ in range(2):
                wait_for(process.stderr, b"at it")
                process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            assert b"Traceback" not in process.stderr.read()

    def test_a_reader_that_has_gone(self, clip: Path, tmp_path: Path, environment: dict[str, str]) -> None:
        questions = tmp_path / "questions.txt"
        questions.write_text("the dog\n" * 3)
        with (
            questions.open() as lines,
            subprocess.Popen(
                [sys.executable, "-c", RUNNER, str(clip)],
                stdin=lines,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=environment,
            ) as process,
        ):
            process.stdout.readline()
            process.stdout.close()
            process.wait(PATIENCE)
            assert b"Traceback" not in process.stderr.read()


def wait_for(stream, words: bytes) -> None:
    """Read lines until one has the words."""
    for line in stream:
        if words in line:
            return
    raise AssertionError(f"the program ended without {words!r}")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
class TestPseudoTerminal:
    """A person at a terminal."""

    @pytest.fixture
    def start(self, tmp_path: Path, environment: dict[str, str]) -> Iterator:
        import pexpect

        children = []

        def run(*arguments: str, **variables: str) -> pexpect.spawn:
            child = pexpect.spawn(
                sys.executable,
                ["-c", RUNNER, *arguments],
                cwd=str(tmp_path),
                env=environment | variables,
                encoding="utf-8",
                timeout=PATIENCE,
                dimensions=(50, 200),
            )
            children.append(child)
            return child

        yield run
        for child in children:
            child.close(force=True)

    @staticmethod
    def leave(child) -> None:
        import pexpect

        child.expect(READY)
        child.send(CTRL_D)
        child.expect(pexpect.EOF)
        child.close()
        assert (child.exitstatus, child.signalstatus) == (0, None)

    def test_a_conversation(self, clip: Path, start, tmp_path: Path) -> None:
        child = start("--pictures", "none")
        child.expect("Ask about the clip")
        child.send("the car\r")
        child.expect("error: open a clip first")
        child.send(f"/op{TAB}")
        child.expect("en")
        child.send(f"{clip.with_suffix('')}{TAB}")
        child.expect(r"\.mp4")
        child.send("\r")
        child.expect("clip: 5 frame")
        child.send("the car on the right\r")
        child.expect("It is the car on the right says embedded")
        child.expect("contact_sheet.png")
        child.send("and the one behind it?\r")
        child.expect("asked as: the car behind the car on the right")
        child.expect("contact_sheet.png")
        child.send("/frame 9\r")
        child.expect("error: there is no frame 9: the clip has 0 to 4")
        child.send("/frame 3\r")
        child.expect(r"shown_00003\.png")
        child.send("/model visa-7b\r")
        child.expect("the model is visa-7b now")
        child.send("it\r")
        child.expect("It is the car behind the car on the right says visa-7b")
        child.expect("contact_sheet.png")
        child.send(f"/save {tmp_path / 'kept'}\r")
        child.expect(r"conversation\.json")
        child.send("/reset\r")
        child.expect("begins anew")
        child.send("/frmae 3\r")
        child.expect("no such command: /frmae; did you mean /frame")
        child.send("/help\r")
        for command in ("/open", "/frame", "/show", "/save", "/reset", "/model", "/help", "/quit"):
            child.expect(command)
        self.leave(child)
        kept = json.loads((tmp_path / "kept" / "conversation.json").read_text())
        assert [turn["model"] for turn in kept["turns"]] == ["embedded", "embedded", "visa-7b"]
        assert (tmp_path / "out/chat/clip/1/shown_00003.png").exists()

    def test_a_bad_clip_on_the_command_line_is_said_and_another_can_be_opened(
        self, clip: Path, start, tmp_path: Path
    ) -> None:
        child = start(str(tmp_path / "nope.mp4"))
        child.expect("error: no such video")
        child.expect(READY)
        child.send(f"/open {clip}\r")
        child.expect("clip: 5 frame")
        self.leave(child)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self, clip: Path, start) -> None:
        child = start(str(clip), "--pictures", "none")
        child.expect(READY)
        child.send("the car on the left\r")
        child.expect("contact_sheet.png")
        child.send("something slow\r")
        child.expect("at it")
        begin = time.monotonic()
        child.send(CTRL_C)
        child.expect("stopped; Ctrl-D leaves")
        assert time.monotonic() - begin < 10
        child.expect(READY)
        child.send("half a line" + CTRL_C)
        child.expect("stopped; Ctrl-D leaves")
        child.expect(READY)
        child.send("and the one behind it?\r")
        child.expect("asked as: the car behind the car on the left")
        child.expect("contact_sheet.png")
        self.leave(child)

    def test_the_history_lasts(self, clip: Path, start, tmp_path: Path) -> None:
        child = start(str(clip), "--pictures", "none")
        child.expect(READY)
        child.send("a very special car\r")
        child.expect("contact_sheet.png")
        self.leave(child)
        history = tmp_path / "state" / "visa" / "chat_history"
        assert "a very special car" in history.read_text()
        assert history.stat().st_mode & 0o077 == 0
        child = start(str(clip), "--pictures", "none")
        child.expect(READY)
        child.send(UP + "\r")
        child.expect("It is a very special car")
        self.leave(child)

    def test_a_history_that_cannot_be_kept_is_no_obstacle(self, clip: Path, start, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file")
        child = start(str(clip), "--pictures", "none")
        child.expect(READY)
        child.send("the car\r")
        child.expect("It is the car")
        self.leave(child)

    @pytest.mark.parametrize(
        ("variables", "shown"),
        [
            ({"COLORTERM": "truecolor"}, "\x1b\\[38;2;\\d+;\\d+;\\d+;48;2;"),
            ({"KITTY_WINDOW_ID": "1"}, "\x1b_Ga=T,f=100"),
        ],
    )
    def test_the_object_is_drawn_where_the_terminal_can(
        self, clip: Path, start, variables: dict[str, str], shown: str
    ) -> None:
        child = start(str(clip), **variables)
        child.expect(READY)
        child.send("the car\r")
        child.expect("It is the car")
        child.expect(shown)
        child.expect("contact_sheet.png")
        child.send("/show\r")
        child.expect(shown)
        child.expect("frame 00001 of 5")
        self.leave(child)

    def test_pasted_lines_are_taken_one_by_one(self, clip: Path, start) -> None:
        child = start(str(clip), "--pictures", "none")
        child.expect(READY)
        child.send("\x1b[200~the car\nthe dog\x1b[201~\r")
        child.expect("It is the car says")
        child.expect("It is the dog says")
        self.leave(child)


def test_help_needs_no_terminal_libraries() -> None:
    code = (
        "import sys, runpy; sys.argv = ['chat.py', '--help']\n"
        "try: runpy.run_path('chat.py', run_name='__main__')\n"
        "finally: assert not {'torch', 'prompt_toolkit', 'rich', 'PIL'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"--pictures" in result.stdout
