"""Points to masks to tracklets: what SAM is asked, which of two twins stays, and tracklets that vanish."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.prompt import PointPrompt
from model.segmentation import FrameFeatures, MaskPrediction
from visa.steerseg.candidates import CandidateSettings, Seed, draw_seeds, grow, mask_iou, suppress
from visa.steerseg.points import Peak

SETTINGS = {"masks": "single", "suppression_iou": 0.7, "max_candidates": 16}
HEIGHT, WIDTH, GRID = 32, 64, (4, 8)


class ThingsOfColour:
    """Stands in for SAM: a point on a thing gives that thing's mask.

    Its features are a frame of numbers, one for each thing; its input is twice the video's size.
    """

    def __init__(self, frames: np.ndarray):
        self.frames, self.asked = frames, []

    def features(self, keyframe: int) -> FrameFeatures:
        embedding = torch.from_numpy(self.frames[keyframe])[None, None].float()
        return FrameFeatures(embedding, (), (2 * HEIGHT, 2 * WIDTH), (HEIGHT, WIDTH))

    def decode(self, features, prompt, *, multimask=False) -> MaskPrediction:
        assert isinstance(prompt, PointPrompt)
        assert (prompt.labels == 1).all()
        self.asked.append((prompt.points[:, 0].tolist(), multimask))
        numbers = features.embedding[0, 0]
        logits, iou = [], []
        for x, y in (prompt.points[:, 0] / 2).tolist():
            number = numbers[int(y), int(x)]
            whole = torch.where(numbers == number, 4.0, -4.0) if number else torch.full((HEIGHT, WIDTH), -4.0)
            part, nothing = whole.clone(), torch.full_like(whole, -4.0)
            part[:, int(x) + 2 :] = -4
            logits.append(torch.stack([part, whole, nothing] if multimask else [whole]))
            iou.append([0.6, 0.9, 0.95] if multimask else [0.8])
        return MaskPrediction(torch.stack(logits), torch.tensor(iou))

    def to_frame(self, mask_logits, features):
        return mask_logits


def things(keyframes=1) -> np.ndarray:
    """Frames with thing 1 at the left and thing 2 at the right."""
    frames = np.zeros((keyframes, HEIGHT, WIDTH))
    frames[:, 4:20, 4:20], frames[:, 8:24, 40:56] = 1, 2
    return frames


def seeds_at(peaks, frames=None, **changes):
    sam = ThingsOfColour(things() if frames is None else frames)
    return draw_seeds(sam, sam.features, peaks, GRID, CandidateSettings(**SETTINGS | changes)), sam


def test_sam_is_asked_at_the_centres_of_cells():
    seeds, sam = seeds_at([Peak(0, 1, 5, 1.0), Peak(0, 0, 1, 0.9)])
    # Cells are 8 x 8 pixels of the video, 16 x 16 of SAM's input; (x, y).
    assert sam.asked == [([[88.0, 24.0], [24.0, 8.0]], False)]
    assert [seed.peak.col for seed in seeds] == [5, 1]
    assert np.array_equal(seeds[0].mask, things()[0] == 2)
    assert np.array_equal(seeds[1].mask, things()[0] == 1)
    assert seeds[0].strength == pytest.approx(1.8)


def test_points_of_one_keyframe_are_asked_at_once():
    peaks = [Peak(1, 1, 5, 1.0), Peak(0, 1, 1, 0.9), Peak(1, 1, 1, 0.8)]
    seeds, sam = seeds_at(peaks, things(2))
    assert [len(points) for points, _ in sam.asked] == [1, 2]
    assert [seed.peak for seed in seeds] == peaks


def test_two_points_on_one_thing_are_one_seed_and_the_stronger():
    seeds, _ = seeds_at([Peak(0, 1, 1, 0.9), Peak(0, 0, 1, 1.0), Peak(0, 1, 5, 0.8)])
    assert [(seed.peak.col, seed.peak.value) for seed in seeds] == [(1, 1.0), (5, 0.8)]


def test_a_point_on_nothing_is_no_seed():
    assert seeds_at([Peak(0, 3, 0, 1.0)])[0] == []
    assert seeds_at([])[0] == []


def test_which_of_sams_three_masks_are_taken():
    peak = [Peak(0, 1, 1, 1.0)]
    (best,), sam = seeds_at(peak, masks="best")
    assert sam.asked[0][1]
    assert best.quality == pytest.approx(0.9)
    assert np.array_equal(best.mask, things()[0] == 1)
    whole, part = seeds_at(peak, masks="all", suppression_iou=0.9)[0]
    assert whole.mask.sum() > part.mask.sum() > 0
    assert len(seeds_at(peak, masks="all", suppression_iou=0.0)[0]) == 1


def seed(keyframe: int, columns: slice, quality: float, value: float = 0.5) -> Seed:
    mask = np.zeros((4, 10), bool)
    mask[:, columns] = True
    return Seed(Peak(keyframe, 0, 0, value), quality, mask)


class Carry:
    """A tracker that keeps masks where they are, in the keyframes it is told to see."""

    def __init__(self, sees=range(3)):
        self.sees, self.calls = sees, []

    def __call__(self, keyframe, mask):
        self.calls.append((keyframe, mask))
        masks = np.zeros((3, *mask.shape), bool)
        masks[list(self.sees)] = mask
        return masks


def grown(seeds, carry, **changes):
    return grow(seeds, carry, CandidateSettings(**SETTINGS | changes))


def test_suppression_keeps_the_stronger_and_what_overlaps_little():
    weak, strong, apart = seed(0, slice(0, 4), 0.5), seed(0, slice(0, 5), 0.9), seed(0, slice(4, 8), 0.1)
    kept = suppress([weak, apart, strong], CandidateSettings(**SETTINGS))
    assert [id(each) for each in kept] == [id(strong), id(apart)]
    assert len(suppress([weak, apart, strong], CandidateSettings(**SETTINGS | {"suppression_iou": 0.9}))) == 3


def test_what_a_tracklet_already_covers_is_not_carried_again():
    carry = Carry()
    first, twin, other = seed(0, slice(0, 5), 0.9), seed(2, slice(0, 5), 0.8), seed(2, slice(5, 9), 0.7)
    candidates = grown([first, twin, other], carry)
    assert [candidate.seed for candidate in candidates] == [first, other]
    assert [call[0] for call in carry.calls] == [0, 2]
    assert all(np.array_equal(candidates[0].masks[k], first.mask) for k in range(3))


def test_at_most_so_many_tracklets_the_strongest():
    seeds = [seed(0, slice(n, n + 1), 0.9 - n / 10) for n in range(5)]
    carry = Carry()
    assert [c.seed for c in grown(seeds, carry, max_candidates=2)] == seeds[:2]
    assert len(carry.calls) == 2


def test_a_tracklet_that_vanishes_stays_with_its_seed():
    """Also where the tracker loses it in the very keyframe that it starts from."""
    only = seed(1, slice(0, 3), 0.9)
    for sees in ([1], [], [0]):
        (candidate,) = grown([only], Carry(sees))
        assert np.array_equal(candidate.masks[1], only.mask)
        assert candidate.masks[0].any() == (sees == [0])
        assert not candidate.masks[2].any()


def test_a_tracklet_that_vanishes_does_not_cover_the_same_thing_later():
    early, late = seed(0, slice(0, 5), 0.9), seed(2, slice(0, 5), 0.8)
    assert [c.seed for c in grown([early, late], Carry([0]))] == [early, late]


def test_overlap_of_nothing_is_nothing():
    nothing = np.zeros((2, 3), bool)
    assert mask_iou(nothing, nothing) == 0
    assert mask_iou(nothing, ~nothing) == 0
    assert mask_iou(~nothing, ~nothing) == 1


@pytest.mark.parametrize("wrong", [{"masks": "two"}, {"suppression_iou": 1.2}, {"max_candidates": 0}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CandidateSettings(**SETTINGS | wrong)
