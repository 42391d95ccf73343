"""Where a model looks before and after steering, as one picture.

    python -m visa.steerseg.picture CLIP "the red car" OUT.jpg [--model NAME] [--soft-prompts DIR]

Shapes: F frames, H W pixels, h w cells.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from visa.errors import InputError
from visa.lettering import draw_text, font_for, wrap
from visa.video import Video
from visa.viewing import Viewing

if TYPE_CHECKING:
    from visa.segmenter import Segmenter

WIDTH, MARGIN, GAP = 1280, 32, 12
TITLE, LABEL = 30, 20  # height of letters, pixels
PAPER, INK, FAINT = (250, 249, 246), (28, 28, 34), (124, 122, 118)
# From cold to hot, evenly spaced on [0, 1]; a cold place shows the frame, darkened.
HEAT = np.array([(24, 20, 60), (96, 24, 120), (214, 66, 74), (252, 158, 32), (255, 244, 150)], np.float32)
COLD_OPACITY, HOT_OPACITY = 0.35, 0.75


def draw_attention(frame: np.ndarray, attention: Tensor) -> np.ndarray:
    """A frame under its attention.

    Args:
        frame: uint8 [H, W, 3]. attention: float [h, w] in [0, 1], over the whole frame.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = frame.shape[:2]
    cells = Image.fromarray(attention.cpu().numpy().astype(np.float32))
    heat = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)
    place = heat * (len(HEAT) - 1)
    lower = np.minimum(place.astype(int), len(HEAT) - 2)
    share = (place - lower)[..., None]
    colours = HEAT[lower] * (1 - share) + HEAT[lower + 1] * share
    opacity = (COLD_OPACITY + (HOT_OPACITY - COLD_OPACITY) * heat)[..., None]
    return (frame * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def draw_rows(question: str, frames: np.ndarray, rows: Mapping[str, Tensor]) -> Image.Image:
    """A picture with the question on top and, under each other, the frames under the attention of each row.

    Args:
        frames: uint8 [F, H, W, 3]. rows: by its label, float [F, h, w] in [0, 1].

    Returns:
        RGB, 1280 pixels wide.
    """
    inner = WIDTH - 2 * MARGIN
    width = (inner - GAP * (len(frames) - 1)) // len(frames)
    height = max(1, round(width * frames.shape[1] / frames.shape[2]))
    small = [np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.LANCZOS)) for f in frames]
    title_font = font_for(question, TITLE)
    lines = wrap(question, title_font, inner, max_lines=2)
    top = MARGIN + len(lines) * (TITLE + 10) + GAP
    row_height = LABEL + 10 + height + 2 * GAP
    picture = Image.new("RGB", (WIDTH, top + row_height * len(rows) + MARGIN - 2 * GAP), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw_text(draw, (MARGIN, MARGIN + number * (TITLE + 10)), line, title_font, INK, bold=True)
    for label, maps in rows.items():
        draw_text(draw, (MARGIN, top), label, font_for(label, LABEL), FAINT)
        for number, (frame, attention) in enumerate(zip(small, maps, strict=True)):
            corner = (MARGIN + number * (width + GAP), top + LABEL + 10)
            picture.paste(Image.fromarray(draw_attention(frame, attention)), corner)
        top += row_height
    return picture


def compare_steering(segmenter: Segmenter, video: Video, question: str, num_frames: int = 4) -> Image.Image:
    """Attention without and with a system's soft prompts, on some of its keyframes.

    Raises:
        InputError: the system has no soft prompts to compare with.
    """
    steered = segmenter.reasoner
    if not getattr(steered, "looking", None) or not steered.looking.soft_prompts:
        raise InputError("there is nothing to compare: this system has no soft prompts")
    plain = replace(steered, looking=replace(steered.looking, soft_prompts={}))
    choice = segmenter.sampler.choose(len(video), question, None)
    viewing = Viewing(video, steered.tower, steered.sam, None, steered.limits)
    rows = {}
    for label, reasoner in (("before steering", plain), ("after steering", steered)):
        looked = reasoner.look(viewing, choice, question)
        rows[label] = looked.joint
    keyframes = looked.keyframes
    shown = np.linspace(0, len(keyframes) - 1, min(num_frames, len(keyframes))).round().astype(int).tolist()
    frames = video.frames([keyframes[k] for k in shown])
    return draw_rows(question, frames, {label: joint[shown] for label, joint in rows.items()})


def main(arguments: list[str] | None = None) -> int:
    """Draws and writes the picture; 2 if clip, model or prompts cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path, metavar="CLIP")
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("output", type=Path, metavar="OUT", help="a .jpg or .png file")
    parser.add_argument("--model", default="steerseg-embedded", help="what visa.load takes")
    parser.add_argument("--soft-prompts", metavar="DIR", help="in place of the model's own")
    options = parser.parse_args(arguments)
    try:
        video = Video.open(options.clip)
        given = {"soft_prompts": options.soft_prompts} if options.soft_prompts else {}
        import visa

        compare_steering(visa.load(options.model, **given), video, options.question).save(options.output)
    except (InputError, OSError) as error:
        print(f"picture.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
