"""One picture that tells a whole result: question, answer, target frame, masks over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from dataset.counting import count_of
from visa.answer_words import plain_words
from visa.lettering import draw_text, font_for, wrap
from visa.overlay import colour_of, draw_masks

if TYPE_CHECKING:
    from visa.tracklet import Tracklet

WIDTH = 1280
MARGIN = 40
CONTENT = WIDTH - 2 * MARGIN
GAP = 16
COLUMNS = 4
MAX_FRAMES = 8
MAX_TARGET_HEIGHT = 675
MIN_PANEL_HEIGHT = 96
TIMELINE_HEIGHT = 44
# A frame enlarged more than this is shown with its pixels as they are.
MAX_SMOOTH_ENLARGEMENT = 4

PAPER = (250, 249, 246)
PANEL = (233, 231, 226)
INK = (28, 28, 34)
FAINT = (124, 122, 118)
WHITE = (255, 255, 255)
FOUND = (24, 128, 84)
NOT_FOUND = (176, 88, 16)


def draw_contact_sheet(tracklet: Tracklet) -> Image.Image:
    """Draw a result as one RGB picture, 1280 pixels wide and as high as its content.

    From top to bottom: the question and the answer; the target frame, large, with the masks; the size of the
    mask over time; up to eight frames, evenly spaced. Where nothing was found it says so and shows the frames
    bare.

    Raises:
        InputError: a frame of the video cannot be read any more.
    """
    # The height depends on the wrapped words and the frames' shape, so the parts are drawn first and stacked
    # then.
    parts = [_words(tracklet), _target(tracklet)]
    if tracklet.video.num_frames > 1:
        parts += [_timeline(tracklet), _frames_over_time(tracklet)]
    spacing = 24
    sheet = Image.new(
        "RGB", (WIDTH, 2 * MARGIN + sum(part.height + spacing for part in parts) - spacing), PAPER
    )
    top = MARGIN
    for part in parts:
        sheet.paste(part, (MARGIN, top))
        top += part.height + spacing
    return sheet


def evenly_spaced(num_frames: int, count: int = MAX_FRAMES) -> list[int]:
    """Up to `count` different frame indices, the first and the last among them."""
    return np.unique(np.linspace(0, num_frames - 1, min(count, num_frames)).round().astype(int)).tolist()


def _words(tracklet: Tracklet) -> Image.Image:
    """Question and answer, with the verdict at the right."""
    small = font_for("QUESTION ANSWER", 16)
    answer = plain_words(tracklet.answer)
    question_font, answer_font = font_for(tracklet.question, 36), font_for(answer, 25)
    verdict = f"found · score {tracklet.score:.2f}" if tracklet.found else "not found"
    verdict_width = _pill_size(verdict, 20)[0]
    question_lines = wrap(tracklet.question, question_font, CONTENT - verdict_width - 32, max_lines=4)
    answer_lines = wrap(answer, answer_font, CONTENT, max_lines=5)
    question_top, answer_label_top = 26, 26 + 46 * len(question_lines) + 14
    answer_top = answer_label_top + 26
    part = Image.new("RGB", (CONTENT, answer_top + 34 * len(answer_lines)), PAPER)
    draw = ImageDraw.Draw(part)
    draw_text(draw, (0, 0), "QUESTION", small, FAINT)
    for number, line in enumerate(question_lines):
        draw_text(draw, (0, question_top + 46 * number), line, question_font, INK, bold=True)
    draw_text(draw, (0, answer_label_top), "ANSWER", small, FAINT)
    for number, line in enumerate(answer_lines):
        draw_text(draw, (0, answer_top + 34 * number), line, answer_font, INK)
    colour = FOUND if tracklet.found else NOT_FOUND
    _pill(part, (CONTENT - verdict_width, 6), verdict, 20, colour)
    return part


def _target(tracklet: Tracklet) -> Image.Image:
    """The target frame as large as it goes; the middle frame, bare, if there is no target."""
    num_frames = tracklet.video.num_frames
    index = num_frames // 2 if tracklet.target_frame is None else tracklet.target_frame
    part, corner, masks = _panel(tracklet, index, (CONTENT, MAX_TARGET_HEIGHT))
    kind = "frame" if tracklet.target_frame is None else "target frame"
    _pill(part, (14, 14), f"{kind} {tracklet.frame_names[index]}", 20, INK)
    if not tracklet.found:
        note = "not found in this video"
        width, height = _pill_size(note, 26)
        _pill(part, ((part.width - width) // 2, part.height - height - 20), note, 26, NOT_FOUND)
    elif len(masks) > 1:
        for number, mask in enumerate(masks):
            if mask.any():
                x, y = _innermost(mask)
                width, height = _pill_size(str(number + 1), 20)
                at = (corner[0] + x - width // 2, corner[1] + y - height // 2)
                _pill(part, at, str(number + 1), 20, colour_of(number))
    return part


def _timeline(tracklet: Tracklet) -> Image.Image:
    """How much of each frame the masks cover; the target frame and the frames shown are marked."""
    label_height = 26
    part = Image.new("RGB", (CONTENT, label_height + TIMELINE_HEIGHT + 12), PAPER)
    draw = ImageDraw.Draw(part)
    areas = tracklet.areas()
    num_frames, largest = len(areas), areas.max()
    font = font_for("0", 16)
    seen = int((areas > 0).sum())
    draw_text(draw, (0, 0), f"MASK OVER TIME  ·  in {seen} of {count_of(num_frames, 'frame')}", font, FAINT)
    if largest > 0:
        note = (
            f"largest: {largest:.1%} of the frame" if largest >= 0.001 else "largest: under 0.1% of the frame"
        )
        draw_text(draw, (CONTENT - font.getlength(note), 0), note, font, FAINT)
    bottom = label_height + TIMELINE_HEIGHT
    draw.rectangle((0, label_height, CONTENT - 1, bottom), fill=PANEL)
    columns = np.arange(CONTENT) * num_frames // CONTENT
    for x, area in enumerate(areas[columns]):
        if area > 0:
            # Never lower than 3 pixels: a small object is there all the same.
            height = max(3, round(area / largest * (TIMELINE_HEIGHT - 6)))
            draw.line((x, bottom - height, x, bottom), fill=colour_of(0))
    shown = evenly_spaced(num_frames)
    for index in shown:
        x = int((index + 0.5) / num_frames * CONTENT)
        draw.line((x, bottom + 3, x, bottom + 8), fill=FAINT, width=2)
    if tracklet.target_frame is not None:
        x = int((tracklet.target_frame + 0.5) / num_frames * CONTENT)
        draw.line((x, label_height, x, bottom), fill=INK, width=2)
        draw.polygon([(x - 7, bottom + 11), (x + 7, bottom + 11), (x, bottom + 1)], fill=INK)
    return part


def _frames_over_time(tracklet: Tracklet) -> Image.Image:
    """A grid of evenly spaced frames with the masks, each with its name below."""
    shown = evenly_spaced(tracklet.video.num_frames)
    columns = min(COLUMNS, len(shown))
    box_width = (CONTENT - (COLUMNS - 1) * GAP) // COLUMNS
    caption_height = 30
    panels = [_panel(tracklet, index, (box_width, box_width))[0] for index in shown]
    cell_height = panels[0].height + caption_height + GAP
    rows = -(-len(shown) // columns)
    part = Image.new("RGB", (CONTENT, rows * cell_height - GAP), PAPER)
    draw = ImageDraw.Draw(part)
    for place, (index, panel) in enumerate(zip(shown, panels, strict=True)):
        left, top = place % columns * (box_width + GAP), place // columns * cell_height
        part.paste(panel, (left, top))
        name = str(tracklet.frame_names[index])
        hidden = tracklet.found and not tracklet.union.areas[index]
        note = "  ·  target" if index == tracklet.target_frame else "  ·  no mask" if hidden else ""
        font = font_for(name + note, 17)
        caption = wrap(f"{name}{note}", font, box_width, max_lines=1)[0]
        draw_text(draw, (left, top + panel.height + 6), caption, font, FAINT if hidden else INK)
    return part


def _panel(
    tracklet: Tracklet, index: int, box: tuple[int, int]
) -> tuple[Image.Image, tuple[int, int], np.ndarray]:
    """A frame with its masks, fitted into a box (width, height) and centred on a panel of the box's width.

    Returns:
        The panel, the frame's corner (x, y) on it, and the masks bool [N, h, w] at the size they are shown.
    """
    video = tracklet.video
    scale = min(box[0] / video.width, box[1] / video.height)
    size = (max(1, round(video.width * scale)), max(1, round(video.height * scale)))
    smooth = scale <= MAX_SMOOTH_ENLARGEMENT
    filter_ = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    frame = np.asarray(Image.fromarray(video[index]).resize(size, filter_))
    masks = np.stack([_resized(mask, size, smooth) for mask in tracklet.masks_at(index)])
    panel = Image.new("RGB", (box[0], min(box[1], max(size[1], MIN_PANEL_HEIGHT))), PANEL)
    corner = ((panel.width - size[0]) // 2, (panel.height - size[1]) // 2)
    panel.paste(Image.fromarray(draw_masks(frame, masks)), corner)
    return _rounded(panel, 10), corner, masks


def _resized(mask: np.ndarray, size: tuple[int, int], smooth: bool) -> np.ndarray:
    """A mask bool [h, w] at another size (width, height); shrinking makes no object vanish."""
    filter_ = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    coverage = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, filter_))
    resized = coverage >= 0.5
    return resized if resized.any() else coverage > 0


def _innermost(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the mask's pixel farthest from its edge."""
    import cv2

    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(column), int(row)


def _rounded(picture: Image.Image, radius: int) -> Image.Image:
    """The picture on paper with smooth round corners."""
    corners = Image.new("L", (picture.width * 2, picture.height * 2), 0)
    outline = (0, 0, corners.width - 1, corners.height - 1)
    ImageDraw.Draw(corners).rounded_rectangle(outline, radius * 2, fill=255)
    rounded = Image.new("RGB", picture.size, PAPER)
    rounded.paste(picture, mask=corners.resize(picture.size, Image.Resampling.BOX))
    return rounded


def _pill_size(text: str, text_size: int) -> tuple[int, int]:
    """(width, height) of the pill `_pill` draws."""
    return int(font_for(text, text_size).getlength(text)) + round(text_size * 1.4), round(text_size * 1.7)


def _pill(
    picture: Image.Image, corner: tuple[int, int], text: str, text_size: int, colour: tuple[int, int, int]
) -> None:
    """White words on a coloured pill whose upper left corner (x, y) is given; kept inside the picture."""
    font = font_for(text, text_size)
    text = wrap(text, font, max(1, picture.width - text_size * 4), max_lines=1)[0]
    size = _pill_size(text, text_size)
    corner = tuple(
        max(0, min(at, side - own)) for at, side, own in zip(corner, picture.size, size, strict=True)
    )
    shape = Image.new("L", (size[0] * 2, size[1] * 2), 0)
    outline = (0, 0, shape.width - 1, shape.height - 1)
    ImageDraw.Draw(shape).rounded_rectangle(outline, size[1], fill=255)
    picture.paste(colour, corner, shape.resize(size, Image.Resampling.BOX))
    middle = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
    ImageDraw.Draw(picture).text(middle, text, font=font, fill=WHITE, anchor="mm")
