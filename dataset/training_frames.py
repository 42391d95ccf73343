"""Which frames of a video a training sample shows: reference frames, and target frames with their masks.

Two published ways. VISA cuts the video into as many stretches as it wants frames and takes one at random from
each; the target is one of them. VideoLISA goes out from an anchor, as ReferFormer does: one neighbour on
either side, the others from anywhere else, and a few of all these are the targets.

Sources: Yan et al., "VISA", ECCV 2024; Bai et al., "VideoLISA", NeurIPS 2024; Wu et al., "Language as Queries
for Referring Video Object Segmentation" (ReferFormer), CVPR 2022.

Legend: T frames of the video.
"""

from dataclasses import dataclass

import numpy as np

FARTHEST_NEIGHBOUR = 3


@dataclass(frozen=True)
class TrainingFrames:
    """Indices into a video's frames.

    Attributes:
        references: In time's order; a short video may repeat some.
        targets: In time's order; each is among the references.
        places: Where the targets stand among the references.
    """

    references: tuple[int, ...]
    targets: tuple[int, ...]
    places: tuple[int, ...]


def one_from_each_stretch(num_frames: int, count: int, rng: np.random.Generator) -> TrainingFrames:
    """VISA's choice ("uniform"): a random frame from each of `count` stretches of equal length; one target.

    Args:
        num_frames: T. Where it is not above `count`, every frame is taken.
        count: How many reference frames, 1 or more.
        rng: Decides.

    Raises:
        ValueError: No frame, or none wanted.
    """
    _require(num_frames, count)
    if num_frames <= count:
        references = np.arange(num_frames)
    else:
        edges = np.linspace(0, num_frames, count + 1, dtype=int)
        references = rng.integers(edges[:-1], edges[1:])
    return _with_targets(references, rng.choice(len(references), 1))


def anywhere(num_frames: int, count: int, rng: np.random.Generator) -> TrainingFrames:
    """VISA's other choice ("random"): `count` frames from anywhere in the video, each once; one target.

    Args:
        num_frames: T. Where it is not above `count`, every frame is taken.
        count: How many reference frames, 1 or more.
        rng: Decides.

    Raises:
        ValueError: No frame, or none wanted.
    """
    _require(num_frames, count)
    references = np.sort(rng.choice(num_frames, min(count, num_frames), replace=False))
    return _with_targets(references, rng.choice(len(references), 1))


def around_anchor(
    num_frames: int, count: int, num_targets: int, anchor: int, rng: np.random.Generator
) -> TrainingFrames:
    """VideoLISA's choice: an anchor, a neighbour within three frames on either side, and others elsewhere.

    Where the rest of the video has too few others, they come from all of it, and where that has too few, some
    frames are repeated.

    Args:
        num_frames: T.
        count: How many reference frames (T_sparse), 1 or more.
        num_targets: How many of them are targets (T_dense), at most `count`.
        anchor: A frame, 0 to T - 1.
        rng: Decides.

    Raises:
        ValueError: No frame, or none wanted, more targets than frames, or an anchor outside the video.
    """
    _require(num_frames, count)
    if not 0 <= anchor < num_frames or not 1 <= num_targets <= count:
        raise ValueError(
            f"expected an anchor below {num_frames} and 1 to {count} targets, got {anchor} and {num_targets}"
        )
    before, after = rng.integers(1, FARTHEST_NEIGHBOUR + 1, 2)
    window = [anchor, max(0, anchor - before), min(num_frames - 1, anchor + after)][:count]
    missing = count - len(window)
    outside = [index for index in range(num_frames) if not min(window) <= index <= max(window)]
    pool = outside if len(outside) >= missing else list(range(num_frames))
    once = rng.permutation(pool)[:missing]
    again = rng.integers(0, num_frames, missing - len(once))
    references = np.sort(np.concatenate([window, once, again]))
    places = np.sort(rng.choice(count, num_targets, replace=False))
    return _with_targets(references, places)


def _with_targets(references: np.ndarray, places: np.ndarray) -> TrainingFrames:
    return TrainingFrames(_indices(references), _indices(references[places]), _indices(places))


def _require(num_frames: int, count: int) -> None:
    if num_frames < 1 or count < 1:
        raise ValueError(f"expected a frame and one wanted at least, got {num_frames} and {count}")


def _indices(values) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
