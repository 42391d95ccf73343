"""Drawn supports of compound things: a branch, a table, a box, a pedestal, a cart.

They have no sprite, so both splits may use them.
"""

import cv2
import numpy as np


def draw_support(rng: np.random.Generator, kind: str, width: int) -> np.ndarray:
    """A branch, table, box, pedestal or cart: uint8 [H, W, 4], RGBA, `width` pixels wide."""
    height = {"branch": 0.22, "table": 0.6, "box": 0.55, "pedestal": 0.8, "cart": 0.62}[kind] * width
    height = int(height)
    mask = np.zeros((height, width), np.uint8)
    tone = np.array(
        [[120, 85, 55], [150, 110, 70], [90, 70, 55], [170, 165, 155], [110, 60, 45]][rng.integers(5)], float
    )
    if kind == "branch":
        rows = np.linspace(0.35, 0.55, 9) + rng.normal(0, 0.06, 9)
        points = np.stack([np.linspace(0, width, 9), rows * height], axis=1).astype(np.int32)
        cv2.polylines(mask, [points.reshape(-1, 1, 2)], False, 255, max(4, int(height * 0.22)), cv2.LINE_AA)
        for _ in range(rng.integers(2, 5)):
            start = points[rng.integers(1, 8)]
            end = start + np.array((rng.integers(-30, 30), rng.choice([-1, 1]) * height // 2))
            cv2.line(
                mask, tuple(map(int, start)), tuple(map(int, end)), 255, max(2, height // 12), cv2.LINE_AA
            )
    elif kind in ("table", "pedestal"):
        top = max(6, height // 6)
        cv2.rectangle(mask, (0, 0), (width - 1, top), 255, -1)
        inset, leg = (width // 12, width // 10) if kind == "table" else (width // 3, width // 3)
        cv2.rectangle(mask, (inset, top), (inset + leg, height - 1), 255, -1)
        cv2.rectangle(mask, (width - 1 - inset - leg, top), (width - 1 - inset, height - 1), 255, -1)
    elif kind == "box":
        cv2.rectangle(mask, (0, 0), (width - 1, height - 1), 255, -1)
    else:
        cv2.rectangle(mask, (0, height // 8), (width - 1, int(height * 0.6)), 255, -1)
        for share in (0.22, 0.78):
            cv2.circle(
                mask, (int(width * share), int(height * 0.7)), int(height * 0.28), 255, -1, cv2.LINE_AA
            )
    grain = (
        cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), sigmaX=12, sigmaY=1)
        * 60
    )
    picture = tone + grain[..., None] + np.linspace(22, -22, height)[:, None, None]
    if kind == "cart":
        for share in (0.22, 0.78):
            centre = (int(width * share), int(height * 0.7))
            radius = int(height * 0.28)
            cv2.circle(picture, centre, radius, (35, 32, 30), max(3, radius // 4), cv2.LINE_AA)
            for angle in np.arange(0, np.pi, np.pi / 4):
                spoke = (int(radius * np.cos(angle)), int(radius * np.sin(angle)))
                start, end = (
                    tuple(int(c + sign * s) for c, s in zip(centre, spoke, strict=True)) for sign in (-1, 1)
                )
                cv2.line(picture, start, end, (60, 50, 40), 3, cv2.LINE_AA)
    return np.dstack([np.clip(picture, 0, 255).astype(np.uint8), mask])
