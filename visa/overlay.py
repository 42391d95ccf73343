"""Masks drawn over frames, and an H.264 video of them that a browser plays."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

# Object colours, RGB: far apart from each other and from grass, sky, skin and asphalt. The first serves one
# object.
COLOURS = (
    (255, 45, 120),
    (0, 200, 255),
    (255, 190, 20),
    (140, 90, 255),
    (60, 220, 110),
    (255, 120, 40),
    (40, 120, 255),
    (200, 230, 60),
)
TINT = 0.42
# Frames are this thick-lined per pixel of their shorter side: about 2 px at 480p, 9 px at 4K.
LINE_PER_PIXEL = 1 / 240
# x264's macroblock tree reads memory it has not set where a frame is a few blocks wide, so that now and then
# the same frames give another file; without it they never do.
SAME_EVERY_TIME = {"x264-params": "mbtree=0"}
# Below this shorter side an outline would hide the object; the tint alone shows it.
MIN_OUTLINED_SIDE = 40


def colour_of(object_number: int) -> tuple[int, int, int]:
    """RGB [0, 255] of an object, by its number; the colours repeat."""
    return COLOURS[object_number % len(COLOURS)]


def draw_masks(frame: np.ndarray, object_masks: np.ndarray) -> np.ndarray:
    """Objects over a frame: tinted, outlined in their colour with a thin white edge around it.

    Args:
        frame: uint8 [H, W, 3] RGB; left as it is.
        object_masks: bool [N, H, W]; later objects lie on top.

    Returns:
        uint8 [H, W, 3] RGB. Pixels more than an outline away from every mask are unchanged.

    Raises:
        ValueError: the masks are not bool [N, H, W] of the frame's size.
    """
    if object_masks.dtype != bool or object_masks.shape[1:] != frame.shape[:2]:
        raise ValueError(
            f"expected bool masks [N, {frame.shape[0]}, {frame.shape[1]}], "
            f"got {object_masks.dtype} {list(object_masks.shape)}"
        )
    drawn = frame.copy()
    for number, mask in enumerate(object_masks):
        if mask.any():
            _draw_mask(drawn, mask, colour_of(number))
    return drawn


def _draw_mask(drawn: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw one mask in place, touching only its surroundings."""
    import cv2

    height, width = mask.shape
    thickness = (
        max(1.0, min(height, width) * LINE_PER_PIXEL) if min(height, width) >= MIN_OUTLINED_SIDE else 0.0
    )
    margin = int(np.ceil(3 * thickness)) + 2
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = (
        slice(max(0, rows[0] - margin), min(height, rows[-1] + 1 + margin)),
        slice(max(0, columns[0] - margin), min(width, columns[-1] + 1 + margin)),
    )
    # A border of one pixel outside the frame keeps an object that is cut by the frame's edge open there.
    inside = mask[window].astype(np.uint8)
    pixels = drawn[window].astype(np.float32)
    pixels += inside[..., None] * TINT * (np.array(colour, np.float32) - pixels)
    if thickness:
        padded = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        outwards = cv2.distanceTransform(1 - padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
        inwards = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
        distance = outwards - inwards + np.where(inside, 0.5, -0.5)  # signed, in pixels; below 0 is inside
        halo = np.clip(1.5 * thickness + 0.5 - distance, 0, 1) * np.clip(distance + 0.5, 0, 1)
        line = np.clip(thickness + 0.5 - np.abs(distance), 0, 1)
        for alpha, ink in ((0.85 * halo, (255, 255, 255)), (line, colour)):
            pixels += alpha[..., None] * (np.array(ink, np.float32) - pixels)
    drawn[window] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Write frames as an mp4 that browsers play: H.264, yuv420p, index at the front, colours tagged BT.709.

    Args:
        path: the file to write; it appears only when it is complete.
        frames: uint8 [H, W, 3] RGB, all of one size; odd sizes are padded to even by repeating the last line.
        fps: frames per second.

    Raises:
        ValueError: there is no frame, or the frames differ in size.
        OSError: the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.part")
    try:
        _encode(partial, frames, fps)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    shape = None
    stream = None
    with av.open(str(path.absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        for frame in frames:
            if stream is None:
                shape = frame.shape
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = (size + size % 2 for size in shape[:2])
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": "18", "preset": "veryfast", "profile": "high", **SAME_EVERY_TIME}
                context = stream.codec_context
                context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
                context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            if frame.shape != shape:
                raise ValueError(
                    f"expected frames of one shape, got {list(shape)} and then {list(frame.shape)}"
                )
            even = np.pad(frame, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            for packet in stream.encode(picture):
                container.mux(packet)
        if stream is None:
            raise ValueError("expected at least one frame to write, got none")
        for packet in stream.encode():
            container.mux(packet)
