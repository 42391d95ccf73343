"""Where the lines of a conversation come from: a terminal, with history and completion, or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

PROMPT = "> "
HISTORY_NAME = "chat_history"


class Lines(Protocol):
    """A source of lines."""

    is_interactive: bool

    def read(self) -> str | None:
        """The next line, or several that were pasted together; None at the end.

        Raises:
            KeyboardInterrupt: the person took the line back.
        """


class PipedLines:
    """Lines of a file or a pipe; each is repeated on the output, so that a log reads like a conversation."""

    is_interactive = False

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="surrogateescape")  # a bad byte costs its line, not the conversation

    def read(self) -> str | None:
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            return None
        line = line.rstrip("\r\n").removeprefix("\ufeff")
        if line.strip():
            self._say(PROMPT + line.strip())
        return line


class TerminalLines:
    """Lines typed at a terminal: edited, kept across runs, completed with Tab.

    Args:
        commands: each command with what it takes: "CLIP" (a path), "DIR", "NAME" (a model) or another word.
        model_names: the models that can be named; may take long.
        status: the line at the bottom of the terminal.
    """

    is_interactive = True

    def __init__(
        self,
        commands: dict[str, str],
        model_names: Callable[[], Sequence[str]],
        status: Callable[[], str],
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            history=open_history(),
            completer=CommandCompleter(commands, model_names),
            complete_while_typing=False,
            complete_in_thread=True,
            bottom_toolbar=status,
        )

    def read(self) -> str | None:
        try:
            return self._session.prompt()
        except EOFError:
            return None


class CommandCompleter(Completer):
    """Commands after a slash, and what a command takes; nothing inside a question. See `TerminalLines`."""

    def __init__(self, commands: dict[str, str], model_names: Callable[[], Sequence[str]]) -> None:
        self._commands = commands
        self._model_names = model_names
        self._paths = {
            "CLIP": PathCompleter(expanduser=True),
            "DIR": PathCompleter(expanduser=True, only_directories=True),
        }

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor.lstrip()
        if not text.startswith("/"):
            return
        command, space, argument = text.partition(" ")
        if not space:
            names = (name for name in self._commands if name.startswith(command))
            yield from (
                Completion(name + " " * bool(self._commands[name]), -len(command), display=name)
                for name in names
            )
            return
        takes = self._commands.get(command, "")
        argument = argument.lstrip()
        if takes in self._paths:
            path = Document(argument.lstrip("'\""))
            yield from self._paths[takes].get_completions(path, complete_event)
        elif takes == "NAME":
            yield from _starting_with(argument, self._model_names())


class KeptHistory(FileHistory):
    """What was typed, in a file; a full disk or another's file ends no conversation."""

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError:
            return


def open_history() -> History:
    """The history across runs, readable by its owner alone; where that cannot be, one that ends with the run.

    It lies in $XDG_STATE_HOME/visa or ~/.local/state/visa.
    """
    path = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "visa" / HISTORY_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return KeptHistory(str(path))


def _starting_with(start: str, names: Iterable[str]) -> Iterator[Completion]:
    return (Completion(name, -len(start)) for name in names if name.startswith(start))
