"""The end of a run: `results.json`, a table, and what the run was about.

All ranks write the same `results.json`, from the manifests; the last to finish finds all videos settled and
is the one that speaks.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visa.batch_run.engine import BatchRun
from visa.batch_run.locks import lock
from visa.batch_run.manifest import Manifest
from visa.commands.output import write_json
from visa.errors import InputError

SUMMARY_NAME = "results.json"
LOCK_NAME = ".run.lock"
MAX_ROWS = 50
MIN_TABLE_WIDTH = 100


@dataclass(frozen=True)
class Outcome:
    """How a run stands.

    Attributes:
        entries: the videos as `results.json` has them.
        num_questions: all that were to be asked.
        settled: nothing is left for any rank to do.
        speaks: this process is the one to tell it.
    """

    entries: tuple[dict[str, Any], ...]
    num_questions: int
    settled: bool
    speaks: bool

    @property
    def num_answered(self) -> int:
        """Questions that have an answer."""
        return sum(len(entry["results"]) for entry in self.entries)

    @property
    def failed(self) -> bool:
        """Whether some video or question failed."""
        return any(entry.get("error") or entry.get("failed") for entry in self.entries)


def begin_run(path: Path, about: dict[str, str], same: tuple[str, ...]) -> None:
    """Write down what a run is; refuse a folder that holds another one's answers.

    Args:
        path: the file in the output folder that tells it.
        about: what it tells.
        same: the keys in which the runs of one folder must agree.

    Raises:
        InputError: there was another run, or the file cannot be read.
    """
    with lock(path.with_name(LOCK_NAME), wait=True):
        if path.exists():
            try:
                before = json.loads(path.read_text(encoding="utf-8"))
                changed = [key for key in same if before.get(key) != about[key]]
            except (OSError, ValueError, AttributeError) as error:
                raise InputError(f"{path} cannot be read ({error}): give another --output") from error
            if changed:
                differences = ", ".join(
                    f"{key} {before.get(key)!r} and not {about[key]!r}" for key in changed
                )
                raise InputError(f"{path.parent} holds predictions of {differences}: give another --output")
        write_json(path, about)


def write_summary(run: BatchRun, model: str) -> Outcome:
    """Bring `results.json` up to date with what all ranks have done so far.

    Raises:
        OSError: it cannot be written.
    """
    path = run.output / SUMMARY_NAME
    with lock(path.with_name(LOCK_NAME), wait=True):
        entries, settled = [], True
        for task in run.tasks:
            manifest = Manifest.read(run.output, task)
            settled &= run.is_settled(task, manifest)
            entry: dict[str, Any] = {
                "video": task.name,
                "path": task.source,
                "warnings": manifest.warnings,
                "results": [manifest.answered[ask.key] for ask in task.asks if manifest.has(ask)],
            }
            if error := manifest.error or run.unwritable.get(task.name):
                entry["error"] = error
            if failed := [{"number": key, **value} for key, value in manifest.failed.items()]:
                entry["failed"] = failed
            entries.append(entry)
        summary = {"model": model, "done": settled, "videos": entries}
        said = settled and run.rank.count > 1 and _was_said(path, summary, run.started)
        write_json(path, summary)
    num_questions = sum(len(task.asks) for task in run.tasks)
    return Outcome(tuple(entries), num_questions, settled, not said and (settled or run.rank.count == 1))


def _was_said(path: Path, summary: dict[str, Any], since: float) -> bool:
    """Whether another rank of this run came to the same end before."""
    try:
        return path.stat().st_mtime >= since and json.loads(path.read_text(encoding="utf-8")) == summary
    except (OSError, ValueError):
        return False


def print_table(outcome: Outcome) -> None:
    """One line per video on stdout; of very many, those that failed and the first others."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    entries = outcome.entries
    if len(entries) > MAX_ROWS:
        bad = [entry for entry in entries if _remark(entry)]
        entries = [*bad, *(entry for entry in entries if not _remark(entry))][:MAX_ROWS]
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("video", overflow="fold")
    for name in ("answered", "found", "not found", "failed"):
        table.add_column(name, justify="right")
    table.add_column("remark", overflow="fold")
    for entry in entries:
        found = sum(result["found"] for result in entry["results"])
        answered = len(entry["results"])
        numbers = (answered, found, answered - found, len(entry.get("failed", ())))
        name, remark = (Text(" ".join(text.split())) for text in (entry["video"], _remark(entry)))
        table.add_row(name, *map(str, numbers), remark)
    width = max(MIN_TABLE_WIDTH, shutil.get_terminal_size().columns)
    Console(file=sys.stdout, width=width, highlight=False).print(table)
    if len(entries) < len(outcome.entries):
        print(f"... and {len(outcome.entries) - len(entries)} more")


def _remark(entry: dict[str, Any]) -> str:
    failed = [f"{one['number']}: {one['error']}" for one in entry.get("failed", ())[:1]]
    return "; ".join([*filter(None, [entry.get("error")]), *failed, *entry["warnings"]])
