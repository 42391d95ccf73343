"""The part of a run over many videos that its commands share: load, work, sum up, exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataset.counting import count_of
from visa.batch_run.engine import BatchRun, OutputError
from visa.batch_run.summary import SUMMARY_NAME, Outcome, print_table, write_summary
from visa.commands.output import BAD_USAGE, DONE, FAILED, INTERRUPTED, complain, reason
from visa.errors import DownloadError, InputError


def work_through(
    run: BatchRun,
    model: str,
    load: Callable[[str], Any],
    tell: Callable[[Outcome], None] = print_table,
) -> tuple[int, Outcome | None]:
    """Do what is left of a run.

    Args:
        run: the run.
        model: what to load.
        load: loads it; called only if something is left to do.
        tell: tells a person how it ended, before the last line.

    Returns:
        The exit code, and how the run stands; None where that is not known. A rank that is ready while others
        still work has done its part, whatever failed: its launcher would end the others if it complained. The
        last one gives the exit code of the whole run.
    """
    code = DONE
    try:
        if run.waiting():
            run.rank.take_gpu()
            run.answer_all(load(model))
    except InputError as error:  # of the model: what videos bring about does not come here
        complain(error)
        return BAD_USAGE, None
    except OutputError as error:
        complain(f"stopped: {error.filename}: {error.strerror}; what is done is kept")
        code = FAILED
    except (DownloadError, OSError) as error:
        complain(error)
        return FAILED, None
    except KeyboardInterrupt:
        complain("interrupted; run the same command to go on")
        code = INTERRUPTED
    return _sum_up(run, model, code, tell)


def _sum_up(
    run: BatchRun, model: str, code: int, tell: Callable[[Outcome], None]
) -> tuple[int, Outcome | None]:
    try:
        outcome = write_summary(run, model)
    except OSError as error:
        complain(f"cannot write {run.output / SUMMARY_NAME}: {reason(error)}")
        return code or FAILED, None
    counts = f"{outcome.num_answered} of {count_of(outcome.num_questions, 'question')} answered"
    who = f"rank {run.rank.index} of {run.rank.count}"
    if outcome.speaks:
        tell(outcome)
        print(f"{run.output / SUMMARY_NAME}: {counts}", flush=True)
        return code or (FAILED if outcome.failed else DONE), outcome
    if outcome.settled:
        print(f"{who}: done", flush=True)
    else:
        print(
            f"{who}: done; so far {counts}. If another rank is lost, run the same command again", flush=True
        )
    return code, outcome
