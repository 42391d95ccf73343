"""Whole-system figures for each kind of question, beside baselines measured in the same run.

    python benchmarks/embedded.py ROOT [ROOT ...] [--model embedded] [--frames N] [--limit N] [--only NAME]

ROOT is a folder in the ReVOS layout. The baselines use the same propagator:

    model      the system
    control    the system asked another clip's questions: as good only if the words are not read
    point      SAM, as published, clicked in the middle of the middle frame
    automatic  SAM's automatic mask most like a spot in the middle of the middle frame
    samplers   the system with each way to choose the target frame, over the questions whose object is not
               visible in the first frame (nothing is measured where there is none)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from over_roots import add_report_options, measure_all, options_for

SYSTEMS = ("model", "control", "point", "automatic", "samplers")


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if a folder cannot be used."""
    parser = options_for(__doc__, "embedded")
    add_report_options(parser)
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="what to measure")
    return measure_all("embedded.py", parser.parse_args(arguments), measure)


def measure(root: Path, options: argparse.Namespace) -> None:
    """Measures one data set and prints its tables."""
    import machine

    import visa
    from visa.evaluation import evaluate

    segmenter = visa.load(options.model)
    limits = {"split": options.split, "num_frames": options.frames, "num_videos": options.limit}
    reports = {}
    print(f"\n# {root.name}, {limits}\n\n{machine.describe()}", flush=True)
    for name, system, changes in systems(segmenter, root, options):
        try:
            report = evaluate(system, root, name=name, **limits, **changes)
        except ValueError as error:
            if "select" not in changes or "no question is left" not in str(error):
                raise
            print(f"\n{name}: every object of {root.name} is visible in the first frame", flush=True)
            continue
        reports[name] = report
        print(f"\n{report.table()}", flush=True)
        if options.output:
            report.save(options.output / f"{root.name}-{name.replace(' ', '_')}.json")
    print(f"\n{side_by_side(reports)}", flush=True)


def systems(segmenter, root: Path, options: argparse.Namespace):
    """What is measured: (name, system, changes to the evaluation), one at a time."""
    from baselines import OneMask, Sampled, centre_mask, centre_point, public_sam

    from dataset.revos import Revos
    from visa.evaluation import another_clips_question
    from visa.sampling import SAMPLERS

    if "model" in options.only:
        yield "model", segmenter, {}
    if "control" in options.only:
        yield "control", segmenter, {"ask": another_clips_question(Revos(root, options.split))}
    sam = public_sam(str(segmenter.reasoner.sam.sam.device))
    if "point" in options.only:
        system = OneMask(sam, segmenter.propagator, centre_point, "the thing in the middle")
        yield "point", system, {}
    if "automatic" in options.only:
        system = OneMask(sam, segmenter.propagator, centre_mask, "the thing in the middle")
        yield "automatic", system, {}
    if "samplers" in options.only:
        for name in ("first", "middle", "uniform", "text_guided"):
            sampler = SAMPLERS[name]
            chosen = segmenter.sampler if isinstance(segmenter.sampler, sampler) else sampler()
            yield f"sampler {name}", Sampled(segmenter, chosen), {"select": not_in_first_frame}


def not_in_first_frame(expression, target) -> bool:
    """Whether the object meant is there, but only later."""
    return expression.kind != "absent" and not target[0].any()


def side_by_side(reports: dict) -> str:
    """One table: every kind, then every system under it."""
    import dataclasses

    from visa.evaluation.report import KINDS, format_table

    groups = [
        dataclasses.replace(report.kind(kind), name=f"{kind}: {name}")
        for kind in KINDS
        for name, report in reports.items()
        if report.kind(kind).num_questions
    ]
    return format_table(groups, first="kind: system")


if __name__ == "__main__":
    sys.exit(main())
