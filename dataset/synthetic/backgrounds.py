"""Moving backgrounds: photographs and procedural scenery, seen by a panning, zooming, shaking camera.

Legend: T frames, H W pixels. Pictures are float32 [H, W, 3], RGB, 0..255.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SETTINGS = ("clouds", "landscape", "floor", "bricks", "grass", "wood", "bokeh", "room", "photograph")


def _noise(rng: np.random.Generator, height: int, width: int, octaves: int = 5, start: int = 2) -> np.ndarray:
    """Multi-octave value noise, float32 [H, W], zero mean, about unit range."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = start * 2**octave
        grid = rng.normal(0, 1, (cells + 2, int(cells * width / height) + 2)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.55**octave
    return total / 2


def _colour(rng: np.random.Generator, low: float = 40, high: float = 210, chroma: float = 40) -> np.ndarray:
    """A muted random colour, float32 [3]."""
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.normal(0, chroma * 0.5, 3), 5, 250).astype(np.float32)


def _clouds(rng, height, width):
    base, other = _colour(rng), _colour(rng)
    share = 1 / (1 + np.exp(-3 * _noise(rng, height, width)[..., None]))
    return base + (other - base) * share


def _gradient(rng, height, width):
    top, bottom = _colour(rng, 90, 235), _colour(rng, 60, 220)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top + (bottom - top) * ramp, (height, width, 3)).copy()


def _grass(rng, height, width):
    base = np.array([rng.uniform(60, 130), rng.uniform(90, 150), rng.uniform(30, 80)], np.float32)
    if rng.random() < 0.4:
        base = _colour(rng, 70, 170)
    speckle = rng.normal(0, 1, (height, width)).astype(np.float32)
    blades = cv2.GaussianBlur(speckle, (0, 0), sigmaX=0.7, sigmaY=rng.uniform(0.8, 3)) * 60
    return base + (blades + 28 * _noise(rng, height, width, 5, 3))[..., None] * np.array(
        [0.9, 1.0, 0.6], np.float32
    )


def _wood(rng, height, width):
    base = np.array([rng.uniform(110, 190), rng.uniform(75, 130), rng.uniform(40, 90)], np.float32)
    grain = _noise(rng, height, width, 4, 2)
    rows = np.arange(height, dtype=np.float32)[:, None] / height * rng.uniform(20, 60)
    rings = np.sin(rows + 3 * grain + rng.uniform(0, 6))
    fine = (
        cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), sigmaX=9, sigmaY=0.6)
        * 40
    )
    picture = base + (16 * rings + fine)[..., None]
    plank = max(8, int(height / rng.uniform(3, 7)))
    picture[::plank] *= 0.55
    return picture


def _bricks(rng, height, width):
    tall = max(6, int(height / rng.uniform(6, 14)))
    wide = int(tall * rng.uniform(1.8, 3))
    base = _colour(rng, 90, 180, 50)
    rows, columns = height // tall + 2, width // wide + 3
    tones = base + rng.normal(0, 14, (rows, columns, 1)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width]
    row = y // tall
    shifted = x + (row % 2) * (wide // 2)
    picture = tones[row, shifted // wide]
    mortar = (y % tall < max(1, tall // 12)) | (shifted % wide < max(1, tall // 12))
    picture[mortar] = base * 0.4 + 100
    return picture + 14 * _noise(rng, height, width, 6, 4)[..., None] + rng.normal(0, 5, (height, width, 1))


def _bokeh(rng, height, width):
    picture = _clouds(rng, height, width) * rng.uniform(0.3, 0.8)
    for _ in range(rng.integers(6, 26)):
        layer = picture.copy()
        radius = int(height * rng.uniform(0.02, 0.12))
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(layer, centre, radius, _colour(rng, 120, 250, 90).tolist(), -1, cv2.LINE_AA)
        picture += (layer - picture) * rng.uniform(0.2, 0.7)
    return cv2.GaussianBlur(picture, (0, 0), height * rng.uniform(0.008, 0.03))


def _plain_texture(rng, height, width):
    return [_clouds, _grass, _wood, _bricks][rng.integers(4)](rng, height, width)


def _floor(rng, height, width):
    """A wall and a textured floor in perspective."""
    horizon = int(height * rng.uniform(0.25, 0.6))
    wall = _plain_texture(rng, height, width) if rng.random() < 0.5 else _gradient(rng, height, width)
    ground = np.ascontiguousarray(_plain_texture(rng, height, width), np.float32)
    if rng.random() < 0.3:
        cells = int(rng.integers(6, 14))
        board = (
            np.add.outer(np.arange(height) * cells // height, np.arange(width) * cells // width) % 2
        ) * 40.0
        ground += board[..., None].astype(np.float32)
    spread = rng.uniform(0.1, 0.35)
    source = np.float32([[width * spread, 0], [width * (1 - spread), 0], [width, height], [0, height]])
    target = np.float32([[0, horizon], [width, horizon], [width * 1.35, height], [-width * 0.35, height]])
    seen = cv2.warpPerspective(
        ground, cv2.getPerspectiveTransform(source, target), (width, height), borderMode=cv2.BORDER_REFLECT
    )
    picture = wall.astype(np.float32)
    picture[horizon:] = seen[horizon:]
    depth = np.linspace(0.7, 1.05, height - horizon, dtype=np.float32)[:, None, None]
    picture[horizon:] *= depth
    return picture


def _landscape(rng, height, width):
    """Sky, a few ranges of hills or a skyline, ground, and blurred blobs for trees and bushes."""
    picture = _gradient(rng, height, width).astype(np.float32)
    picture += 22 * np.clip(_noise(rng, height, width, 5, 2), 0, None)[..., None]
    columns = np.arange(width)
    horizon = height * rng.uniform(0.35, 0.6)
    haze = picture[0, 0].copy()
    for layer in range(rng.integers(1, 4)):
        ridge = horizon + height * 0.12 * layer - height * 0.2 * np.abs(_noise(rng, 8, width, 4, 2)[4])
        if rng.random() < 0.3:
            block = max(4, width // int(rng.integers(8, 22)))
            ridge = np.repeat(ridge[::block], block)[:width]
            ridge = ridge - height * 0.15 * np.repeat(rng.random(width // block + 1), block)[:width]
        inside = np.arange(height)[:, None] > ridge[columns][None]
        tone = _colour(rng, 30, 150, 45) * (0.5 + 0.25 * layer) + haze * (0.4 - 0.12 * layer)
        texture = tone + 24 * _noise(rng, height, width, 6, 4)[..., None]
        picture = np.where(inside[..., None], texture, picture)
    ground_from = int(min(height - 2, horizon + height * rng.uniform(0.05, 0.3)))
    ground = _grass(rng, height, width) if rng.random() < 0.6 else _clouds(rng, height, width)
    picture[ground_from:] = (
        ground[ground_from:] * np.linspace(0.75, 1.05, height - ground_from)[:, None, None]
    )
    for _ in range(rng.integers(0, 7)):
        mask = np.zeros((height, width), np.float32)
        centre = (int(rng.integers(0, width)), int(ground_from + rng.uniform(-0.15, 0.1) * height))
        axes = (int(width * rng.uniform(0.02, 0.1)), int(height * rng.uniform(0.05, 0.25)))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
        ragged = (
            np.clip(cv2.GaussianBlur(mask, (0, 0), 6) + 0.5 * _noise(rng, height, width, 6, 6), 0, 1) * mask
        )
        tone = np.array([rng.uniform(20, 80), rng.uniform(40, 110), rng.uniform(15, 60)], np.float32)
        picture += (tone + 30 * _noise(rng, height, width, 6, 8)[..., None] - picture) * ragged[..., None]
    return picture


def _room(rng, height, width):
    """A wall with frames and boxes of furniture before it."""
    picture = _floor(rng, height, width)
    for _ in range(rng.integers(2, 9)):
        x, y = rng.integers(0, width), rng.integers(0, int(height * 0.8))
        box_width, box_height = int(width * rng.uniform(0.04, 0.25)), int(height * rng.uniform(0.06, 0.5))
        region = picture[y : y + box_height, x : x + box_width]
        tone = _colour(rng, 30, 220, 50)
        region[...] = tone + 10 * _noise(rng, 32, 32)[0, 0]
        region *= np.linspace(rng.uniform(0.8, 1.1), rng.uniform(0.7, 1), region.shape[1])[None, :, None]
        region[: max(1, box_height // 20)] *= 1.2
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(0.3, 1.5))


_PAINTERS = {
    "clouds": _clouds, "landscape": _landscape, "floor": _floor, "bricks": _bricks, "grass": _grass,
    "wood": _wood, "bokeh": _bokeh, "room": _room,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Background:
    """A still picture, larger than the frame, and a camera that looks at part of it.

    Attributes:
        frames: uint8 [T, H, W, 3].
        transforms: float [T, 2, 3], from the frame's (x, y) pixels at rest to those in each frame: how a
            thing that stands still in the scene moves in the picture.
        setting: One of `SETTINGS`.
    """

    frames: np.ndarray
    transforms: np.ndarray
    setting: str


def _camera(rng: np.random.Generator, num_frames: int, height: int, width: int, pace: float) -> np.ndarray:
    """float [T, 2, 3] frame-to-frame similarity transforms of a panning, zooming, shaking camera."""
    time = pace * np.arange(num_frames) / max(1, num_frames - 1)
    pan = rng.normal(0, 0.06, 2) * (rng.random() < 0.6)
    zoom = rng.normal(0, 0.08) * (rng.random() < 0.4)
    shake = rng.uniform(0, 0.006) * (rng.random() < 0.5)
    roll = rng.normal(0, 0.02) * (rng.random() < 0.3)
    jitter = rng.normal(0, shake, (num_frames, 2))
    transforms = np.zeros((num_frames, 2, 3))
    centre = np.array([width / 2, height / 2])
    for index, now in enumerate(time):
        scale, angle = np.exp(zoom * now), roll * now
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = (pan * now + jitter[index]) * np.array([width, height])
        transforms[index, :, :2] = linear
        transforms[index, :, 2] = centre + shift - linear @ centre
    return transforms


def film_background(
    rng: np.random.Generator,
    num_frames: int,
    height: int,
    width: int,
    photograph: np.ndarray | None = None,
    pace: float = 1.0,
) -> Background:
    """Draw a background and film it.

    Args:
        photograph: uint8 [h, w, 3], of which a crop is filmed; painted scenery for None.
        pace: Stretch of the camera's course that the video covers, in (0, 1].
    """
    margin = 0.25
    painted_height, painted_width = int(height * (1 + margin)), int(width * (1 + margin))
    if photograph is not None:
        setting = "photograph"
        picture = _crop_photograph(rng, photograph, painted_height, painted_width)
    else:
        setting = SETTINGS[rng.choice(8, p=[0.08, 0.34, 0.26, 0.06, 0.08, 0.06, 0.08, 0.04])]
        # Painted at half size: sharper than needed at full size, and four times slower.
        half = _PAINTERS[setting](rng, painted_height // 2, painted_width // 2)
        picture = cv2.resize(
            half.astype(np.float32), (painted_width, painted_height), interpolation=cv2.INTER_LINEAR
        )
        picture = picture + 6 * rng.standard_normal((painted_height, painted_width, 1), np.float32)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), np.exp(rng.uniform(-0.7, 1.3)) * height / 288)
    shade = cv2.resize(
        rng.uniform(0.75, 1.15, (3, 4)).astype(np.float32),
        (painted_width, painted_height),
        interpolation=cv2.INTER_CUBIC,
    )
    picture = np.clip(picture * shade[..., None], 0, 255).astype(np.uint8)
    transforms = _camera(rng, num_frames, height, width, pace)
    offset = np.array([(painted_width - width) / 2, (painted_height - height) / 2])
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for index, transform in enumerate(transforms):
        matrix = transform.copy()
        matrix[:, 2] -= matrix[:, :2] @ offset
        frames[index] = cv2.warpAffine(
            picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    return Background(frames, transforms, setting)


def _crop_photograph(rng: np.random.Generator, photograph: np.ndarray, height: int, width: int) -> np.ndarray:
    """A random crop of a photograph at the wanted size, float32 [H, W, 3]."""
    tall, wide = photograph.shape[:2]
    fit = min(tall / height, wide / width)
    scale = fit * np.exp(rng.uniform(np.log(0.25), 0))
    crop_height, crop_width = max(2, int(height * scale)), max(2, int(width * scale))
    top, left = rng.integers(0, tall - crop_height + 1), rng.integers(0, wide - crop_width + 1)
    crop = photograph[top : top + crop_height, left : left + crop_width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    interpolation = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return cv2.resize(crop, (width, height), interpolation=interpolation).astype(np.float32)
