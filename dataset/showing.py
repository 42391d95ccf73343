"""A contact sheet of samples: what is asked, and a few frames with what is meant tinted.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression
from dataset.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

COLUMNS = 4
CELL_WIDTH = 300
MAX_CELL_HEIGHT = 240
GAP = 8
TEXT_HEIGHT = 46
PAPER = (250, 249, 246)
INK = (28, 28, 34)
FAINT = (110, 108, 104)
MASK = (255, 45, 120)
TINT = 0.5
# Pillow's own font has Latin letters only; these are looked for on the system if a text has others.
FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "msyh.ttc")


def draw_sheet(clips: Sequence[Clip], count: int = 8, seed: int = 0) -> tuple[Picture, list[DatasetError]]:
    """Draws samples below each other: a line of words, then up to four frames.

    Args:
        clips: One or more. Of several, different ones are drawn as long as there are any; of one, its
            expressions in order.
        count: How many samples at most.
        seed: Decides which.

    Returns:
        The picture, RGB, and what could not be read. A sample that cannot be read is drawn as its message.

    Raises:
        ValueError: `clips` is empty, or `count` is not positive.
    """
    from PIL import Image

    if not len(clips) or count < 1:
        raise ValueError(f"expected one clip or more and a positive count, got {len(clips)} and {count}")
    faults: list[DatasetError] = []
    rows = []
    for clip, expression, fault in choose(clips, count, np.random.default_rng(seed)):
        pictures = []
        if fault is None:
            try:
                pictures = _pictures(clip, expression)
            except DatasetError as error:
                fault = error
        faults += [] if fault is None else [fault]
        rows.append(_row(clip, expression, pictures, "" if fault is None else str(fault)))
    width = COLUMNS * (CELL_WIDTH + GAP) + GAP
    sheet = Image.new("RGB", (width, sum(row.height for row in rows) + GAP), PAPER)
    top = GAP
    for row in rows:
        sheet.paste(row, (GAP, top))
        top += row.height
    return sheet, faults


def choose(
    clips: Sequence[Clip], count: int, rng: np.random.Generator
) -> Iterator[tuple[Clip, Expression | None, DatasetError | None]]:
    """Up to `count` clips with one of their expressions each.

    One clip gives its expressions in order; several give each its turn, in random order.

    Yields:
        The clip, its expression (None where there is none), and why its expressions cannot be read, if so.
    """
    order = rng.permutation(len(clips))[:count].tolist()
    for clip, draw in zip((clips[index] for index in order), rng.random(len(order)), strict=True):
        try:
            choices = clip.expressions or (None,)
        except DatasetError as error:  # some data sets read them from pictures
            yield clip, None, error
            continue
        chosen = choices[:count] if len(clips) == 1 else (choices[int(draw * len(choices))],)
        for expression in chosen:
            yield clip, expression, None


def frames_to_show(target: NDArray[np.bool_]) -> list[int]:
    """Up to four frame indices, evenly spaced over those in which the target is seen, or over all.

    Args:
        target: bool [T], whether it is seen.
    """
    seen = np.flatnonzero(target) if target.any() else np.arange(len(target))
    return seen[np.unique(np.linspace(0, len(seen) - 1, COLUMNS).round().astype(int))].tolist()


def _pictures(clip: Clip, expression: Expression | None) -> list[tuple[str, Picture]]:
    if not clip.frame_names:
        raise DatasetError(f"video {clip.name!r} has no frames", "no frames")
    meant = expression is not None and expression.annotation_ids
    masks = clip.target(expression) if meant else None
    indices = frames_to_show(
        np.zeros(len(clip.frame_names), bool) if masks is None else masks.any(axis=(1, 2))
    )
    return [
        (clip.frame_names[index], _picture(clip.frames[index], None if masks is None else masks[index]))
        for index in indices
    ]


def _picture(frame: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> Picture:
    from PIL import Image

    if mask is not None:
        frame = frame.copy()
        frame[mask] = (frame[mask] * (1 - TINT) + np.array(MASK) * TINT).astype(np.uint8)
    scale = min(CELL_WIDTH / frame.shape[1], MAX_CELL_HEIGHT / frame.shape[0])
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    return Image.fromarray(frame).resize(size)


def _row(
    clip: Clip, expression: Expression | None, pictures: list[tuple[str, Picture]], trouble: str
) -> Picture:
    from PIL import Image, ImageDraw

    height = TEXT_HEIGHT + max((picture.height for _, picture in pictures), default=0) + 2 * GAP
    row = Image.new("RGB", (COLUMNS * (CELL_WIDTH + GAP), height), PAPER)
    draw = ImageDraw.Draw(row)
    title, facts = "(no expression)", [clip.name]
    if expression is not None:
        title = expression.text
        facts += [f"expression {expression.id}", expression.kind]
        facts += [expression.aspect] if expression.aspect else []
        if expression.kind in ("referring", "reasoning") and not expression.annotation_ids:
            facts.append("masks not public")
    facts += [f"frames {', '.join(name for name, _ in pictures)}"] if pictures else []
    _write(draw, (0, 0), title, 19, INK)
    _write(draw, (0, 25), trouble or " · ".join(facts), 13, MASK if trouble else FAINT)
    for column, (_, picture) in enumerate(pictures):
        row.paste(picture, (column * (CELL_WIDTH + GAP), TEXT_HEIGHT))
    return row


def _write(draw, place: tuple[int, int], text: str, size: int, colour: tuple[int, int, int]) -> None:
    """A line of text that ends in "..." where the sheet ends."""
    text = " ".join(text.split())
    font = _font(text, size)
    room = COLUMNS * (CELL_WIDTH + GAP) - GAP - place[0]
    if font.getlength(text) > room:
        while text and font.getlength(f"{text}...") > room:
            text = text[: -max(1, len(text) // 20)]
        text = f"{text}..."
    draw.text(place, text, colour, font)


def _font(text: str, size: int):
    from PIL import ImageFont

    if not text.isascii() and any(ord(letter) > 0x24F for letter in text):
        for name in FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)
