"""Letters in pictures: a font that has the text's characters, and lines that fit."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageDraw, ImageFont

# Looked for on the system where Pillow's own font (Latin letters) lacks a character; the first with all wins.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "msyh.ttc",
)
ELLIPSIS = "..."


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """The font that shows the most of a text's characters, Pillow's own first.

    Args:
        text: what will be written.
        size: height of the letters in pixels.
    """
    wanted = frozenset(character for character in text if not character.isspace())
    best, least_missing = _load(None, size), len(wanted) + 1
    for name in (None, *SYSTEM_FONTS):
        font = _load(name, size)
        if font is None:
            continue
        missing = sum(not _has(name, character) for character in wanted)
        if missing < least_missing:
            best, least_missing = font, missing
        if not missing:
            break
    return best


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float, max_lines: int) -> list[str]:
    """Text as lines no wider than `width` pixels. Too wide words are cut; too many lines end in "...".

    Returns:
        At least one and at most `max_lines` lines.
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while font.getlength(line) > width and len(line) > 1 and len(lines) <= max_lines:
            fitting = _fitting_length(line, font, width)
            lines.append(line[:fitting])
            line = line[fitting:]
        if len(lines) > max_lines:
            break
    lines.append(line)
    if len(lines) <= max_lines:
        return lines
    last = lines[max_lines - 1]
    while last and font.getlength(last + ELLIPSIS) > width:
        last = last[:-1]
    return [*lines[: max_lines - 1], last.rstrip() + ELLIPSIS]


def draw_text(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    colour: tuple[int, int, int],
    *,
    bold: bool = False,
) -> None:
    """Write one line whose upper left corner (x, y) is given; bold is drawn with a fine stroke."""
    draw.text(corner, text, font=font, fill=colour, stroke_width=0.6 if bold else 0, stroke_fill=colour)


def _fitting_length(word: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many leading characters of a word fit; at least one."""
    length = 1
    while length < len(word) and font.getlength(word[: length + 1]) <= width:
        length += 1
    return length


@lru_cache(maxsize=64)
def _load(name: str | None, size: int) -> ImageFont.FreeTypeFont | None:
    if name is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(name: str | None, character: str) -> bool:
    """Whether a font draws a character as something else than its sign for missing characters."""
    font = _load(name, 16)
    missing, drawn = (font.getmask(each) for each in ("\U0010fffd", character))
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
