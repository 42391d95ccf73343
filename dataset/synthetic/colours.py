"""Naming a picture's colour from its pixels, with the eleven basic English colour words.

A word is given only if it clearly dominates, so that "the red one" is never a matter of taste.
"""

import cv2
import numpy as np

from dataset.synthetic.scene import COLOURS

_HUE_LIMITS = ((8, "red"), (22, "orange"), (34, "yellow"), (85, "green"), (128, "blue"), (150, "purple"),
               (170, "pink"), (181, "red"))  # fmt: skip


def _name_pixels(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Indices into `COLOURS`, from OpenCV's HSV channels (hue 0..180, the others 0..255)."""
    names = np.zeros(hue.shape, np.int64)
    lower = 0
    for upper, word in _HUE_LIMITS:
        names[(hue >= lower) & (hue < upper)] = COLOURS.index(word)
        lower = upper
    reddish = (hue < 8) | (hue >= 165)
    names[reddish & (saturation < 140) & (value > 170)] = COLOURS.index("pink")
    warm = (hue < 26) | (hue >= 175)
    names[warm & (value < 150) & (saturation > 60)] = COLOURS.index("brown")
    names[(hue >= 8) & (hue < 26) & (saturation < 130) & (saturation > 50) & (value < 205)] = COLOURS.index(
        "brown"
    )
    names[(hue < 8) & (saturation > 150) & (value > 110)] = COLOURS.index("red")
    names[(saturation < 38) & (value >= 190)] = COLOURS.index("white")
    names[(saturation < 48) & (value < 190)] = COLOURS.index("grey")
    names[(value < 62) | ((saturation < 90) & (value < 78))] = COLOURS.index("black")
    return names


def name_colour(rgba: np.ndarray, share: float = 0.55, lead: float = 2.0) -> str | None:
    """The one colour word that fits a cut-out, or None.

    Args:
        rgba: uint8 [H, W, 4], 0..255, not premultiplied.
        share: The word's least share of the opaque pixels.
        lead: How many times more pixels it must have than the next word.
    """
    small = rgba[:: max(1, rgba.shape[0] // 64), :: max(1, rgba.shape[1] // 64)]
    opaque = small[..., 3] > 200
    if opaque.sum() < 16:
        return None
    hsv = cv2.cvtColor(small[..., :3], cv2.COLOR_RGB2HSV).astype(np.int32)[opaque]
    counts = np.bincount(_name_pixels(*hsv.T), minlength=len(COLOURS)).astype(float)
    order = np.argsort(-counts)
    if counts[order[0]] < share * len(hsv) or counts[order[0]] < lead * counts[order[1]]:
        return None
    return COLOURS[order[0]]
