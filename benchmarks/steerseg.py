"""SteerSeg's ablation: each choice switched alone, in one table, beside the system that says [SEG].

    python benchmarks/steerseg.py ROOT [ROOT ...] [--model steerseg-embedded] [--beside embedded] [--limit N]

ROOT is a folder in the ReVOS layout. The rows:

    as loaded           the model's own settings
    no prompt           attention is not steered: DecAF's way, without its contrast
    attributes          the model is asked for attributes first, or is not, where its settings ask
    both streams        points from the mean of both maps, ranking with SteerSeg's 0.3 to 0.7
    frame only          points and ranking from the frames read one by one
    video only          points and ranking from the frames read together
    threshold T         points from another attention on
    argmax              the tracklet under the highest attention wins, not the one that correlates best
    MODEL               --beside, for comparison

A question's attention is computed once for all rows that share it, and so is every walk through a clip.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from over_roots import add_report_options, measure_all, options_for

THRESHOLDS = (0.5, 0.65, 0.9)
FIRST = "as loaded"


def main(arguments: list[str] | None = None) -> int:
    """Runs the ablation; 2 if a folder or the model cannot be used."""
    parser = options_for(__doc__, "steerseg-embedded")
    add_report_options(parser)
    parser.add_argument("--soft-prompts", metavar="DIR", help="in place of the model's own")
    parser.add_argument("--beside", metavar="MODEL", action="append", default=[], help="another model's row")
    parser.add_argument("--keyframes", type=int, metavar="N", help="in place of the model's number")
    parser.add_argument("--always", action="store_true", help='never answer "not there", in any row')
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows whose names begin so")
    return measure_all("steerseg.py", parser.parse_args(arguments), measure)


def measure(root: Path, options: argparse.Namespace) -> None:
    """Measures one data set and prints its table."""
    import machine

    import visa
    from visa.evaluation import evaluate
    from visa.evaluation.report import COLUMNS

    given = {"soft_prompts": options.soft_prompts} if options.soft_prompts else {}
    segmenter = visa.load(options.model, **given)
    limits = {"split": options.split, "num_frames": options.frames, "num_videos": options.limit}
    systems = AllRows(segmenter, chosen_rows(segmenter, options), options.keyframes)
    print(f"\n# {root.name}, {options.model}, {limits}\n\n{machine.describe()}\n", flush=True)
    reports = {}
    for name in systems.rows:
        system = systems if not reports else systems.kept[name]
        reports[name] = evaluate(system, root, name=name, progress=not reports, **limits)
    for model in options.beside:
        reports[model] = evaluate(visa.load(model), root, name=model, **limits)
    print(f"{'row':16} " + " ".join(f"{column:>9}" for column in COLUMNS))
    for name, report in reports.items():
        present = next(group for group in report.kinds() if group.name == "present")
        print(f"{name:16} " + " ".join(f"{cell:>9}" for cell in present.cells()), flush=True)
        if options.output:
            report.save(options.output / f"{root.name}-{name.replace(' ', '_')}.json")
    print(f"\n{systems.seconds:.0f} s for all rows but those beside", flush=True)


def rows(reasoner) -> dict:
    """What is switched in each row: the reasoner with one choice changed."""
    settings, looking = reasoner.settings, reasoner.looking

    def changed(section: str, **values):
        return replace(settings, **{section: replace(getattr(settings, section), **values)})

    def streams(fused: float, ranked: float):
        fusion = changed("fusion", frame_weight=fused).fusion
        return replace(changed("ranking", frame_weight=ranked), fusion=fusion)

    asks = settings.attributes.ask
    made = {
        FIRST: reasoner,
        "no prompt": replace(reasoner, looking=replace(looking, soft_prompts={})),
        "no attributes" if asks else "attributes": replace(
            reasoner, settings=changed("attributes", ask=not asks)
        ),
        "both streams": replace(reasoner, settings=streams(0.5, 0.3)),
        "frame only": replace(reasoner, settings=streams(1.0, 1.0)),
        "video only": replace(reasoner, settings=streams(0.0, 0.0)),
    }
    for threshold in THRESHOLDS:
        made[f"threshold {threshold}"] = replace(reasoner, settings=changed("points", threshold=threshold))
    made["argmax"] = replace(reasoner, settings=changed("ranking", rule="argmax"))
    return made


def chosen_rows(segmenter, options: argparse.Namespace) -> dict:
    """The rows asked for, the first one always among them.

    Raises:
        ValueError: the model is no SteerSeg system, or a row is unknown.
    """
    from visa.reasoning.steerseg import SteerSegReasoner

    if not isinstance(segmenter.reasoner, SteerSegReasoner):
        raise ValueError(f"{options.model} is no SteerSeg system: there is nothing to switch off")
    reasoner = segmenter.reasoner
    if options.always:
        ranking = replace(reasoner.settings.ranking, absent_below=None)
        reasoner = replace(reasoner, settings=replace(reasoner.settings, ranking=ranking))
    every = rows(reasoner)
    if options.only is None:
        return every
    for asked in options.only:
        if not any(name.startswith(asked) for name in every):
            raise ValueError(f"there is no row {asked!r}: expected some of {', '.join(every)}")
    return {
        name: made
        for name, made in every.items()
        if name == FIRST or any(name.startswith(asked) for asked in options.only)
    }


@dataclass
class KeptAnswers:
    """A system that gives the answers that were put in, each to the question about the clip of that name."""

    answers: dict = field(default_factory=dict)

    def segment_many(self, video, questions):
        """See `visa.evaluation.run.System`."""
        from visa.tracklet import Tracklet

        return [Tracklet(video=video, **self.answers[video.name, question]) for question in questions]

    def keep(self, tracklet) -> None:
        """Put an answer in, its masks as run lengths."""
        from visa.mask_track import MaskTrack

        kept = {name: getattr(tracklet, name) for name in ("question", "answer", "found", "score")}
        kept |= {"target_frame": tracklet.target_frame, "masks": MaskTrack.of(tracklet.masks)}
        self.answers[tracklet.video.name, tracklet.question] = kept


class AllRows:
    """Answers as the first row does, and keeps what the others answer.

    Args:
        segmenter: its reasoner is exchanged for each row; what it knows of a clip serves all.
        rows: reasoners by name.
        keyframes: in place of the sampler's number.
    """

    def __init__(self, segmenter, rows: dict, keyframes: int | None = None) -> None:
        from remembered_walks import RememberedWalks

        from visa.sampling import Keyframes

        self.segmenter = segmenter
        if keyframes is not None:
            segmenter.sampler = Keyframes(keyframes)
        segmenter.propagator = RememberedWalks(segmenter.propagator)
        tracker = RememberedWalks(segmenter.reasoner.keyframe_tracker)
        self.rows = {name: replace(made, keyframe_tracker=tracker) for name, made in rows.items()}
        self.kept = {name: KeptAnswers() for name in rows}
        self.seconds = 0.0

    def segment_many(self, video, questions):
        """See `visa.evaluation.run.System`."""
        start = time.perf_counter()
        for name, reasoner in self.rows.items():
            self.segmenter.reasoner = reasoner
            for tracklet in self.segmenter.segment_many(video, questions):
                self.kept[name].keep(tracklet)
        self.seconds += time.perf_counter() - start
        return self.kept[next(iter(self.rows))].segment_many(video, questions)


if __name__ == "__main__":
    sys.exit(main())
