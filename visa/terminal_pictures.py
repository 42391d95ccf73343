"""A picture in a terminal: in pixels where the terminal takes them, else in coloured half blocks.

Pixels go by the protocols of kitty (also Ghostty, Konsole) and of iTerm2 (also WezTerm, mintty); which one a
terminal takes is told by the variables it sets, for asking it would race with what the person types.
Multiplexers (tmux, screen) swallow both. A half block "▀" shows two pixels, in any terminal with 256 colours.
Protocols: sw.kovidgoyal.net/kitty/graphics-protocol and iterm2.com/documentation-images.html.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np

KINDS = ("kitty", "iterm", "blocks", "none")
# Of base64, in one kitty message.
CHUNK = 4096
# Konsole 22.04 was the first to take kitty's protocol.
FIRST_KONSOLE = 220400
# A terminal's cell is about twice as high as wide.
CELL_ASPECT = 2.0
MAX_COLUMNS = 100
# Pixels of the longer side that are sent: more would only be shrunk there.
MAX_SIDE = 1280


def kind_for(environment: Mapping[str, str], colours: int, is_unicode: bool = True) -> str:
    """How a terminal shows pictures: "kitty", "iterm", "blocks" or "none".

    Args:
        environment: the process's variables.
        colours: how many the terminal has; 0 where the output is no terminal.
        is_unicode: whether the output's encoding has "▀".
    """
    if colours == 0 or environment.get("TERM") == "dumb":
        return "none"
    program = environment.get("TERM_PROGRAM", "").lower()
    if not ("TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux"))):
        konsole = environment.get("KONSOLE_VERSION", "")
        has_konsole = konsole.isdecimal() and int(konsole) >= FIRST_KONSOLE
        is_kitty = "KITTY_WINDOW_ID" in environment or "kitty" in environment.get("TERM", "")
        if is_kitty or has_konsole or program == "ghostty":
            return "kitty"
        if program in ("iterm.app", "wezterm", "mintty"):
            return "iterm"
    return "blocks" if colours >= 256 and is_unicode else "none"


def render(picture: np.ndarray, kind: str, columns: int, rows: int, *, true_colour: bool = True) -> str:
    """The characters that show a picture, ending in a line's end; "" for "none".

    Args:
        picture: uint8 [H, W, 3] RGB.
        kind: as `kind_for` says.
        columns: cells it may take in width; at most `MAX_COLUMNS` are used.
        rows: cells it may take in height.
        true_colour: half blocks in 24-bit colours, else in the 256 of xterm.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if kind == "none":
        return ""
    height, width = picture.shape[:2]
    columns = max(1, min(columns, MAX_COLUMNS, round(rows * CELL_ASPECT * width / height)))
    if kind == "blocks":
        return _blocks(picture, columns, rows, true_colour)
    data = base64.b64encode(_png(picture))
    if kind == "iterm":
        size = f"width={columns};preserveAspectRatio=1"
        return f"\x1b]1337;File=inline=1;{size}:{data.decode()}\a\n"
    chunks = [data[start : start + CHUNK].decode() for start in range(0, len(data), CHUNK)]
    messages = []
    for place, chunk in enumerate(chunks):
        # a=T: send and show, f=100: PNG, q=2: the terminal answers nothing, m=1: more follows.
        opening = f"a=T,f=100,q=2,c={columns}," if place == 0 else ""
        messages.append(f"\x1b_G{opening}m={int(place < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(messages) + "\n"


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _blocks(picture: np.ndarray, columns: int, rows: int, true_colour: bool) -> str:
    """Upper half blocks: the foreground is the upper pixel's colour, the background the lower one's."""
    from PIL import Image

    height, width = picture.shape[:2]
    rows = max(1, min(rows, round(height / width * columns / CELL_ASPECT)))
    pixels = np.asarray(Image.fromarray(picture).resize((columns, 2 * rows), Image.Resampling.BOX))
    colour = _true_colour if true_colour else _xterm_colour
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = (f"\x1b[38;{colour(a)};48;{colour(b)}m▀" for a, b in zip(upper, lower, strict=True))
        lines.append("".join(cells) + "\x1b[0m\n")
    return "".join(lines)


def _true_colour(pixel: np.ndarray) -> str:
    return "2;{};{};{}".format(*pixel)


def _xterm_colour(pixel: np.ndarray) -> str:
    """The nearest of xterm's 6 x 6 x 6 colours, whose levels are 0, 95, 135, 175, 215 and 255."""
    red, green, blue = (
        int(np.abs(np.array([0, 95, 135, 175, 215, 255]) - int(level)).argmin()) for level in pixel
    )
    return f"5;{16 + 36 * red + 6 * green + blue}"
