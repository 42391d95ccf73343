"""Fakes for SteerSeg: a clip of coloured squares, a backbone that looks at a colour, a SAM that sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from model.backbones.backbone import BackboneOutput, Packed
from model.mllm.layout import FrameSpan, TokenLayout
from model.prompt import PointPrompt
from model.segmentation import FrameFeatures, MaskPrediction
from visa.steerseg.settings import SteerSegSettings, read_settings
from visa.video import Video

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
GREY = (90, 90, 90)
SIDE = 16
SECTIONS = {
    "attributes": {"ask": False, "max_new_tokens": 32, "at_most": 3, "ask_for_object": True},
    "fusion": {"frame_weight": 0.3, "frame_blur": 3, "video_blur": 3, "sigma": 1.0, "stretch": True},
    "points": {"threshold": 0.8, "radius": 1, "per_frame": 5},
    "candidates": {"masks": "single", "suppression_iou": 0.7, "max_candidates": 16},
    "ranking": {
        "rule": "pearson", "frame_weight": 0.3, "max_objects": 1, "max_overlap": 0.3,
        "share_of_best": 0.6, "absent_below": 0.15,
    },
}  # fmt: skip


def settings(**changes: dict) -> SteerSegSettings:
    """The settings of the tests, with some values of some sections changed."""
    return read_settings({name: section | changes.get(name, {}) for name, section in SECTIONS.items()})


def squares(places: dict[str, list[tuple[int, int] | None]], size=(64, 96)) -> tuple[Video, dict]:
    """A clip, and bool [T, H, W] of each colour: squares at (left, top), or nowhere, in each frame."""
    num_frames = len(next(iter(places.values())))
    frames = np.full((num_frames, *size, 3), GREY, np.uint8)
    masks = {colour: np.zeros((num_frames, *size), bool) for colour in places}
    for colour, path in places.items():
        for frame, place in enumerate(path):
            if place is not None:
                rows, cols = slice(place[1], place[1] + SIDE), slice(place[0], place[0] + SIDE)
                frames[frame, rows, cols] = COLOURS[colour]
                masks[colour][frame, rows, cols] = True
    return Video.from_frames(frames, fps=10.0, name="squares"), masks


def masks_of(frames: np.ndarray, colour: str) -> np.ndarray:
    """bool [..., H, W] of uint8 [..., H, W, 3]: where a colour is."""
    return (frames == COLOURS[colour]).all(-1)


@dataclass
class ColourBackbone:
    """Looks at the colours that its question names; every square sends some attention its way.

    reply: what it says when asked in words. grids: cells of each stream. per_step: frames of a temporal
    patch. blind: streams whose attention is broken, and by what value. packed: the questions it was given,
    with the stream and the frames' times.
    """

    reply: str = ""
    grids: dict = field(default_factory=lambda: {"frame": (8, 12), "video": (4, 6)})
    per_step: int = 2
    blind: dict = field(default_factory=dict)
    width: int = 8
    family: str = "colours"
    weights_mark: str | None = None
    packed: list = field(default_factory=list)
    forwards: list = field(default_factory=list)
    said: list = field(default_factory=list)
    language_model: torch.nn.Module = field(default_factory=lambda: torch.nn.Linear(1, 1))

    def pack(
        self, frames, turns, *, stream, soft=None, generate=True, max_tokens_per_frame=None, seconds=None
    ):
        (turn,) = turns
        assert turn.role == "user"
        assert frames.dtype == np.uint8
        self.packed.append((stream, turn.text, None if seconds is None else list(seconds)))
        rows, cols = self.grids[stream] if frames.shape[1] <= frames.shape[2] else self.grids[stream][::-1]
        per_step = self.per_step if stream == "video" else 1
        start, spans = 3 + (soft.n if soft else 0), []
        for first in range(0, len(frames), per_step):
            shows = tuple(range(first, first + per_step))
            spans.append(FrameSpan(start, rows, cols, row_stride=cols + 1, shows=shows))
            start = spans[-1].stop + 2
        inputs = {"frames": frames, "question": turn.text, "stream": stream}
        return Packed(
            inputs, TokenLayout(start + 9, tuple(spans), ()), slice(3, 3 + soft.n) if soft else None
        )

    def forward(self, packed, *, soft_prompt=None, return_attention=None):
        assert (packed.soft is None) == (soft_prompt is None)
        frames, question, stream = (packed.inputs[name] for name in ("frames", "question", "stream"))
        self.forwards.append((stream, None if soft_prompt is None else tuple(soft_prompt.shape)))
        rollout = torch.full((packed.length,), 0.01)
        for span in packed.layout.frames:
            shown = [frames[min(index, len(frames) - 1)] for index in span.shows]
            warmth = torch.zeros(span.rows, span.cols)
            for colour in COLOURS:
                seen = torch.from_numpy(np.stack([masks_of(frame, colour) for frame in shown])).float()
                share = functional.adaptive_avg_pool2d(seen, (span.rows, span.cols)).mean(0)
                warmth += share * (1.0 if colour in question else 0.1)
            rollout[span.positions()] = 0.02 + 0.3 * warmth.flatten()
            if stream in self.blind:
                rollout[span.positions()] = self.blind[stream]
        return BackboneOutput(torch.zeros(1), torch.zeros(1), rollout)

    def generate(self, packed, max_new_tokens, soft_prompt=None):
        assert soft_prompt is None
        self.said.append((packed.inputs["question"], max_new_tokens))
        return self.reply


class ColourSam:
    """Stands in for SAM and for its image encoder: a point on a square gives that square."""

    def __init__(self):
        self.encoded = 0

    def encode(self, frames: np.ndarray) -> FrameFeatures:
        self.encoded += len(frames)
        numbers = sum((n + 1) * masks_of(frames, colour) for n, colour in enumerate(COLOURS))
        height, width = frames.shape[1:3]
        return FrameFeatures(
            torch.from_numpy(numbers)[:, None].float(), (), (2 * height, 2 * width), (height, width)
        )

    def decode(self, features, prompt, *, multimask=False) -> MaskPrediction:
        assert isinstance(prompt, PointPrompt)
        numbers, logits = features.embedding[0, 0], []
        for x, y in (prompt.points[:, 0] / 2).tolist():
            number = numbers[int(y), int(x)]
            logits.append(torch.where((numbers == number) & (number > 0), 4.0, -4.0))
        return MaskPrediction(torch.stack(logits)[:, None], torch.full((len(logits), 1), 0.9))

    def to_frame(self, mask_logits, features):
        return mask_logits


class ColourPropagator:
    """Follows the colour that a mask is on; what it was asked to carry stands in ``calls``."""

    def __init__(self):
        self.calls, self.encoder = [], object()

    def features(self, video):
        return ("features of", video.name, len(video))

    def propagate(self, video, target_frame, masks, *, progress=None, features=None):
        assert features == self.features(video)
        self.calls.append((len(video), target_frame))
        frames = video.frames(range(len(video)))
        carried = []
        for mask in masks:
            colour = next(c for c in COLOURS if masks_of(frames[target_frame], c)[mask].all())
            carried.append(masks_of(frames, colour))
        if progress is not None:
            progress(len(video), len(video))
        return np.stack(carried)

    def stream_many(self, video, anchors, *, features=None):
        for question, anchor in enumerate(anchors):
            masks = self.propagate(video, anchor.target_frame, anchor.masks, features=features)
            yield from ((question, index, masks[:, index]) for index in range(len(video)))
