"""Ask about a clip, question after question: what `python chat.py` does.

    python chat.py clip.mp4                     # at a terminal
    python chat.py clip.mp4 < questions.txt     # the same, from a pipe

A line is a question; a line that begins with a slash is a command. Bad input gets one line and the
conversation goes on. Nothing is overwritten: every answer gets a folder of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from visa.commands.output import BAD_USAGE, DONE, INTERRUPTED, complain, prepare_output, speak_any_language
from visa.errors import InputError
from visa.preset_files import MODEL_HELP, check_model

if TYPE_CHECKING:
    from visa.commands.chat_commands import Chat
    from visa.commands.chat_input import Lines

DEFAULT_OUTPUT = "out/chat"


def build_parser() -> argparse.ArgumentParser:
    """The command line, as frozen in the project's design, and where the pictures go."""
    from visa.terminal_pictures import KINDS

    parser = argparse.ArgumentParser(
        prog="chat.py",
        description="Ask questions about a video, one after another; /help lists the commands.",
    )
    parser.add_argument("clip", nargs="?", metavar="CLIP", help="a video file or a folder of frames")
    parser.add_argument(
        "--model",
        default="embedded",
        help=MODEL_HELP,
    )
    parser.add_argument(
        "--output",
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help="folder for the answers (default: %(default)s)",
    )
    parser.add_argument(
        "--pictures",
        choices=("auto", *KINDS),
        default="auto",
        help="how the terminal shows pictures (default: what it seems to be able to)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the conversation until /quit, Ctrl-D or the end of the input.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        0; 2 when the model, the output folder or, in a pipe, the clip cannot be used; 130 when a piped
        conversation was interrupted twice.
    """
    speak_any_language()
    options = build_parser().parse_args(arguments)
    try:
        check_model(options.model)
        output = prepare_output(options.output)
    except InputError as error:
        complain(error)
        return BAD_USAGE
    from visa.chat_session import ChatSession
    from visa.commands.chat_commands import Chat
    from visa.commands.chat_input import PipedLines, TerminalLines
    from visa.commands.chat_screen import Screen

    screen = Screen(options.pictures)
    chat = Chat(ChatSession(options.model), output, screen)
    if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
        lines: Lines = TerminalLines(chat.commands(), chat.model_names, chat.status)
        screen.say("Ask about the clip in plain words. /help tells more, Ctrl-D leaves.", "dim")
    else:
        lines = PipedLines(screen.say)
    try:
        return converse(chat, lines, options.clip)
    except BrokenPipeError:
        # Whoever read the answers has gone; what is still buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def converse(chat: Chat, lines: Lines, clip: str | None = None) -> int:
    """Take lines until they end; an interrupt drops the line, or the answer in work, no more.

    A pipe knows no Ctrl-D: there, two interrupts with nothing answered between them leave, and so does a
    first clip that cannot be opened.

    Args:
        chat: who takes them.
        lines: where they come from.
        clip: opened first.

    Returns:
        The exit code, as `main`.
    """
    was_stopped = False
    while True:
        try:
            if clip is not None:
                path, clip = clip, None
                if not chat.open(path) and not lines.is_interactive:
                    return BAD_USAGE  # nobody is there to open another, and every question would fail
            text = lines.read()
            if text is None or any(chat.take(line) for line in text.splitlines()):
                return DONE
            was_stopped = False
        except KeyboardInterrupt:
            if was_stopped and not lines.is_interactive:
                return INTERRUPTED
            was_stopped = True
            chat.stop("Ctrl-D leaves" if lines.is_interactive else "Ctrl-C again leaves")
