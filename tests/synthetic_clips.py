"""Clips for tests: every frame shows its own number, so a wrong frame cannot pass for the right one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

NUM_BITS = 8


def numbered_frame(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Frame uint8 [H, W, 3] whose vertical stripes spell the number's bits in black and white."""
    frame = np.full((height, width, 3), 20, np.uint8)
    stripe = width // NUM_BITS
    for bit in range(NUM_BITS):
        if number >> bit & 1:
            frame[:, bit * stripe : (bit + 1) * stripe] = 235
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number a frame shows."""
    stripe = frame.shape[1] // NUM_BITS
    return sum(
        int(frame[:, bit * stripe : (bit + 1) * stripe].mean() > 128) << bit for bit in range(NUM_BITS)
    )


def write_clip(
    path: Path,
    num_frames: int,
    *,
    height: int = 64,
    width: int = 96,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    group: int = 12,
    fps: int = 25,
    options: dict[str, str] | None = None,
    movflags: str | None = None,
) -> Path:
    """Write numbered frames as a video file."""
    container_options = {} if movflags is None else {"movflags": movflags}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        stream.options = options or {}
        stream.codec_context.gop_size = group
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, height, width), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
