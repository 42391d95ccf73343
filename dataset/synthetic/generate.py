"""Endless labelled synthetic videos: a seed and a specification in, a clip with masks and questions out.

`generate(seed, spec, assets)` is the one entry point; the same arguments give the same sample.
Legend: T frames, N objects, H W pixels. Positions are (x, y) as fractions of the frame.
"""

from dataclasses import dataclass, replace

import numpy as np

from dataset.sample import Sample
from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.casting import Role
from dataset.synthetic.motion import describe_motion
from dataset.synthetic.scene import Scene, SceneObject
from dataset.synthetic.shooting import least_pixels, shoot
from dataset.synthetic.video_spec import VideoSpec

__all__ = ["Film", "VideoSpec", "film", "generate", "least_pixels"]


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
    return _film_shot(rng, spec, assets)


def _film_shot(
    rng: np.random.Generator,
    spec: VideoSpec,
    assets: AssetLibrary,
    banned: frozenset[str] = frozenset(),
    least: int | None = None,
) -> Film:
    shot = shoot(rng, spec, assets, banned, least)
    return describe(shot.frames, shot.masks, shot.roles, shot.setting)


def describe(frames: np.ndarray, masks: np.ndarray, roles: tuple[Role, ...], setting: str) -> Film:
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
        made = _film_shot(rng, half_spec, assets, banned, least_pixels(spec.height, spec.width))
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
        made = _film_shot(
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
