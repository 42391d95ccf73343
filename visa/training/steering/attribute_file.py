"""What a frozen model says of each expression's thing, written once and read in every epoch.

JSON lines ``{"clip": ..., "expression": ..., "attributes": [...]}``: the same question as in the pipeline,
asked before training, so that a run only looks them up. A broken-off file goes on where it ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from visa.errors import InputError
from visa.training.engine.ranks import Ranks

Key = tuple[str, str]


class AttributeFile:
    """Attributes by clip and expression.

    Args:
        path: the file; one that is not there holds nothing.

    Raises:
        InputError: a line is not as above; a last one that was cut off is left out.
    """

    def __init__(self, path: Path):
        self.path, self._known = path, {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                self._known[record["clip"], record["expression"]] = tuple(map(str, record["attributes"]))
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):
                    break
                raise InputError(
                    f"{path}, line {number}: expected clip, expression and attributes, got {line[:60]!r}"
                ) from error

    def __len__(self) -> int:
        return len(self._known)

    def of(self, clip: str, expression: str) -> tuple[str, ...]:
        """What is known; nothing where nobody was asked, or nothing was said."""
        return self._known.get((clip, expression), ())

    def complete(
        self, wanted: Iterable[Key], ask: Callable[[str, str], tuple[str, ...]], ranks: Ranks
    ) -> None:
        """Ask for what is missing and write the answers as they come.

        Args:
            wanted: the same on all ranks. ask: from clip and expression to attributes.
            ranks: share the asking, so that none waits hours for another; the first one reads and writes.
        """
        self._known = ranks.gathered(self._known)[0]
        missing = [key for key in dict.fromkeys(wanted) if key not in self._known]
        if missing and ranks.is_first:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._cut_tail()
        for start in range(0, len(missing), ranks.count):
            asked = missing[start : start + ranks.count]
            for said in ranks.gathered({key: ask(*key) for key in asked[ranks.rank : ranks.rank + 1]}):
                self._known.update(said)
            if ranks.is_first:
                self._append(asked)

    def _append(self, keys: Sequence[Key]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            for clip, expression in keys:
                said = self._known[clip, expression]
                record = {"clip": clip, "expression": expression, "attributes": said}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _cut_tail(self) -> None:
        """Take away a last line that was cut off, so that what follows stands on a line of its own."""
        if self.path.is_file():
            whole = self.path.read_bytes()
            self.path.write_bytes(whole[: whole.rfind(b"\n") + 1])
