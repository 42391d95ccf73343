"""A number with its noun, for the lines that people read: "1 video", "2 videos"."""

from __future__ import annotations


def count_of(number: int, noun: str, plural: str = "") -> str:
    """The number and the noun in its right form.

    Args:
        number: How many, 0 or more.
        noun: For one of them.
        plural: For any other number of them; by default the noun with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
