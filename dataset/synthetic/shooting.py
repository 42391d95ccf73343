"""Shoots one scene: places and lights what was cast, and films it before a moving background.

Legend: T frames, N objects, H W pixels. Positions are (x, y) as fractions of the frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.backgrounds import Background, film_background
from dataset.synthetic.casting import Role, cast_roles
from dataset.synthetic.motion import make_track
from dataset.synthetic.render import Actor, Cutout, Finish, cut, paint, paint_shadow, visible_masks
from dataset.synthetic.video_spec import VideoSpec

_KINDS_OF_THE_MOBILE = {
    "still": 0.16, "linear": 0.24, "arc": 0.05, "stop and go": 0.06, "bounce": 0.06, "wander": 0.14,
    "approach": 0.07, "recede": 0.06, "leave": 0.08, "pass": 0.04, "circle": 0.02, "enter": 0.02,
}  # fmt: skip
_KINDS_OF_THE_IMMOBILE = {
    "still": 0.5, "linear": 0.12, "arc": 0.02, "stop and go": 0.02, "bounce": 0.03, "wander": 0.06,
    "approach": 0.07, "recede": 0.06, "leave": 0.06, "pass": 0.02, "circle": 0.02, "enter": 0.02,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Shot:
    """Frames uint8 [T, H, W, 3], masks bool [N, T, H, W], and the N roles seen in them, back to front."""

    frames: np.ndarray
    masks: np.ndarray
    roles: tuple[Role, ...]
    setting: str


@dataclass(frozen=True)
class _Mood:
    """What all objects of a shot share: light (x, y), shadow strength, edge softness, depth of field."""

    light: tuple[float, float]
    shadow: float
    softness: float
    shallow: bool
    centred: bool


def _place(rng: np.random.Generator, taken: list[np.ndarray], centred: bool) -> np.ndarray:
    """A home for an object, away from those that are taken: float [2], (x, y)."""
    best, best_distance = None, -1.0
    for _ in range(12):
        if centred and not taken:
            point = np.array([rng.normal(0.5, 0.08), rng.normal(0.55, 0.07)])
        else:
            point = np.array([rng.uniform(0.13, 0.87), rng.uniform(0.25, 0.8)])
        distance = min((np.linalg.norm((point - other) * (1, 0.6)) for other in taken), default=1.0)
        if distance > best_distance:
            best, best_distance = point, distance
        if distance > 0.3:
            break
    return best


def _draw_kind(rng: np.random.Generator, mobile: bool, late: bool) -> str:
    """A kind of course; `late` for an object that must not be there at the beginning."""
    if late:
        return "enter" if rng.random() < 0.7 else "pass"
    chances = _KINDS_OF_THE_MOBILE if mobile else _KINDS_OF_THE_IMMOBILE
    return list(chances)[rng.choice(len(chances), p=np.array(list(chances.values())) / sum(chances.values()))]


def _light(
    picture: np.ndarray,
    surroundings: np.ndarray,
    rng: np.random.Generator,
    light: tuple[float, float],
    colour: str | None,
    assets: AssetLibrary,
) -> np.ndarray:
    """Fit a cut-out's exposure, tint and texture to its surroundings: uint8 [h, w, 4].

    Args:
        surroundings: float [3], mean RGB of the background where it will stand.
        light: (x, y) towards which the shade falls.
    """
    opaque = picture[..., 3] > 127
    mean = picture[opaque][:, :3].mean(axis=0).astype(np.float32) + 1
    fixed = colour in ("white", "black", "grey")
    strength = rng.uniform(0.1, 0.25) if fixed else rng.uniform(0.15, 0.45)
    gain = float(np.clip((surroundings.mean() + 15) / mean.mean(), 0.4, 2.2) ** strength)
    tint = np.clip((surroundings + 20) / (surroundings.mean() + 20), 0.6, 1.5) ** rng.uniform(0.05, 0.25)
    height, width = opaque.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    ramp = 1 - rng.uniform(0.02, 0.2) * (light[0] * x + abs(light[1]) * y)
    grain = cv2.resize(
        rng.normal(0, 1, (max(4, height // 5), max(4, width // 5))).astype(np.float32), (width, height),
        interpolation=cv2.INTER_CUBIC,
    )  # fmt: skip
    fine = rng.standard_normal((height, width), np.float32)
    relief = 1 + rng.uniform(0, 0.07) * grain + rng.uniform(0, 0.05) * fine
    if assets.photographs and rng.random() < 0.35:
        relief = relief * (1 + rng.uniform(0.05, 0.3) * _borrow_texture(rng, assets, height, width))
    lit = picture[..., :3].astype(np.float32) * (gain * ramp * relief)[..., None] * tint.astype(np.float32)
    contrast = rng.uniform(0.75, 1.1)
    lit = (lit - mean * gain) * contrast + mean * gain
    out = picture.copy()
    out[..., :3] = np.clip(lit, 0, 255)
    return out


def _borrow_texture(rng: np.random.Generator, assets: AssetLibrary, height: int, width: int) -> np.ndarray:
    """The fine light and dark of a bit of a photograph: float32 [h, w], about -1..1."""
    photograph = assets.photograph(int(rng.integers(len(assets.photographs))))
    tall, wide = min(height, photograph.shape[0]), min(width, photograph.shape[1])
    top = int(rng.integers(photograph.shape[0] - tall + 1))
    left = int(rng.integers(photograph.shape[1] - wide + 1))
    grey = cv2.cvtColor(photograph[top : top + tall, left : left + wide], cv2.COLOR_RGB2GRAY).astype(
        np.float32
    )
    fine = grey - cv2.GaussianBlur(grey, (0, 0), max(2.0, tall / 12))
    fine = np.clip(fine / (2.5 * fine.std() + 1), -1, 1)
    return cv2.resize(fine, (width, height)) if (tall, wide) != (height, width) else fine


def _draw_height(
    rng: np.random.Generator, role: Role, size: tuple[int, int], largest: float, main: bool
) -> float:
    """How tall an object is, in pixels, so that its area is a wanted share of the frame."""
    height, width = size
    area = rng.uniform(0.07, largest) if main else np.exp(rng.uniform(np.log(0.03), np.log(largest)))
    coverage = max(0.05, (role.picture[..., 3] > 127).mean())
    tall, wide = role.picture.shape[:2]
    wanted = np.sqrt(area * height * width / coverage * tall / wide)
    return float(min(wanted, 1.05 * height, 1.05 * width * tall / wide))


def _stage(
    rng: np.random.Generator,
    role: Role,
    taken: list[np.ndarray],
    background: Background,
    mood: _Mood,
    largest: float,
    late: bool,
    pace: float,
    assets: AssetLibrary,
) -> tuple[Actor, float]:
    """Make an actor of a role; also says how far down its foot is, in 0..1. Adds its place to `taken`."""
    num_frames, height, width = background.frames.shape[:3]
    actor_height = _draw_height(rng, role, (height, width), largest, mood.centred and not taken)
    tall, wide = role.picture.shape[:2]
    half = np.array([actor_height * wide / tall / width, actor_height / height]) / 2
    home = _place(rng, taken, mood.centred)
    home = np.clip(home, np.minimum(half * 0.8, 0.5), np.maximum(1 - half * 0.8, 0.5))
    taken.append(home)
    kind = _draw_kind(rng, role.mobile, late)
    liveliness = 1.0 if role.mobile else 0.3
    track = make_track(rng, num_frames, kind, tuple(home), tuple(half), pace, liveliness, role.upright)
    row, column, reach = int(home[1] * height), int(home[0] * width), max(4, int(actor_height / 2))
    around = background.frames[0, max(0, row - reach) : row + reach, max(0, column - reach) : column + reach]
    lit = _light(role.picture, around.reshape(-1, 3).mean(axis=0), rng, mood.light, role.colour, assets)
    shadow = "none" if rng.random() < 0.25 else ("ground" if role.upright and rng.random() < 0.65 else "cast")
    defocus = rng.uniform(0, 1.5) * height / 288 if mood.shallow and rng.random() < 0.5 else 0.0
    wobble = rng.uniform(0.01, 0.05) if role.living and rng.random() < 0.4 else 0.0
    return Actor(lit, actor_height, track, wobble, defocus, shadow), float(home[1] + half[1])


def shoot(
    rng: np.random.Generator,
    spec: VideoSpec,
    assets: AssetLibrary,
    banned: frozenset[str] = frozenset(),
    least: int | None = None,
) -> Shot:
    """Film one scene.

    Args:
        banned: Names that must not occur.
        least: The fewest pixels that count as visible; by the frame's size for None.
    """
    size, num_frames = (spec.height, spec.width), spec.num_frames
    least = least or least_pixels(*size)
    pace = spec.pace if spec.pace is not None else float(rng.choice([1.0, rng.uniform(0.3, 1.0)]))
    roles = cast_roles(rng, assets, spec.split, spec.max_objects, spec.compound, banned)
    photograph = None
    if assets.photographs and rng.random() < 0.5:
        photograph = assets.photograph(int(rng.integers(len(assets.photographs))))
    background = film_background(rng, num_frames, *size, photograph, pace)
    mood = _Mood(
        light=(rng.uniform(-0.5, 0.5), rng.uniform(0.02, 0.25)),
        shadow=rng.uniform(0.2, 0.6),
        softness=rng.uniform(0.35, 0.9) * spec.height / 288,
        shallow=rng.random() < 0.15,
        centred=rng.random() < (0.75 if len(roles) == 1 else 0.35),
    )
    late = rng.random() < spec.absent_first and num_frames > 1
    latecomer = int(rng.integers(len(roles))) if late else -1
    largest, taken = 0.5 / len(roles) ** 0.7, []
    staged = [
        _stage(rng, role, taken, background, mood, largest, number == latecomer, pace, assets)
        for number, role in enumerate(roles)
    ]
    # Lower feet are nearer to the camera, mostly.
    order = np.argsort([foot + rng.normal(0, 0.08) for _, foot in staged])
    actors, roles = [staged[number][0] for number in order], [roles[number] for number in order]
    margin = int(8 * spec.height / 288) + 4
    cutouts = [
        [
            _with_velocity(cut(actor, t, size, background.transforms[t], margin), actor, t, size, pace)
            for actor in actors
        ]
        for t in range(num_frames)
    ]
    kept = np.flatnonzero(_recognisable(cutouts, size, least))
    masks = np.zeros((len(kept), num_frames, *size), bool)
    frames = np.empty((num_frames, *size, 3), np.uint8)
    finish = _draw_finish(rng, spec)
    for t in range(num_frames):
        now = [cutouts[t][number] for number in kept]
        masks[:, t] = visible_masks(now, size)
        canvas = background.frames[t].astype(np.float32)
        for number, cutout in zip(kept, now, strict=True):
            if cutout is None:
                continue
            actor = actors[number]
            if actor.shadow != "none":
                paint_shadow(canvas, cutout, actor.shadow, mood.light, mood.shadow)
            paint(canvas, cutout, mood.softness, actor.defocus)
        frames[t] = finish(canvas, rng)
    masks &= masks.sum(axis=(2, 3), keepdims=True) >= least
    return Shot(frames, masks, tuple(roles[number] for number in kept), background.setting)


def least_pixels(height: int, width: int) -> int:
    """Fewer visible pixels than this count as "not visible", and their mask is empty."""
    return max(10, int(0.0012 * height * width))


def _with_velocity(
    cutout: Cutout | None, actor: Actor, t: int, size: tuple[int, int], pace: float
) -> Cutout | None:
    """Add the blur of its motion: the shutter is open for a small part of the way between two frames."""
    if cutout is None or len(actor.track.centres) < 2:
        return cutout
    before, after = max(0, t - 1), min(len(actor.track.centres) - 1, t + 1)
    way = (actor.track.centres[after] - actor.track.centres[before]) / (after - before) * (size[1], size[0])
    dense = (len(actor.track.centres) - 1) / (50 * pace)  # how long a step is, in frames of a 50-frame video
    return Cutout(cutout.patch, cutout.x, cutout.y, tuple(way * min(1.0, dense) * 0.5))


def _recognisable(cutouts: list[list[Cutout | None]], size: tuple[int, int], least: int) -> list[bool]:
    """Which objects are seen well in some frame; the others are left out, so that nothing is unlabelled."""
    count = len(cutouts[0])
    kept = [True] * count
    for _ in range(count):
        best = np.zeros(count)
        for now in cutouts:
            masks = visible_masks([c if keep else None for c, keep in zip(now, kept, strict=True)], size)
            shares = masks.sum(axis=(1, 2)) / (size[0] * size[1])
            for number, cutout in enumerate(now):
                if cutout is not None and kept[number]:
                    whole = max(1, int((cutout.patch[..., 3] > 127).sum()))
                    visible_part = shares[number] * size[0] * size[1] / whole
                    best[number] = max(best[number], shares[number] * (visible_part >= 0.3))
        bad = [
            number
            for number in range(count)
            if kept[number] and best[number] < max(0.006, least / (size[0] * size[1]))
        ]
        if not bad:
            break
        kept[bad[0]] = False
    return kept


def _draw_finish(rng: np.random.Generator, spec: VideoSpec) -> Finish:
    scale = spec.height / 288
    return Finish(
        gamma=float(np.exp(rng.normal(0, 0.14))),
        tint=tuple(float(value) for value in np.clip(rng.normal(1, 0.03, 3), 0.92, 1.08)),
        noise=float(rng.uniform(0.5, 5)) if rng.random() < 0.6 else 0.0,
        blur=float(rng.uniform(0.3, 1.0) * scale) if rng.random() < 0.35 else 0.0,
        jpeg_quality=int(rng.integers(45, 96)) if spec.jpeg and rng.random() < 0.6 else None,
        vignette=float(rng.uniform(0.1, 0.4)) if rng.random() < 0.25 else 0.0,
    )
