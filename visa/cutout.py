"""The object alone, all around it transparent: a picture, and a video that browsers lay over a page.

`cutout.png` is the target frame and `cutout.webm` the clip: VP9 with an alpha channel, as Chrome, Firefox and
the usual editors read it. Pixels outside the masks are black as well as transparent.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from visa.tracklet import Tracklet

PICTURE_NAME = "cutout.png"
VIDEO_NAME = "cutout.webm"


def cut_out(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A frame with nothing but the object.

    Args:
        frame: uint8 [H, W, 3] RGB.
        mask: bool [H, W].

    Returns:
        uint8 [H, W, 4] RGBA; alpha is 0 or 255, and where it is 0 the colour is black.

    Raises:
        ValueError: the mask is not bool, or of another size.
    """
    if mask.dtype != bool or mask.shape != frame.shape[:2]:
        raise ValueError(f"expected a bool mask {list(frame.shape[:2])}, got {mask.dtype} {list(mask.shape)}")
    alpha = mask.astype(np.uint8)[..., None]
    return np.concatenate([frame * alpha, alpha * 255], axis=-1)


def write_cutout(folder: Path, tracklet: Tracklet) -> None:
    """Write both files of a result; nothing where the object was not found.

    Args:
        folder: where to; it must be there.
        tracklet: the result.

    Raises:
        OSError: a file cannot be written.
        InputError: a frame of the video cannot be read any more.
    """
    from PIL import Image

    if not tracklet.found:
        return
    shown = tracklet.target_frame or 0
    Image.fromarray(cut_out(tracklet.video[shown], tracklet.mask(shown))).save(folder / PICTURE_NAME)
    partial = folder / f".{VIDEO_NAME}.part"
    try:
        _encode(partial, tracklet)
        partial.replace(folder / VIDEO_NAME)
    finally:
        partial.unlink(missing_ok=True)


def _encode(path: Path, tracklet: Tracklet) -> None:
    import av

    video = tracklet.video
    with av.open(str(path.absolute()), "w", format="webm") as container:
        stream = container.add_stream("libvpx-vp9", rate=Fraction(video.fps).limit_denominator(1001))
        # Half the colours' rows and columns are kept, so both sizes are even.
        stream.height, stream.width = video.height + video.height % 2, video.width + video.width % 2
        stream.pix_fmt = "yuva420p"
        stream.options = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"}
        for index, mask in enumerate(tracklet.union):
            pixels = np.pad(
                cut_out(video[index], mask),
                ((0, video.height % 2), (0, video.width % 2), (0, 0)),
                mode="edge",
            )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgba")
            for packet in stream.encode(picture.reformat(format="yuva420p")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
