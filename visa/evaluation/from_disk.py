"""Scores a folder of predictions against a data set on disk, over all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from dataset.reader import Reader
from dataset.registry import open_dataset
from dataset.sample import TALK
from visa.errors import InputError
from visa.evaluation.outcome import Outcome
from visa.evaluation.predictions import Predictions
from visa.evaluation.protocols import Protocol, protocol_for
from visa.evaluation.scored import Scored

Job = tuple[Reader, Predictions, Protocol, bool]

_job: Job  # of a worker process


def score_predictions(
    predictions: str | Path,
    name: str,
    root: str | Path,
    split: str | None = None,
    *,
    processes: int | None = None,
    allow_missing: bool = False,
    legacy: bool = False,
    progress: bool = True,
) -> Outcome:
    """Scores predictions by the data set's official protocol.

    Args:
        predictions: A folder as `visa.evaluation.predictions` describes it.
        name: One of `dataset.registry.names()`.
        root: The data set's folder.
        split: One of its splits; None for the one that is evaluated on.
        processes: How many to use; None for one on every core that may be used.
        allow_missing: Give zero for a missing or broken prediction instead of leaving it out.
        legacy: Add the columns of the reference's script (ReVOS only).
        progress: Draw a progress bar on stderr.

    Returns:
        The scores of all expressions; those that could not be scored say why.

    Raises:
        ValueError: There is no such folder or data set, its descriptions cannot be read at all, the
            split's masks are not public, or the folder holds no prediction for it.
    """
    predictions = Path(predictions)
    if not predictions.is_dir():
        raise InputError(f"expected a folder of predictions at {predictions}, found none")
    start = time.perf_counter()
    protocol = protocol_for(name, legacy=legacy)
    reader = open_dataset(name, root, split, lenient=True)
    if not reader.has_masks:
        raise InputError(
            f"the masks of {name} {reader.split} are not public: make an archive for its server with "
            f"--submission, or choose another --split ({', '.join(reader.splits)})"
        )
    if not len(reader):
        reasons = f": {reader.skipped[0]}" if reader.skipped else ""
        raise InputError(f"{root}: {name} {reader.split} has no clip that can be read{reasons}")
    refuse_talk(name, reader)
    found = Predictions(predictions)
    if not any(map(found.has_any, reader)):
        clip = next((clip for clip in reader if clip.expressions), reader[0])
        place = predictions / clip.name / next((item.id for item in clip.expressions), "")
        raise InputError(
            f"found no prediction for {name} {reader.split} in {predictions}: expected such as {place}"
        )
    job = (reader, found, protocol, allow_missing)
    rows = _score_all(job, processes or num_cores(), progress)
    return Outcome(
        data=f"{name} {reader.split}",
        predictions=predictions,
        protocol=protocol,
        rows=tuple(row for clip_rows in rows for row in clip_rows),
        faults=tuple(str(error) for error in reader.skipped),
        allow_missing=allow_missing,
        seconds=time.perf_counter() - start,
    )


def refuse_talk(name: str, reader: Reader) -> None:
    """Raises InputError for a data set that is answered in words alone."""
    if any(item.kind == TALK for item in reader[0].expressions):
        raise InputError(f"{name} is answered in words: there is nothing in it to segment")


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _score_all(job: Job, processes: int, progress: bool) -> list[list[Scored]]:
    """Every clip's rows, in the data set's order."""
    from tqdm import tqdm

    num_clips = len(job[0])
    rows: list[list[Scored]] = [[] for _ in range(num_clips)]
    bar = tqdm(_each(job, min(processes, num_clips)), "scoring", num_clips, unit="clip", disable=not progress)
    for index, clip_rows in bar:
        rows[index] = clip_rows
    return rows


def _each(job: Job, processes: int) -> Iterator[tuple[int, list[Scored]]]:
    indices = range(len(job[0]))
    if processes == 1:
        for index in indices:
            yield index, _score_clip(job, index)
        return
    _read_masks_once(job[0])
    # Forked workers share what the reader holds in memory; elsewhere each reads it again.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(job,))
    try:
        waiting = {pool.submit(_score_here, index): index for index in indices}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a process that scored was ended from outside; if memory ran out, give fewer --processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _read_masks_once(reader: Reader) -> None:
    """Has the reader load what it keeps for all clips, before there are several of it."""
    for clip in reader:
        for expression in clip.expressions:
            if expression.annotation_ids and clip.frame_names:
                try:
                    clip.target(expression, [0])
                except (ValueError, OSError):
                    continue  # it is told where it is scored
                return


def _begin(job: Job) -> None:
    global _job  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted worker has nothing to say
    _job = job


def _score_here(index: int) -> list[Scored]:
    return _score_clip(_job, index)


def _score_clip(job: Job, index: int) -> list[Scored]:
    reader, predictions, protocol, allow_missing = job
    return protocol.score_clip(reader, reader[index], predictions, allow_missing=allow_missing)
