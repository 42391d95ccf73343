"""A clip as a line of time: where the object is, which frames were looked at, which one was segmented."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dataset.counting import count_of

WIDTH, HEIGHT = 1000.0, 98.0
_TOP, _BOTTOM = 18.0, 58.0
_TICKS = _BOTTOM + 11
# More columns than a screen has pixels for would only be slow.
MAX_COLUMNS = 500


def draw_timeline(
    areas: np.ndarray, looked_at: Sequence[int] = (), target: int | None = None, fps: float = 24.0
) -> str:
    """The line as an SVG element; its colours are the style sheet's (classes `here`, `looked`, `target`).

    Args:
        areas: float [T] in [0, 1], how much of each frame the masks cover.
        looked_at: indices of the frames that were read.
        target: index of the frame that was segmented first.
        fps: frames per second.

    Raises:
        ValueError: no frame, or an index that is none.
    """
    num_frames = len(areas)
    if num_frames < 1:
        raise ValueError("expected at least one frame, got none")
    if wrong := [
        index for index in (*looked_at, *([] if target is None else [target])) if not 0 <= index < num_frames
    ]:
        raise ValueError(f"expected frames in [0, {num_frames}), got {wrong}")
    parts = [f'<rect class="line" x="0" y="{_TOP}" width="{WIDTH:g}" height="{_BOTTOM - _TOP:g}" rx="4"/>']
    parts += _bars(areas)
    for index in looked_at:
        x = _middle(index, num_frames)
        parts.append(
            f'<circle class="looked" data-frame="{index}" cx="{x:.1f}" cy="{_TICKS:g}" r="5">'
            f"<title>frame {index} was looked at</title></circle>"
        )
    if target is not None:
        x = _middle(target, num_frames)
        parts.append(
            f'<path class="target" data-frame="{target}" '
            f'd="M{x - 8:.1f} {_TOP - 14:g}h16l-8 12zM{x:.1f} {_TOP - 2:g}V{_BOTTOM:g}">'
            f"<title>target frame {target}</title></path>"
        )
    last = num_frames - 1
    parts.append(f'<text class="scale" x="0" y="{HEIGHT - 4:g}">frame 0</text>')
    parts.append(
        f'<text class="scale" x="{WIDTH:g}" y="{HEIGHT - 4:g}" text-anchor="end">'
        f"frame {last} · {num_frames / fps:.1f} s</text>"
    )
    words = describe(areas, looked_at, target)
    frame = f'class="timeline" role="img" aria-label="{words}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}"'
    return f"<svg {frame}>{''.join(parts)}</svg>"


def describe(areas: np.ndarray, looked_at: Sequence[int] = (), target: int | None = None) -> str:
    """The same in words, for those who hear the page."""
    runs = presence(areas)
    here = ", ".join(f"{start}" if start == stop else f"{start} to {stop}" for start, stop in runs)
    words = [
        f"in {int((areas > 0).sum())} of {count_of(len(areas), 'frame')}" + (f": {here}" if here else "")
    ]
    if looked_at:
        words.append("looked at " + ", ".join(map(str, looked_at)))
    if target is not None:
        words.append(f"target frame {target}")
    return "; ".join(words)


def presence(areas: np.ndarray) -> list[tuple[int, int]]:
    """The stretches (first, last) of frames, both inclusive, in which the object is to be seen."""
    edges = np.diff(np.concatenate([[False], areas > 0, [False]]).astype(np.int8))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(start), int(stop) - 1) for start, stop in zip(starts, stops, strict=True)]


def _bars(areas: np.ndarray) -> list[str]:
    """One bar a column, as high as the object is large there; a small one is there all the same."""
    largest = float(areas.max())
    bounds = np.linspace(0, len(areas), min(len(areas), MAX_COLUMNS) + 1).round().astype(int)
    width = WIDTH / (len(bounds) - 1)
    bars = []
    for column, (start, stop) in enumerate(pairwise(bounds)):
        area = float(areas[start:stop].max())
        if area > 0:
            height = max(6.0, area / largest * (_BOTTOM - _TOP))
            bars.append(
                f'<rect class="here" x="{column * width:.2f}" y="{_BOTTOM - height:.1f}" '
                f'width="{width + 0.2:.2f}" height="{height:.1f}"/>'
            )
    return bars


def _middle(index: int, num_frames: int) -> float:
    return (index + 0.5) / num_frames * WIDTH
