"""Endless labelled synthetic videos: a seed and a specification in, a clip with masks and questions out.

`generate(seed, spec, assets)` is the one entry point; the same arguments give the same sample.
Legend: T frames, N objects, H W pixels. Positions are (x, y) as fractions of the frame.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from dataset.sample import Sample
from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.backgrounds import film_background
from dataset.synthetic.casting import Role, cast_roles
from dataset.synthetic.motion import describe_motion, make_track
from dataset.synthetic.render import Actor, Cutout, Finish, cut, paint, paint_shadow, visible_masks
from dataset.synthetic.scene import Scene, SceneObject


@dataclass(frozen=True)
class VideoSpec:
    """What kind of video to make.

    Attributes:
        height, width: H and W, pixels.
        num_frames: T, 1 or more.
        split: "train" or "held-out": which names may occur.
        max_objects: Objects of a plain scene, 1..6; two scenes side by side have up to twice as many.
        pace: How much of each course the video covers, in (0, 1]; small for dense video, None to draw it.
        side_by_side: Share of videos made of two scenes with a hard seam.
        two_shots: Share of videos with a cut to another scene.
        compound: Share of objects made of several parts.
        absent_first: Share of videos in which some object is not there in the first frame.
        jpeg: Whether frames may be compressed.
    """

    height: int = 288
    width: int = 480
    num_frames: int = 4
    split: str = "train"
    max_objects: int = 5
    pace: float | None = None
    side_by_side: float = 0.15
    two_shots: float = 0.08
    compound: float = 0.25
    absent_first: float = 0.35
    jpeg: bool = True

    def __post_init__(self):
        if self.num_frames < 1 or self.height < 16 or self.width < 16:
            raise ValueError(
                f"expected at least 1 frame of at least 16x16 pixels, got {self.num_frames} of "
                f"{self.width}x{self.height}"
            )
        if not 1 <= self.max_objects <= 6:
            raise ValueError(f"max_objects must be in 1..6, got {self.max_objects}")


@dataclass(frozen=True, eq=False)
class Film:
    """A clip with what is in it: frames uint8 [T, H, W, 3], masks bool [N, T, H, W], and its description."""

    frames: np.ndarray
    masks: np.ndarray
    scene: Scene


def generate(
    seed: int, spec: VideoSpec, assets: AssetLibrary, lexicon=None, name: str | None = None
) -> Sample:
    """Make one labelled video.

    Args:
        seed: Any non-negative integer.
        lexicon: The question writer's word knowledge; its default when None.
    """
    from dataset.synthetic import questions

    made = film(seed, spec, assets)
    asking = np.random.default_rng([seed, 1])
    turns = questions.ask(made.scene, asking, lexicon)
    return Sample(name or f"synthetic_{spec.split}_{seed:08d}", made.frames, made.masks, tuple(turns))


def film(seed: int, spec: VideoSpec, assets: AssetLibrary) -> Film:
    """Make one video with its masks and description, without questions."""
    rng = np.random.default_rng([seed, 0])
    for _ in range(20):
        made = _film_once(rng, spec, assets)
        if made.scene.objects:
            return made
    raise RuntimeError(
        f"no object could be placed in 20 tries (seed {seed}, {spec}); is the library too small?"
    )


def _film_once(rng: np.random.Generator, spec: VideoSpec, assets: AssetLibrary) -> Film:
    draw = rng.random()
    if draw < spec.side_by_side and spec.width >= 128:
        return _join_sides(rng, spec, assets)
    if draw < spec.side_by_side + spec.two_shots and spec.num_frames >= 3:
        return _join_shots(rng, spec, assets)
    return _film_scene(rng, spec, assets)


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


def _draw_kind(rng: np.random.Generator, role: Role, late: bool) -> str:
    if late:
        return "enter" if rng.random() < 0.7 else "pass"
    mobile = role.mobile
    kinds = ("still", "linear", "arc", "stop and go", "bounce", "wander", "approach", "recede", "leave", "pass",
             "circle", "enter")  # fmt: skip
    chances = np.array(
        [0.16, 0.24, 0.05, 0.06, 0.06, 0.14, 0.07, 0.06, 0.08, 0.04, 0.02, 0.02]
        if mobile
        else [0.5, 0.12, 0.02, 0.02, 0.03, 0.06, 0.07, 0.06, 0.06, 0.02, 0.02, 0.02]
    )
    return kinds[rng.choice(len(kinds), p=chances / chances.sum())]


def _light(
    picture: np.ndarray,
    surroundings: np.ndarray,
    rng: np.random.Generator,
    light: tuple[float, float],
    colour: str | None,
):
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
    lit = picture[..., :3].astype(np.float32) * (gain * ramp * relief)[..., None] * tint.astype(np.float32)
    contrast = rng.uniform(0.75, 1.1)
    lit = (lit - mean * gain) * contrast + mean * gain
    out = picture.copy()
    out[..., :3] = np.clip(lit, 0, 255)
    return out


def _film_scene(
    rng: np.random.Generator, spec: VideoSpec, assets: AssetLibrary, banned: frozenset = frozenset()
) -> Film:
    """One shot of one scene."""
    height, width, num_frames = spec.height, spec.width, spec.num_frames
    pace = spec.pace if spec.pace is not None else float(rng.choice([1.0, rng.uniform(0.3, 1.0)]))
    roles = cast_roles(rng, assets, spec.split, spec.max_objects, spec.compound, banned)
    photograph = None
    if assets.photographs and rng.random() < 0.5:
        photograph = assets.photograph(int(rng.integers(len(assets.photographs))))
    background = film_background(rng, num_frames, height, width, photograph, pace)
    light = (rng.uniform(-0.5, 0.5), rng.uniform(0.02, 0.25))
    late = rng.random() < spec.absent_first and num_frames > 1
    latecomer = int(rng.integers(len(roles))) if late else -1
    centred = rng.random() < (0.75 if len(roles) == 1 else 0.3)
    bokeh = rng.random() < 0.15
    taken: list[np.ndarray] = []
    actors = []
    largest = 0.5 / len(roles) ** 0.7
    sharpness = rng.uniform(0.35, 0.9) * height / 288
    for number, role in enumerate(roles):
        area = float(np.exp(rng.uniform(np.log(0.03), np.log(largest))))
        if centred and number == 0:
            area = max(area, float(rng.uniform(0.08, largest)))
        picture = role.picture
        coverage = (picture[..., 3] > 127).mean()
        tall, wide = picture.shape[:2]
        pixels = np.sqrt(area * height * width / max(coverage, 0.05))
        actor_height = pixels * np.sqrt(tall / wide)
        actor_height *= min(1.0, 1.05 * height / actor_height, 1.05 * width / (actor_height * wide / tall))
        half = (actor_height * wide / tall / width / 2, actor_height / height / 2)
        home = _place(rng, taken, centred)
        home = np.clip(home, np.minimum(np.array(half) * 0.8, 0.5), np.maximum(1 - np.array(half) * 0.8, 0.5))
        taken.append(home)
        kind = _draw_kind(rng, role, number == latecomer)
        track = make_track(
            rng, num_frames, kind, tuple(home), half, pace, 1.0 if role.mobile else 0.3, role.upright
        )
        row, column = int(home[1] * height), int(home[0] * width)
        reach = max(4, int(actor_height / 2))
        around = background.frames[
            0, max(0, row - reach) : row + reach, max(0, column - reach) : column + reach
        ]
        lit = _light(picture, around.reshape(-1, 3).mean(axis=0), rng, light, role.colour)
        shadow = (
            "none" if rng.random() < 0.25 else ("ground" if role.upright and rng.random() < 0.65 else "cast")
        )
        defocus = rng.uniform(0, 1.5) * height / 288 if bokeh and rng.random() < 0.5 else 0.0
        wobble = rng.uniform(0.01, 0.05) if role.living and rng.random() < 0.4 else 0.0
        actors.append(Actor(lit, actor_height, track, wobble, defocus, shadow))
    # Lower feet are nearer to the camera, mostly.
    order = np.argsort(
        [
            home[1] + actor.height / height / 2 + rng.normal(0, 0.08)
            for home, actor in zip(taken, actors, strict=True)
        ]
    )
    roles, actors = [roles[i] for i in order], [actors[i] for i in order]
    margin = int(8 * height / 288) + 4
    cutouts = [
        [
            _with_velocity(
                cut(actor, t, (height, width), background.transforms[t], margin),
                actor,
                t,
                (height, width),
                pace,
            )
            for actor in actors
        ]
        for t in range(num_frames)
    ]
    kept = _recognisable(cutouts, (height, width))
    roles = [role for role, keep in zip(roles, kept, strict=True) if keep]
    actors = [actor for actor, keep in zip(actors, kept, strict=True) if keep]
    finish = _draw_finish(rng, spec)
    strength = rng.uniform(0.2, 0.6)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    masks = np.zeros((len(actors), num_frames, height, width), bool)
    for t in range(num_frames):
        now = [cutout for cutout, keep in zip(cutouts[t], kept, strict=True) if keep]
        masks[:, t] = visible_masks(now, (height, width))
        canvas = background.frames[t].astype(np.float32)
        for actor, cutout in zip(actors, now, strict=True):
            if cutout is None:
                continue
            if actor.shadow != "none":
                paint_shadow(canvas, cutout, actor.shadow, light, strength)
            paint(canvas, cutout, sharpness, actor.defocus)
        frames[t] = finish(canvas, rng)
    masks &= masks.sum(axis=(2, 3), keepdims=True) >= least_pixels(height, width)
    return describe(frames, masks, roles, background.setting)


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


def _recognisable(cutouts: list[list[Cutout | None]], size: tuple[int, int]) -> list[bool]:
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
        bad = [number for number in range(count) if kept[number] and best[number] < 0.006]
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


def describe(frames: np.ndarray, masks: np.ndarray, roles: list[Role], setting: str) -> Film:
    """Measure what is visible and write it down."""
    objects = []
    num_frames, height, width = frames.shape[:3]
    columns, rows = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    for number, role in enumerate(roles):
        across, down = masks[number].sum(axis=1), masks[number].sum(axis=2)
        pixels = across.sum(axis=1)
        visible = pixels > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            centres = np.stack([(across @ columns) / pixels, (down @ rows) / pixels], axis=1)
        centres[~visible] = np.nan
        seen = np.flatnonzero(visible)
        areas = pixels / (height * width)
        word, speed = describe_motion(centres, areas, visible)
        leaves = int(seen[-1] + 1) if seen[-1] + 1 < num_frames else None
        objects.append(
            SceneObject(
                id=number, name=role.name, category=role.category, colour=role.colour,
                size=float(areas[visible].mean()), centres=centres, visible=visible, motion=word,
                enters=int(seen[0]), leaves=leaves, parts=role.parts, phrase=role.phrase,
                keywords=role.keywords, depth=number, speed=speed,
            )
        )  # fmt: skip
    return Film(frames, masks, Scene(tuple(objects), num_frames, setting))


def _join_sides(rng: np.random.Generator, spec: VideoSpec, assets: AssetLibrary) -> Film:
    """Two scenes with a hard seam, the left one first."""
    widths = (spec.width // 2, spec.width - spec.width // 2)
    films, banned = [], frozenset()
    for width in widths:
        half_spec = replace(spec, width=width, max_objects=min(spec.max_objects, 2), absent_first=0.15)
        made = _film_scene(rng, half_spec, assets, banned)
        films.append(made)
        if rng.random() < 0.9:
            banned = frozenset(item.name for item in made.scene.objects)
    frames = np.concatenate([made.frames for made in films], axis=2)
    masks, objects = [], []
    for half, (made, width) in enumerate(zip(films, widths, strict=True)):
        wide = np.zeros((len(made.masks), spec.num_frames, spec.height, spec.width), bool)
        start = half * widths[0]
        wide[..., start : start + width] = made.masks
        masks.append(wide)
        share = width / spec.width
        for item in made.scene.objects:
            centres = item.centres * (share, 1) + (start / spec.width, 0)
            objects.append(
                replace(
                    item,
                    id=len(objects),
                    centres=centres,
                    size=item.size * share,
                    half=("left", "right")[half],
                )
            )
    return Film(
        frames, np.concatenate(masks), Scene(tuple(objects), spec.num_frames, "two scenes side by side")
    )


def _join_shots(rng: np.random.Generator, spec: VideoSpec, assets: AssetLibrary) -> Film:
    """Two scenes one after the other; what is in one is not in the other."""
    first = int(rng.integers(1, spec.num_frames))
    films, banned = [], frozenset()
    for count in (first, spec.num_frames - first):
        made = _film_scene(
            rng, replace(spec, num_frames=count, max_objects=min(3, spec.max_objects)), assets, banned
        )
        films.append(made)
        banned = frozenset(item.name for item in made.scene.objects)
    frames = np.concatenate([made.frames for made in films])
    masks, objects = [], []
    for shot, made in enumerate(films):
        long = np.zeros((len(made.masks), spec.num_frames, spec.height, spec.width), bool)
        span = slice(0, first) if shot == 0 else slice(first, None)
        long[:, span] = made.masks
        masks.append(long)
        for item in made.scene.objects:
            centres, visible = np.full((spec.num_frames, 2), np.nan), np.zeros(spec.num_frames, bool)
            centres[span], visible[span] = item.centres, item.visible
            seen = np.flatnonzero(visible)
            leaves = int(seen[-1] + 1) if seen[-1] + 1 < spec.num_frames else None
            objects.append(
                replace(
                    item,
                    id=len(objects),
                    centres=centres,
                    visible=visible,
                    enters=int(seen[0]),
                    leaves=leaves,
                )
            )
    return Film(frames, np.concatenate(masks), Scene(tuple(objects), spec.num_frames, "two shots"))
