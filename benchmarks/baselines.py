"""Systems that do not read the question, to compare with: they draw one mask and have it propagated.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from automatic_masks import automatic_masks
from numpy.typing import NDArray

from model.prompt import BoxPrompt, PointPrompt
from model.sam import FrameFeatures, SamSegmenter, build_sam
from visa.downloads import fetch
from visa.sampling import Sampler
from visa.tracklet import Tracklet
from visa.video import Video

Draw = Callable[[SamSegmenter, FrameFeatures], NDArray[np.bool_]]


@cache
def public_sam(device: str = "cpu") -> SamSegmenter:
    """MobileSAM as published; the system under test may have tuned its own."""
    return SamSegmenter(build_sam("vit_t", fetch("mobile_sam.pt")).to(device))


@dataclass(frozen=True)
class OneMask:
    """Draws one mask in the middle frame, whatever is asked, and never refuses.

    Attributes:
        sam: What draws.
        propagator: What carries the mask to the other frames; that of the system under test.
        draw: One frame's features to a mask, bool [H, W].
        words: Its answer.
    """

    sam: SamSegmenter
    propagator: object
    draw: Draw
    words: str

    def segment_many(self, video: Video, questions: Sequence[str]) -> list[Tracklet]:
        """One and the same track for each question."""
        target = len(video) // 2
        mask = self.draw(self.sam, self.sam.encode(video.frames([target])))
        masks = self.propagator.propagate(video, target, mask[None])[0]
        return [
            Tracklet(
                question=question,
                answer=self.words,
                found=True,
                score=1.0,
                target_frame=target,
                masks=np.asarray(masks, dtype=bool),
                video=video,
            )
            for question in questions
        ]


@dataclass(frozen=True)
class Sampled:
    """The system under test with another way to choose the target frame."""

    segmenter: object
    sampler: Sampler

    def segment_many(self, video: Video, questions: Sequence[str]) -> list[Tracklet]:
        """As the segmenter's own."""
        return self.segmenter.segment_many(video, questions, sampler=self.sampler)


@torch.inference_mode()
def centre_point(sam: SamSegmenter, features: FrameFeatures) -> NDArray[np.bool_]:
    """The best of SAM's three masks for one click in the middle of the frame; bool [H, W]."""
    height, width = features.original_size
    points = features.to_input(torch.tensor([[[width / 2, height / 2]]])).to(sam.sam.device)
    prompt = PointPrompt(points, torch.ones(1, 1, device=sam.sam.device))
    prediction = sam.decode(features, prompt, multimask=True)
    best = int(prediction.iou[0].argmax())
    return _to_mask(sam, prediction.mask_logits[:, best : best + 1], features)


@torch.inference_mode()
def centre_mask(sam: SamSegmenter, features: FrameFeatures) -> NDArray[np.bool_]:
    """The automatic mask that gathers most of the frame's middle and least of its rim; bool [H, W].

    Each pixel counts with a Gaussian of half the frame's half sides, less its mean over the frame.
    """
    candidates = automatic_masks(sam, features)
    ys, xs = (
        torch.linspace(-2, 2, side, device=candidates.masks.device).square().mul(-0.5).exp()
        for side in candidates.masks.shape[1:]
    )
    weights = ys[:, None] * xs[None]
    gathered = (candidates.masks * (weights - weights.mean())).flatten(1).sum(1)
    best = int(gathered.argmax())
    return _to_mask(sam, candidates.mask_logits[best][None, None], features)


@torch.inference_mode()
def reprompt(
    sam: SamSegmenter, video: Video, first_mask: NDArray[np.bool_], num_frames: int | None = None
) -> NDArray[np.bool_]:
    """Tracking without memory: each frame is cut out by the last mask's box and centre point.

    Args:
        sam: What draws.
        video: The clip.
        first_mask: bool [H, W], the object in the first frame.
        num_frames: How many frames to track; all by default.

    Returns:
        bool [T, H, W]; the first is as given. Where the object is lost, the last box is kept.
    """
    masks, prompts = [first_mask], None
    for index in range(1, len(video) if num_frames is None else min(num_frames, len(video))):
        features = sam.encode(video.frames([index]))
        prompts = _box_and_centre(masks[-1], features, sam.sam.device) or prompts
        if prompts is None:
            masks.append(np.zeros_like(first_mask))
            continue
        prediction = sam.decode(features, prompts)
        masks.append(_to_mask(sam, prediction.mask_logits, features))
    return np.stack(masks)


def _box_and_centre(mask: NDArray[np.bool_], features: FrameFeatures, device: torch.device):
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    # the object's own pixel nearest to its centre of mass, which itself may lie outside
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    point = torch.tensor([[[columns[nearest] + 0.5, rows[nearest] + 0.5]]])
    return [
        PointPrompt(features.to_input(point).to(device), torch.ones(1, 1, device=device)),
        BoxPrompt(features.to_input(box).to(device)),
    ]


def _to_mask(sam: SamSegmenter, mask_logits: torch.Tensor, features: FrameFeatures) -> NDArray[np.bool_]:
    return (sam.to_frame(mask_logits, features)[0, 0] > 0).cpu().numpy()
