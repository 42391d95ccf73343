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
from visa.batch_run.manifest import MANIFEST_NAME, RESULT_NAME, Manifest
from visa.commands.output import write_json
from visa.errors import InputError

SUMMARY_NAME = "results.json"
LOCK_NAME = ".run.lock"
# What a run's file calls `visa.preset_files.fingerprint` of its model.
WEIGHTS = "weights"
MAX_ROWS = 50
MIN_TABLE_WIDTH = 100


@dataclass(frozen=True)
class Outcome:
    """How a run stands.

    Attributes:
        entries: the run's videos as `results.json` has them.
        num_asked: for each of them, how many questions were to be asked.
        settled: nothing is left for any rank to do.
        speaks: this process is the one to tell it.
    """

    entries: tuple[dict[str, Any], ...]
    num_asked: tuple[int, ...]
    settled: bool
    speaks: bool

    @property
    def num_questions(self) -> int:
        """All that were to be asked."""
        return sum(self.num_asked)

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

    One that never came to work on a video, as with a misspelt model, is in nobody's way.

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
                before.setdefault(WEIGHTS, about.get(WEIGHTS, ""))  # older runs did not write it down
                changed = [key for key in same if before.get(key) != about[key]]
            except (OSError, ValueError, AttributeError) as error:
                raise InputError(f"{path} cannot be read ({error}): give another --output") from error
            if changed and any(path.parent.rglob(MANIFEST_NAME)):
                if changed == [WEIGHTS]:
                    raise InputError(
                        f"{path.parent} holds predictions of {about['model']} as it was before its files "
                        "changed: give another --output"
                    )
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
        summary = {"model": model, "done": settled, "videos": [*entries, *_others(path, entries)]}
        # Where nothing was left, this run's summary and an earlier one's look alike: the first rank speaks.
        is_idle = not run.had_work and run.rank.index > 0
        said = settled and run.rank.count > 1 and (is_idle or _was_said(path, summary, run.started))
        write_json(path, summary)
    num_asked = tuple(len(task.asks) for task in run.tasks)
    return Outcome(tuple(entries), num_asked, settled, not said and (settled or run.rank.count == 1))


def _others(path: Path, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the summary told before of videos that are not this run's, as far as their answers are there."""
    names = {entry["video"] for entry in entries}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["videos"]
        return [
            entry
            for entry in before
            if entry["video"] not in names
            and any((path.parent / one["folder"] / RESULT_NAME).is_file() for one in entry["results"])
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _was_said(path: Path, summary: dict[str, Any], since: float) -> bool:
    """Whether another rank of this run came to the same end before."""
    try:
        return path.stat().st_mtime >= since and json.loads(path.read_text(encoding="utf-8")) == summary
    except (OSError, ValueError):
        return False


def print_table(outcome: Outcome) -> None:
    """One line per video on stdout; of very many, those that failed and the first others.

    Failed are the questions that were put in vain, and all of a video that cannot be worked on.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(zip(outcome.entries, outcome.num_asked, strict=True))
    if len(rows) > MAX_ROWS:
        rows = sorted(rows, key=lambda row: not _remark(row[0]))[:MAX_ROWS]
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("video", overflow="fold")
    for name in ("answered", "found", "not found", "failed"):
        table.add_column(name, justify="right")
    table.add_column("remark", overflow="fold")
    for entry, num_asked in rows:
        found = sum(result["found"] for result in entry["results"])
        answered = len(entry["results"])
        failed = num_asked - answered if entry.get("error") else len(entry.get("failed", ()))
        numbers = (answered, found, answered - found, failed)
        name, remark = (Text(" ".join(text.split())) for text in (entry["video"], _remark(entry)))
        table.add_row(name, *map(str, numbers), remark)
    width = max(MIN_TABLE_WIDTH, shutil.get_terminal_size().columns)
    Console(file=sys.stdout, width=width, highlight=False).print(table)
    if len(rows) < len(outcome.entries):
        print(f"... and {len(outcome.entries) - len(rows)} more")


def _remark(entry: dict[str, Any]) -> str:
    failed = [f"{one['question']!r}: {one['error']}" for one in entry.get("failed", ())[:1]]
    return "; ".join([*filter(None, [entry.get("error")]), *failed, *entry["warnings"]])
