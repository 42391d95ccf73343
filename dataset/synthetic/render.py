"""Draws moving cut-outs over a background, with exact visible masks.

Every object is warped into the part of the frame it covers; edges are feathered and blurred in the picture
only, while its mask stays the sharp cut at alpha one half. Legend: T frames, N objects, H W pixels.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from dataset.synthetic.motion import Track


@dataclass(eq=False)
class Actor:
    """An object ready to be drawn.

    Attributes:
        picture: uint8 [h, w, 4], RGBA, not premultiplied, already lit and textured.
        height: Its height in the frame at scale 1, in pixels.
        track: Its poses.
        wobble: Non-rigid bending, as a fraction of its size; 0 for none.
        defocus: Standard deviation of its blur, pixels.
        shadow: "none", "ground" or "cast".
        shown: bool [T]; False in frames where it is not there at all.
    """

    picture: np.ndarray
    height: float
    track: Track
    wobble: float = 0.0
    defocus: float = 0.0
    shadow: str = "none"
    shown: np.ndarray | None = None
    _levels: list[np.ndarray] = field(default_factory=list)

    def level(self, index: int) -> np.ndarray:
        """The premultiplied picture, halved `index` times: uint8 [h, w, 4]."""
        if not self._levels:
            alpha = self.picture[..., 3:].astype(np.uint16)
            premultiplied = ((self.picture[..., :3].astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
            padded = np.concatenate([premultiplied, self.picture[..., 3:]], axis=2)
            self._levels.append(cv2.copyMakeBorder(padded, 8, 8, 8, 8, cv2.BORDER_CONSTANT))
        while len(self._levels) <= index:
            last = self._levels[-1]
            size = (max(1, last.shape[1] // 2), max(1, last.shape[0] // 2))
            self._levels.append(cv2.resize(last, size, interpolation=cv2.INTER_AREA))
        return self._levels[index]


@dataclass(frozen=True, eq=False)
class Cutout:
    """An actor in one frame: a premultiplied uint8 [h, w, 4] patch whose corner is at column x, row y."""

    patch: np.ndarray
    x: int
    y: int
    velocity: tuple[float, float] = (0.0, 0.0)


def _bend(picture: np.ndarray, amount: float, phase: float) -> np.ndarray:
    """Sway a picture sideways, more at the top than at the foot."""
    height, width = picture.shape[:2]
    rows = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    sideways = amount * width * (np.sin(phase + 4 * rows) * rows)
    squeeze = 0.5 * amount * height * np.sin(phase * 1.7) * (1 - rows) * rows
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    across, down = (x + sideways).astype(np.float32), (y + squeeze).astype(np.float32)
    return cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def cut(
    actor: Actor, index: int, frame_size: tuple[int, int], camera: np.ndarray, margin: int
) -> Cutout | None:
    """Warp an actor into frame `index`; None if it does not touch the frame.

    Args:
        frame_size: (H, W).
        camera: float [2, 3], how the scene is shifted in this frame, from `Background.transforms`.
        margin: Room left around it for blur, pixels.
    """
    height, width = frame_size
    track = actor.track
    scale = actor.height * track.scales[index] / actor.picture.shape[0]
    level = int(np.clip(np.floor(-np.log2(max(scale, 1e-4)) + 0.25), 0, 5))
    picture = actor.level(level)
    if actor.wobble:
        picture = _bend(picture, actor.wobble, track.phases[index])
    tall, wide = picture.shape[:2]
    zoom = scale * (actor.level(0).shape[0] / tall)
    stretch = track.stretches[index]
    angle = track.angles[index]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    flip = -1.0 if track.mirrored[index] else 1.0
    linear = turn @ np.diag([zoom * np.sqrt(stretch) * flip, zoom / np.sqrt(stretch)])
    centre = track.centres[index] * (width, height)
    linear = camera[:, :2] @ linear
    centre = camera[:, :2] @ centre + camera[:, 2]
    offset = centre - linear @ (np.array([wide - 1, tall - 1]) / 2)
    corners = np.array([[0, 0], [wide, 0], [0, tall], [wide, tall]]) @ linear.T + offset
    left, top = np.floor(corners.min(axis=0)).astype(int) - margin
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + margin
    left, top = max(left, -margin), max(top, -margin)
    right, bottom = min(right, width + margin), min(bottom, height + margin)
    if right - left <= 2 * margin - margin or bottom - top <= margin or left >= width or top >= height:
        return None
    matrix = np.column_stack([linear, offset - (left, top)])
    patch = cv2.warpAffine(picture, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    return Cutout(patch, int(left), int(top))


def _window(cutout: Cutout, frame_size: tuple[int, int]):
    """Matching slices: (frame rows, frame columns, patch rows, patch columns); None if they do not meet."""
    height, width = frame_size
    top, left = max(cutout.y, 0), max(cutout.x, 0)
    bottom = min(cutout.y + cutout.patch.shape[0], height)
    right = min(cutout.x + cutout.patch.shape[1], width)
    if bottom <= top or right <= left:
        return None
    return (
        slice(top, bottom),
        slice(left, right),
        slice(top - cutout.y, bottom - cutout.y),
        slice(left - cutout.x, right - cutout.x),
    )


def visible_masks(cutouts: list[Cutout | None], frame_size: tuple[int, int]) -> np.ndarray:
    """The pixels of each cut-out that no later one covers: bool [N, H, W]; drawn in the order given."""
    masks = np.zeros((len(cutouts), *frame_size), bool)
    covered = np.zeros(frame_size, bool)
    for number in range(len(cutouts) - 1, -1, -1):
        window = cutouts[number] and _window(cutouts[number], frame_size)
        if not window:
            continue
        rows, columns, patch_rows, patch_columns = window
        solid = cutouts[number].patch[patch_rows, patch_columns, 3] > 127
        masks[number, rows, columns] = solid & ~covered[rows, columns]
        covered[rows, columns] |= solid
    return masks


def _motion_kernel(velocity: tuple[float, float]) -> np.ndarray | None:
    """A line kernel along a shift of (x, y) pixels, or None if it is under two pixels."""
    length = float(np.hypot(*velocity))
    if length < 2:
        return None
    size = int(min(length, 25)) | 1
    kernel = np.zeros((size, size), np.float32)
    step = np.array(velocity) / length * (size - 1) / 2
    middle = (size - 1) / 2
    start, end = (np.array([middle, middle]) + sign * step for sign in (-1, 1))
    cv2.line(kernel, tuple(round(v) for v in start), tuple(round(v) for v in end), 1.0, 1)
    return kernel / kernel.sum()


def paint_shadow(
    frame: np.ndarray, cutout: Cutout, kind: str, light: tuple[float, float], strength: float
) -> None:
    """Darken a float32 [H, W, 3] frame, in place, where the cut-out keeps the light away.

    Args:
        kind: "ground" for a flat pool at its foot, "cast" for its outline shifted along `light`.
        light: (x, y) shift as a fraction of the cut-out's height.
    """
    alpha = cutout.patch[..., 3]
    quarter = cv2.resize(
        alpha, (max(1, alpha.shape[1] // 4), max(1, alpha.shape[0] // 4)), interpolation=cv2.INTER_AREA
    )
    rows = np.flatnonzero(quarter.max(axis=1) > 60)
    if len(rows) == 0:
        return
    tall = rows[-1] - rows[0] + 1
    pad = int(tall * 0.5) + 6
    sheet = np.zeros((quarter.shape[0] + 2 * pad, quarter.shape[1] + 2 * pad), np.float32)
    if kind == "ground":
        flat = cv2.resize(
            quarter, (quarter.shape[1], max(2, quarter.shape[0] // 6)), interpolation=cv2.INTER_AREA
        )
        top = pad + rows[-1] - flat.shape[0] // 2 - int(rows[0] / 6)
        top = max(0, min(top, sheet.shape[0] - flat.shape[0]))
        shift = int(light[0] * tall * 0.3)
        left = max(0, min(pad + shift, sheet.shape[1] - flat.shape[1]))
        sheet[top : top + flat.shape[0], left : left + flat.shape[1]] = flat
        blur = 0.035 * tall + 0.8
    else:
        down = int(np.clip(light[1] * tall, -pad, pad))
        across = int(np.clip(light[0] * tall, -pad, pad))
        sheet[pad + down : pad + down + quarter.shape[0], pad + across : pad + across + quarter.shape[1]] = (
            quarter
        )
        blur = 0.05 * tall + 1
    sheet = cv2.GaussianBlur(sheet, (0, 0), blur) * (strength / 255)
    full = cv2.resize(sheet, (sheet.shape[1] * 4, sheet.shape[0] * 4), interpolation=cv2.INTER_LINEAR)
    x, y = cutout.x - 4 * pad, cutout.y - 4 * pad
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + full.shape[0], frame.shape[0]), min(x + full.shape[1], frame.shape[1])
    if bottom > top and right > left:
        frame[top:bottom, left:right] *= (1 - full[top - y : bottom - y, left - x : right - x])[..., None]


def paint(frame: np.ndarray, cutout: Cutout, feather: float, defocus: float) -> None:
    """Lay a cut-out over a float32 [H, W, 3] frame, in place, with soft edges and motion blur."""
    patch = cutout.patch
    kernel = _motion_kernel(cutout.velocity)
    if kernel is not None:
        patch = cv2.filter2D(patch, -1, kernel)
    sigma = float(np.hypot(feather, defocus))
    if sigma > 0.2:
        patch = cv2.GaussianBlur(patch, (0, 0), sigma)
    window = _window(cutout, frame.shape[:2])
    if window:
        rows, columns, patch_rows, patch_columns = window
        part = patch[patch_rows, patch_columns].astype(np.float32)
        region = frame[rows, columns]
        region *= 1 - part[..., 3:] / 255
        region += part[..., :3]


@dataclass(frozen=True)
class Finish:
    """What the lens, the sensor and the codec do to every frame alike.

    Attributes:
        gamma: Exponent on the 0..1 picture.
        tint: Gains of R, G and B.
        noise: Standard deviation, grey levels.
        blur: Standard deviation, pixels.
        jpeg_quality: 1..100, or None for none.
        vignette: How much darker the corners are, 0..1.
    """

    gamma: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.0
    blur: float = 0.0
    jpeg_quality: int | None = None
    vignette: float = 0.0

    def __call__(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 [H, W, 3], 0..255 -> uint8 [H, W, 3]."""
        height, width = frame.shape[:2]
        if self.vignette:
            y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
            x = np.linspace(-1, 1, width, dtype=np.float32)[None] ** 2
            frame = frame * (1 - self.vignette * 0.5 * (x + y))[..., None]
        if self.blur > 0.2:
            frame = cv2.GaussianBlur(frame, (0, 0), self.blur)
        if self.noise:
            # A short strip of noise, laid down at random shifts: ten times faster than drawing every pixel.
            strip = rng.standard_normal((64, width, 3), np.float32) * self.noise
            shifts = rng.integers(0, 64, -(-height // 64))
            frame = frame + np.concatenate([np.roll(strip, shift, axis=0) for shift in shifts])[:height]
        levels = np.arange(256, dtype=np.float32) / 255
        curves = 255 * np.minimum(1, levels[:, None] ** self.gamma * np.array(self.tint, np.float32))
        table = np.clip(curves + 0.5, 0, 255).astype(np.uint8).reshape(1, 256, 3)
        finished = cv2.LUT(np.clip(frame, 0, 255).astype(np.uint8), table)
        if self.jpeg_quality:
            _, code = cv2.imencode(".jpg", finished, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
            finished = cv2.imdecode(code, cv2.IMREAD_COLOR)
        return finished
