"""What a conversation shows: words, progress and pictures, in colour at a terminal and plain in a pipe."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from visa.commands.progress import STAGES
from visa.terminal_pictures import kind_for, render

_COLOURS = {"standard": 16, "windows": 16, "256": 256, "truecolor": 2**24}
# Unicode's controls of the direction of writing, which make a name look like another.
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# Lines that a picture leaves to the words around it.
MARGIN_ROWS = 6


class Screen:
    """The output of a conversation; answers go to stdout, progress and notes to stderr.

    Args:
        pictures: how pictures are shown, as `visa.terminal_pictures.KINDS`; "auto" goes by the terminal.
    """

    def __init__(self, pictures: str = "auto") -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._errors = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._pictures = self._kind() if pictures == "auto" else pictures

    @property
    def shows_pictures(self) -> bool:
        """Whether `show` shows anything."""
        return self._pictures != "none"

    def say(self, words: str, style: str = "") -> None:
        """Print words, unbroken; what is not text, such as a terminal's control codes, is spelled out."""
        self._console.print(Text(_spelled_out(words), style), soft_wrap=True)

    def note(self, words: str) -> None:
        """Say what is going on, beside the answers."""
        self._errors.print(Text(_spelled_out(words), "dim"), soft_wrap=True)

    def list(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print pairs as two columns."""
        if not self._console.is_terminal:
            rows = list(rows)
            width = max(len(left) for left, _ in rows)
            for left, right in rows:
                self.say(f"  {left:<{width}}  {right}")
            return
        table = Table.grid(padding=(0, 2, 0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for left, right in rows:
            table.add_row(Text(left), Text(right))
        self._console.print(table)

    def show(self, picture: np.ndarray) -> None:
        """Show a picture, uint8 [H, W, 3] RGB, as large as fits."""
        rows = max(4, self._console.height - MARGIN_ROWS)
        true_colour = self._console.color_system == "truecolor"
        file = self._console.file
        file.write(render(picture, self._pictures, self._console.width - 1, rows, true_colour=true_colour))
        file.flush()

    @contextmanager
    def progress(self) -> Iterator[StageProgress]:
        """While an answer is in work: call what this gives as `Segmenter.segment` calls its progress."""
        columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        is_shown = self._errors.is_terminal
        with Progress(*columns, console=self._errors, transient=True, disable=not is_shown) as progress:
            yield StageProgress(progress)

    def _kind(self) -> str:
        console = self._console
        colours = _COLOURS.get(console.color_system or "", 0)
        has_pictures = console.is_terminal and not console.no_color
        is_unicode = "utf" in console.encoding.lower()
        return kind_for(os.environ, colours if has_pictures else 0, is_unicode)


class StageProgress:
    """One bar that goes through the stages of an answer."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage: str | None = None
        self._task: TaskID | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of a stage are over."""
        if stage != self._stage:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._stage = stage
            self._task = self._progress.add_task(STAGES.get(stage, stage), total=total)
        self._progress.update(self._task, completed=done, total=total)


def _spelled_out(words: str) -> str:
    """Words without control characters: those in a file's name or a model's answer command no terminal."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in ("Cc", "Cs") or character in _TURNS
        else character
        for character in words
    )
