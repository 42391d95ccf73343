"""Pictures of the worst expressions: the truth above, the prediction below, over the frames of the clip.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dataset.clip import Clip, Expression
from dataset.reader import Reader
from visa.contact_sheet import evenly_spaced
from visa.evaluation.predictions import Predictions
from visa.evaluation.scored import Scored
from visa.lettering import draw_text, font_for, wrap
from visa.overlay import draw_masks

COLUMNS = 4
PANEL_WIDTH = 400
GAP = 10
PAPER, INK, FAINT = (250, 249, 246), (28, 28, 34), (124, 122, 118)


def write_gallery(
    folder: Path, rows: Sequence[Scored], measure: str, reader: Reader, predictions: Predictions
) -> list[str]:
    """Writes one picture for each row, and `index.html` that shows them.

    Args:
        folder: Made if need be.
        rows: What to show, in order.
        measure: The score to write beside it.
        reader: The data set.
        predictions: All predictions; where one is missing only the truth is drawn.

    Returns:
        One line for each row that could not be drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faults, entries = [], []
    for number, row in enumerate(rows):
        clip = reader.video(row.video)
        expression = next(item for item in clip.expressions if item.id == row.expression_id)
        name = f"{number:03d}.png"
        try:
            picture = draw_comparison(clip, expression, row, measure, predictions)
        except (ValueError, OSError) as error:
            faults.append(f"{row.video}, expression {row.expression_id!r}: no picture: {error}")
            continue
        picture.save(folder / name)
        entries.append(f'<p><img src="{name}" alt="{escape(row.question)}" loading="lazy"></p>')
    page = "<!doctype html><meta charset='utf-8'><title>The worst</title>" + "\n".join(entries) + "\n"
    (folder / "index.html").write_text(page, encoding="utf-8", errors="replace")
    return faults


def draw_comparison(
    clip: Clip, expression: Expression, row: Scored, measure: str, predictions: Predictions
) -> Image.Image:
    """One expression as a picture, RGB: its words, then some frames with the true and the predicted mask.

    Raises:
        ValueError: A frame or a mask is broken.
    """
    shown = evenly_spaced(len(clip.frame_names), COLUMNS)
    true = clip.target(expression, shown)
    try:
        predicted = predictions.find(clip, expression).read(shown) != 0
    except ValueError:
        if row.fault is None:
            raise
        predicted = None
    height = max(1, round(PANEL_WIDTH * clip.height / clip.width))
    width = len(shown) * (PANEL_WIDTH + GAP) + GAP
    font, small = font_for(row.question, 24), font_for(row.video, 16)
    words = wrap(row.question, font, width - 2 * GAP, max_lines=3)
    top = GAP + 32 * len(words)
    sheet = Image.new("RGB", (width, top + 26 + 2 * (height + 22 + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(words):
        draw_text(draw, (GAP, GAP + 32 * number), line, font, INK)
    score = f"{measure} {100 * row.values[measure]:.1f}"
    draw_text(draw, (GAP, top), f"{score} · {row.kind} · {row.video} · {row.expression_id}", small, FAINT)
    top += 26
    for title, masks in (("truth", true), ("prediction", predicted)):
        missing = " (missing or broken)" if masks is None else ""
        draw_text(draw, (GAP, top), title + missing, small, FAINT)
        for place, index in enumerate(shown):
            drawn = np.zeros((0, clip.height, clip.width), bool) if masks is None else masks[place][None]
            frame = Image.fromarray(draw_masks(np.asarray(clip.frames[index]), drawn))
            at = (GAP + place * (PANEL_WIDTH + GAP), top + 22)
            sheet.paste(frame.resize((PANEL_WIDTH, height), Image.Resampling.LANCZOS), at)
        top += height + 22 + GAP
    return sheet
