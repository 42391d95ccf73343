"""What drawing on further frames is worth, measured in one run: the same answers with and without them.

    python benchmarks/reanchoring.py ROOT [ROOT ...] [--model embedded] [--anchors 3] [--limit N]

ROOT is a folder in the ReVOS layout; the model's sampler must be text_guided. A question is sampled, read and
drawn once. What is carried from the target frame alone is scored, and so is what visa/reanchoring.py makes of
it and of what is carried from the other anchors.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from over_roots import measure_all, options_for


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if a folder or a model cannot be used."""
    parser = options_for(__doc__, "embedded")
    parser.add_argument("--anchors", type=int, default=3, metavar="N", help="frames to draw on (default: 3)")
    return measure_all("reanchoring.py", parser.parse_args(arguments), measure)


def measure(root: Path, options: argparse.Namespace) -> None:
    """Measures one data set and prints its table."""
    import machine
    from embedded import side_by_side
    from with_and_without_anchors import Both, Remembered

    import visa
    from visa.evaluation import evaluate
    from visa.sampling import TextGuided

    loaded = visa.load(options.model)
    if not isinstance(loaded.sampler, TextGuided):
        raise ValueError(f"{options.model} does not sample by text_guided, so it has no scores of frames")
    sampler = replace(loaded.sampler, num_anchors=options.anchors)
    both = Both(loaded.reasoner, loaded.propagator, sampler, loaded.guide)
    print(f"\n# {root.name}\n\n{machine.describe()}", flush=True)
    fused = evaluate(both, root, name=f"{options.anchors} anchors", num_videos=options.limit)
    alone = evaluate(Remembered(both.alone), root, name="target alone", num_videos=options.limit)
    print(f"\n{side_by_side({'target alone': alone, f'{options.anchors} anchors': fused})}")
    print(
        f"\n{both.num_drawn} questions were drawn on further frames; in {both.num_agreed} one of them agreed."
    )


if __name__ == "__main__":
    sys.exit(main())
