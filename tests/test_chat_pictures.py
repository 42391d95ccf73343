"""Pictures in a terminal: which way is taken, and that what is sent is the picture."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from visa.terminal_pictures import CHUNK, MAX_SIDE, kind_for, render

MANY = 2**24


@pytest.mark.parametrize(
    ("environment", "colours", "kind"),
    [
        ({"TERM": "xterm-kitty"}, MANY, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, 256, "kitty"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230800"}, 256, "kitty"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "201200"}, 256, "blocks"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, MANY, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, 256, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, MANY, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, 256, "blocks"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, 256, "blocks"),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/tmux", "TERM_PROGRAM": "iTerm.app"}, 256, "blocks"),
        ({"TERM": "linux"}, 16, "none"),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, 16, "none"),
        ({"TERM": "xterm-kitty"}, 0, "none"),
        ({}, 0, "none"),
    ],
)
def test_each_terminal_gets_what_it_can(environment: dict[str, str], colours: int, kind: str) -> None:
    assert kind_for(environment, colours) == kind


def test_a_terminal_without_unicode_gets_no_blocks() -> None:
    assert kind_for({"TERM": "xterm-256color"}, 256, is_unicode=False) == "none"


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def decoded(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_kitty_gets_the_picture_in_small_messages() -> None:
    picture = noise(60, 90)
    messages = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sent := render(picture, "kitty", 80, 20))
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in messages) + "\n" == sent
    assert len(messages) > 2
    assert messages[0][0] == "a=T,f=100,q=2,c=60,m=1"
    assert [keys for keys, _ in messages[1:]] == ["m=1"] * (len(messages) - 2) + ["m=0"]
    assert max(len(data) for _, data in messages) == CHUNK
    assert np.array_equal(decoded("".join(data for _, data in messages)), picture)


def test_iterm_gets_the_picture() -> None:
    picture = noise(60, 90)
    match = re.fullmatch(
        r"\x1b\]1337;File=inline=1;width=30;preserveAspectRatio=1:(.*)\a\n", render(picture, "iterm", 30, 99)
    )
    assert np.array_equal(decoded(match[1]), picture)


def test_a_large_picture_is_sent_small() -> None:
    match = re.search(r":(.*)\a", render(np.zeros((1440, 2560, 3), np.uint8), "iterm", 80, 50))
    assert decoded(match[1]).shape == (720, MAX_SIDE, 3)


def test_half_blocks_are_the_pixels() -> None:
    picture = noise(8, 16)
    lines = render(picture, "blocks", 16, 4).splitlines()
    assert len(lines) == 4
    for row, line in enumerate(lines):
        cells = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", line)
        assert line.endswith("\x1b[0m")
        values = np.array(cells, int).reshape(16, 2, 3)
        assert np.array_equal(values.swapaxes(0, 1), picture[2 * row : 2 * row + 2])


def test_half_blocks_in_256_colours_take_the_nearest() -> None:
    picture = np.zeros((2, 1, 3), np.uint8)
    picture[0, 0], picture[1, 0] = (255, 0, 96), (130, 250, 40)
    assert "\x1b[38;5;197;48;5;118m▀" in render(picture, "blocks", 1, 1, true_colour=False)


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1280, 720), (1, 4000), (4000, 1), (1, 1)])
def test_it_fits(height: int, width: int) -> None:
    lines = render(np.zeros((height, width, 3), np.uint8), "blocks", 60, 20).splitlines()
    assert 1 <= lines[0].count("▀") <= 60
    assert len(lines) <= 20


def test_none_shows_nothing_and_nonsense_is_refused() -> None:
    assert render(noise(2, 2), "none", 10, 10) == ""
    with pytest.raises(ValueError, match="kitty, iterm, blocks, none, not 'sixel'"):
        render(noise(2, 2), "sixel", 10, 10)
