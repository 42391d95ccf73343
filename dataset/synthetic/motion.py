"""How an object moves through a video: its pose in every frame.

A course is laid over a unit of time; a video sees a stretch of it (`pace`), so that the same course can be
filmed densely (for the tracker) or sparsely (for the reader). Legend: T frames. Positions are (x, y) as
fractions of the frame's width and height.
"""

from dataclasses import dataclass

import numpy as np

KINDS = (
    "still", "linear", "arc", "stop and go", "bounce", "wander", "approach", "recede", "enter", "leave",
    "pass", "circle",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Track:
    """Poses in every frame.

    Attributes:
        centres: float [T, 2], (x, y).
        scales: float [T], relative to the object's own size.
        angles: float [T], radians, anticlockwise.
        mirrored: bool [T], flipped left to right.
        stretches: float [T], width over height, 1 is undistorted.
        phases: float [T], radians, of the non-rigid wobble.
    """

    centres: np.ndarray
    scales: np.ndarray
    angles: np.ndarray
    mirrored: np.ndarray
    stretches: np.ndarray
    phases: np.ndarray


def _ease(time: np.ndarray) -> np.ndarray:
    return time * time * (3 - 2 * time)


def _smooth_noise(rng: np.random.Generator, time: np.ndarray, waves: int = 3) -> np.ndarray:
    """A slow random function of time, roughly in -1..1."""
    frequencies = rng.uniform(0.4, 2.2, waves)
    phases = rng.uniform(0, 2 * np.pi, waves)
    weights = rng.dirichlet(np.ones(waves))
    return (weights * np.sin(2 * np.pi * np.outer(time, frequencies) + phases)).sum(axis=1)


def _outside(rng: np.random.Generator, half_width: float, half_height: float, low: bool) -> np.ndarray:
    """A point just outside the frame: mostly at its left or right; never on the floor side if `low`."""
    side = rng.choice(4, p=[0.42, 0.42, 0.08, 0.08]) if not low else rng.choice(2)
    if side < 2:
        return np.array([-half_width - 0.02 if side == 0 else 1 + half_width + 0.02, rng.uniform(0.25, 0.75)])
    return np.array([rng.uniform(0.2, 0.8), -half_height - 0.02 if side == 2 else 1 + half_height + 0.02])


def _travel(rng: np.random.Generator, kind: str, time: np.ndarray, home: np.ndarray) -> np.ndarray:
    """A way through the frame, seen from end to end: float [T, 2]."""
    direction = rng.uniform(0, 2 * np.pi) if rng.random() < 0.35 else rng.choice([0.0, np.pi])
    way = np.array([np.cos(direction), 0.8 * np.sin(direction)]) * rng.uniform(0.25, 0.6)
    progress = time
    if kind == "stop and go":
        stop = rng.uniform(0.3, 0.7)
        progress = np.interp(time, [0, 0.45, 0.65, 1], [0, stop, stop, 1])
    origin, target = np.clip(home - way / 2, 0.12, 0.88), np.clip(home + way / 2, 0.12, 0.88)
    centres = origin + (target - origin) * progress[:, None]
    if kind == "arc":
        centres[:, 1] -= rng.uniform(0.1, 0.3) * np.sin(np.pi * progress)
    if kind == "bounce":
        centres[:, 1] -= rng.uniform(0.08, 0.25) * np.abs(np.sin(np.pi * progress * rng.integers(2, 4)))
    return centres


def _cross_the_edge(
    rng: np.random.Generator,
    kind: str,
    time: np.ndarray,
    home: np.ndarray,
    half_size: tuple[float, float],
    upright: bool,
) -> np.ndarray:
    """A way into the frame, out of it, or through it: float [T, 2]."""
    if kind == "pass":
        side = rng.choice([-1.0, 1.0])
        begin, end = rng.uniform(-0.15, 0.3), rng.uniform(0.75, 1.25)
        share = (time - begin) / (end - begin) - 0.5
        across = 0.5 + side * share * (1 + 2 * half_size[0] + 0.04)
        return np.stack([across, home[1] + rng.uniform(-0.1, 0.1) * share], axis=1)
    outside = _outside(rng, *half_size, low=upright)
    outside[1] = home[1] if upright else outside[1]
    begin = rng.uniform(0.1, 0.55)
    end = min(1.0, begin + rng.uniform(0.25, 0.45))
    share = _ease(np.clip(((time if kind == "enter" else 1 - time) - begin) / (end - begin), 0, 1))
    return outside + (home - outside) * share[:, None]


def _stay_about(rng: np.random.Generator, kind: str, time: np.ndarray, home: np.ndarray) -> np.ndarray:
    """A course that never goes far from its middle: float [T, 2]."""
    if kind == "wander":
        return home + 0.14 * np.stack([_smooth_noise(rng, time), 0.7 * _smooth_noise(rng, time)], axis=1)
    if kind == "circle":
        angle = 2 * np.pi * (time * rng.uniform(0.6, 1.3) + rng.random())
        return home + rng.uniform(0.08, 0.16) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if kind in ("approach", "recede"):
        return home + rng.uniform(-0.12, 0.12, 2) * (time - 0.5)[:, None]
    return np.repeat(home[None], len(time), axis=0)


def make_track(
    rng: np.random.Generator,
    num_frames: int,
    kind: str,
    home: tuple[float, float],
    half_size: tuple[float, float],
    pace: float = 1.0,
    liveliness: float = 1.0,
    upright: bool = True,
) -> Track:
    """Draw one course.

    Args:
        num_frames: T.
        kind: One of `KINDS`.
        home: (x, y) near which the object mainly is.
        half_size: (x, y) half extents of the object, fractions of the frame.
        pace: Stretch of the course that the video covers, in (0, 1].
        liveliness: Scales rotation, wobble and stretching; 0 for a rigid thing.
        upright: False for things that may tumble.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    start = rng.uniform(0, 1 - pace) if pace < 1 else 0.0
    time = start + pace * (
        np.arange(num_frames) / max(1, num_frames - 1) if num_frames > 1 else np.array([0.5])
    )
    home = np.array(home, float)
    scales = np.ones(num_frames)
    if kind in ("linear", "arc", "stop and go", "bounce"):
        centres = _travel(rng, kind, time, home)
    elif kind in ("enter", "leave", "pass"):
        centres = _cross_the_edge(rng, kind, time, home, half_size, upright)
    else:
        centres = _stay_about(rng, kind, time, home)
    if kind in ("approach", "recede"):
        low, high = rng.uniform(0.4, 0.65), rng.uniform(1.15, 1.5)
        scales = low * (high / low) ** (time if kind == "approach" else 1 - time)
    if kind != "still":
        centres[:, 1] += 0.012 * liveliness * np.sin(2 * np.pi * time * rng.uniform(2, 6))
    tilt = rng.normal(0, 0.06 if upright else 0.4)
    swing = rng.uniform(0, 0.12 if upright else 0.5) * liveliness
    angles = tilt + swing * _smooth_noise(rng, time)
    if not upright and rng.random() < 0.3:
        angles = angles + time * rng.uniform(-4, 4)
    mirrored = np.full(num_frames, rng.random() < 0.5)
    if kind == "wander" and rng.random() < 0.4:
        mirrored = mirrored ^ (time > rng.uniform(0.35, 0.65))
    stretches = 1 + 0.06 * liveliness * _smooth_noise(rng, time)
    return Track(centres, scales, angles, mirrored, stretches, 2 * np.pi * time * rng.uniform(0.5, 3))


def describe_motion(centres: np.ndarray, areas: np.ndarray, visible: np.ndarray) -> tuple[str, float]:
    """The word for a measured course and its speed.

    Args:
        centres: float [T, 2], (x, y) in 0..1, NaN when not visible.
        areas: float [T], visible fraction of the frame.
        visible: bool [T].

    Returns:
        One of `scene.MOTIONS` ("still" when too little is seen of it) and the mean path per frame step.
    """
    seen = np.flatnonzero(visible)
    if len(seen) < 2:
        return "still", 0.0
    points = centres[seen]
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    speed = float(steps.sum() / max(1, seen[-1] - seen[0]))
    across, down = points[-1] - points[0]
    growth = areas[seen[-1]] / max(areas[seen[0]], 1e-9)
    if max(abs(across), abs(down)) >= 0.12:
        if abs(across) >= 1.7 * abs(down):
            return ("right" if across > 0 else "left"), speed
        if abs(down) >= 1.7 * abs(across):
            return ("down" if down > 0 else "up"), speed
        return "wandering", speed
    inside = (points > 0.12).all() and (points < 0.88).all()
    if inside and growth >= 1.6:
        return "growing", speed
    if inside and growth <= 1 / 1.6:
        return "shrinking", speed
    return ("still" if steps.sum() < 0.05 and 0.75 < growth < 1.33 else "wandering"), speed
