"""Ask about a clip, question after question: what `python chat.py` does.

    python chat.py clip.mp4

A line is a question; a line that begins with a slash is a command (/open PATH, /help, /quit). Bad input gets
one line and the conversation goes on. Nothing is overwritten: every answer gets a folder of its own.
"""

from __future__ import annotations

import argparse
import cmd
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visa.commands.output import complain, prepare_output, reason, speak_any_language, warn
from visa.errors import DownloadError, InputError
from visa.questions import clean_question

if TYPE_CHECKING:
    from visa.video import Video

DEFAULT_OUTPUT = "out/chat"


def build_parser() -> argparse.ArgumentParser:
    """The command line, as frozen in the project's design, and where the pictures go."""
    parser = argparse.ArgumentParser(
        prog="chat.py", description="Ask questions about a video, one after another."
    )
    parser.add_argument("clip", nargs="?", metavar="CLIP", help="a video file or a folder of frames")
    parser.add_argument(
        "--model",
        default="embedded",
        help="a preset's name, a preset file or a folder of weights (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help="folder for the answers (default: %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the conversation until /quit or the end of the input.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        0; or 2 when the output folder cannot be used.
    """
    speak_any_language()
    options = build_parser().parse_args(arguments)
    try:
        output = prepare_output(options.output)
    except InputError as error:
        complain(error)
        return 2
    chat = Chat(options.model, output)
    if options.clip is not None:
        chat.open(options.clip)
    chat.talk()
    return 0


class Chat(cmd.Cmd):
    """The conversation.

    Invariant: the model is loaded with the first question, once; `_video` is the last clip that could be
    opened.
    """

    intro = "Ask about the clip. /open PATH opens one, /help says more, /quit ends."
    prompt = "> "

    def __init__(self, model: str, output: Path) -> None:
        super().__init__()
        self._model = model
        self._output = output
        self._segmenter: Any = None
        self._video: Video | None = None

    def talk(self) -> None:
        """Read lines until the end; an interrupt drops the line, or the answer in work, no more."""
        print(self.intro)
        while True:
            try:
                self.cmdloop(intro="")
            except KeyboardInterrupt:
                print("\ninterrupted; /quit ends")
            except UnicodeDecodeError:
                complain("that line is not text this terminal can send; try again")
            else:
                return

    def parseline(self, line: str) -> tuple[str | None, str | None, str]:
        """Commands begin with a slash; everything else is a question."""
        line = line.strip()
        if line == "EOF":  # what cmd.Cmd makes of the end of the input
            return "EOF", "", line
        if not line.startswith("/"):
            return None, None, line
        name, _, argument = line[1:].partition(" ")
        return name or "help", argument.strip(), line

    def default(self, line: str) -> None:
        """A question, or a command that does not exist."""
        line = line.strip()
        if line.startswith("/"):
            complain(f"no such command: {line.split()[0]}; /help lists them")
        else:
            self._ask(line)

    def emptyline(self) -> None:
        """An empty line asks nothing (cmd.Cmd would repeat the last one)."""

    def completenames(self, text: str, *_: Any) -> list[str]:
        """Complete nothing: what stands first on a line is a word of a question."""
        return []

    def do_open(self, argument: str) -> None:
        """/open PATH: ask about another clip, a video file or a folder of frames."""
        if argument:
            self.open(str(Path(argument.strip("'\"")).expanduser()))
        else:
            complain("give the clip: /open PATH")

    def do_help(self, _: str) -> None:
        """/help: this."""
        print("Type a question to find something in the clip, such as: the dog on the left")
        for command in (self.do_open, self.do_help, self.do_quit):
            print("  " + command.__doc__)

    def do_quit(self, _: str) -> bool:
        """/quit: end (so does the end of the input, Ctrl-D)."""
        return True

    def do_EOF(self, _: str) -> bool:  # noqa: N802  cmd.Cmd's name for the end of the input
        """The input is over."""
        print()
        return True

    def open(self, path: str) -> None:
        """Open a clip; if that fails, say so and keep the one there was."""
        from visa.video import Video

        try:
            video = Video.open(path)
            prepare_output(self._output / video.name)
        except InputError as error:
            complain(error)
            return
        self._video = video
        size = f"{video.width}x{video.height}"
        print(f"{video.name}: {video.num_frames} frame(s) of {size}, {video.fps:.4g} per second")
        for line in video.warnings:
            warn(line)

    def _ask(self, text: str) -> None:
        if self._video is None:
            complain("open a clip first: /open PATH")
            return
        try:
            self._answer(self._video, clean_question(text))
        except (InputError, DownloadError) as error:
            complain(error)
        except OSError as error:
            complain(f"{error.filename or self._output}: {reason(error)}")

    def _answer(self, video: Video, question: str) -> None:
        from visa.commands.progress import StageBars

        if self._segmenter is None:
            import visa

            print(f"loading {self._model} ...", flush=True)
            self._segmenter = visa.load(self._model)
        with StageBars() as bars:
            tracklet = self._segmenter.segment(video, question, progress=bars)
        folder = tracklet.save(_next_folder(self._output / video.name))
        print(tracklet.answer if tracklet.found else f"not found: {tracklet.answer}")
        print(folder / "contact_sheet.png")


def _next_folder(parent: Path) -> Path:
    """The first numbered folder that is not there yet."""
    number = 0
    while (parent / str(number)).exists():
        number += 1
    return parent / str(number)
