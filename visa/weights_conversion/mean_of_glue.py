"""The mean of two files of glue: what was trained on lies between where it began and where it went.

    python -m visa.weights_conversion.mean_of_glue FIRST SECOND OUT [--share 0.5]

Weights half-way between a model and its further training keep what the first could do where training does
not reach, here on real clips, and have most of what the second learnt: Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models" (arXiv 2109.01903). Weights that only one of the files has are zero in the
other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def mean_of_glue(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], share: float = 0.5
) -> dict[str, torch.Tensor]:
    """Weights in bfloat16, by name.

    Args:
        share: of the second, [0, 1].

    Raises:
        ValueError: weights of one name have two shapes, or the share is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share is from 0 to 1, got {share}")
    mean = {}
    for name in first.keys() | second.keys():
        here, there = first.get(name), second.get(name)
        if here is not None and there is not None and here.shape != there.shape:
            raise ValueError(
                f"{name} is {list(here.shape)} in the first and {list(there.shape)} in the second"
            )
        here = torch.zeros_like(there) if here is None else here
        there = torch.zeros_like(here) if there is None else there
        mean[name] = ((1 - share) * here.float() + share * there.float()).bfloat16().contiguous()
    return mean


def main() -> None:
    """Read the command line, average, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("first", "second", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second (default: %(default)s)")
    given = parser.parse_args()
    save_file(mean_of_glue(load_file(given.first), load_file(given.second), given.share), given.out)
    given.out.chmod(0o644)  # the library lets nobody else read what it writes
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
