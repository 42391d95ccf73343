"""Naming a picture's colour from its pixels, with the eleven basic English colour words.

A word is given only if it clearly dominates, so that "the red one" is never a matter of taste.
"""

import cv2
import numpy as np

from dataset.synthetic.scene import COLOURS

# Upper limits of hue (OpenCV's 0..180) and the word for vivid pixels; "" where people do not agree on one.
_HUE_LIMITS = (
    (8, "red"), (10, ""), (19, "orange"), (35, "yellow"), (38, ""), (84, "green"), (94, ""), (125, "blue"),
    (128, ""), (148, "purple"), (152, ""), (165, "pink"), (168, ""), (181, "red"),
)  # fmt: skip
_WORDS = (*COLOURS, "")


def _name_pixels(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Indices into `_WORDS`, from OpenCV's HSV channels (hue 0..180, the others 0..255)."""
    names = np.zeros(hue.shape, np.int64)
    lower = 0
    for upper, word in _HUE_LIMITS:
        names[(hue >= lower) & (hue < upper)] = _WORDS.index(word)
        lower = upper
    warm = (hue < 22) | (hue >= 173)
    reddish = (hue < 9) | (hue >= 150)
    for where, word in (
        (reddish & (saturation < 140) & (value > 185), "pink"),
        (warm & (saturation < 150), ""),
        (warm & (hue >= 8) & (value < 200), ""),
        (warm & (saturation < 100) & reddish & (value > 200), "pink"),
        (warm & (value < 165) & (saturation > 60), "brown"),
        (reddish & (hue < 5) & (saturation > 150) & (value > 105), "red"),
        ((hue >= 175) & (saturation > 150) & (value > 105), "red"),
        (saturation < 55, ""),
        ((saturation < 30) & (value >= 205), "white"),
        ((saturation < 40) & (value < 185), "grey"),
        (value < 70, ""),
        ((value < 55) | ((saturation < 90) & (value < 62)), "black"),
    ):
        names[where] = _WORDS.index(word)
    return names


def name_colour(rgba: np.ndarray, share: float = 0.5, lead: float = 1.8) -> str | None:
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
    counts = np.bincount(_name_pixels(*hsv.T), minlength=len(_WORDS)).astype(float)
    # Pixels without a word count against every word, but cannot win.
    order = np.argsort(-counts[:-1])
    if counts[order[0]] < share * len(hsv) or counts[order[0]] < lead * counts[order[1]]:
        return None
    return COLOURS[order[0]]
