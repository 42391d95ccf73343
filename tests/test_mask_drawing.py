"""From heat and embedding to a mask: how SAM is asked, in whose coordinates, and whom it believes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.mllm.grounding import Grounding
from model.prompt import BoxPrompt, EmbeddingPrompt, MaskPrompt, PointPrompt
from model.sam.segmenter import FrameFeatures, MaskPrediction, SamSegmenter
from visa.mask_drawing import (
    MaskDrawing,
    agreement,
    heat_to_mask_prompt,
    largest_pieces,
    mask_boxes,
    unpadded_features,
)

INPUT_SIZE = (576, 1024)  # of SAM's unpadded input; 36 x 64 cells, 144 x 256 low-resolution pixels
FRAME_SIZE = (288, 512)


def heat_map(*boxes, rows=36, cols=64):
    """Float [rows, cols]: 6 inside the (row, row, col, col) boxes, −6 elsewhere."""
    heat = torch.full((rows, cols), -6.0)
    for top, bottom, left, right in boxes:
        heat[top:bottom, left:right] = 6.0
    return heat


def low_res(top, bottom, left, right):
    """Mask logits [256, 256] of a box in low-resolution pixels."""
    logits = torch.full((256, 256), -5.0)
    logits[top:bottom, left:right] = 5.0
    return logits


class KnownSam(SamSegmenter):
    """Answers each kind of prompt with known masks, and writes down what it was asked."""

    def __init__(self, own, points=(), boxes=(), iou=0.0):
        self.sam = SimpleNamespace(image_size=1024)
        self.own, self.points, self.boxes, self.iou = own, points, boxes, iou
        self.asked = []

    def decode(self, features, prompts, *, frame_index=0, multimask=False):
        self.asked.append((prompts, multimask))
        if isinstance(prompts, list):
            known = torch.stack(self.own)[:, None]
        else:
            count = len(prompts.points if isinstance(prompts, PointPrompt) else prompts.boxes)
            answers = self.points if isinstance(prompts, PointPrompt) else self.boxes
            default = torch.full((256, 256), -5.0)
            found = answers[multimask] if answers else default
            known = found.expand(count, 3 if multimask else 1, 256, 256)
        return MaskPrediction(known.clone(), torch.full(known.shape[:2], self.iou))

    def prompts(self, kind):
        return [prompt for prompt, multimask in self.asked if isinstance(prompt, kind) and not multimask]


def drawing(sam, **options):
    """One SAM plays both parts, the published one and the one with the tuned decoder."""
    return MaskDrawing(sam, sam, **options)


class KnownMllm:
    """Grounds every answer in the heat maps it was made with."""

    def __init__(self, *heats):
        self.heat, self.seen = torch.stack(heats), []
        self.embeddings = torch.arange(len(heats)).float()[:, None, None].expand(-1, 1, 256)

    def ground(self, reading, answer, sam_features):
        self.seen.append((reading, answer, sam_features))
        return Grounding(self.embeddings, self.heat)


@pytest.fixture
def features():
    embedding = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    return FrameFeatures(embedding, (), INPUT_SIZE, FRAME_SIZE)


def on_frame(top, bottom, left, right):
    """The box of low-resolution pixels as a bool mask of the frame; 256 of them are 512 frame pixels."""
    mask = np.zeros(FRAME_SIZE, bool)
    mask[2 * top : 2 * bottom, 2 * left : 2 * right] = True
    return mask


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_unpadded_features_leave_the_padding_out(features):
    cut = unpadded_features(features)
    assert cut.shape == (256, 36, 64)
    assert torch.equal(cut, features.embedding[0, :, :36])
    odd = FrameFeatures(features.embedding.half(), (), (17, 1024), (3, 180))
    assert unpadded_features(odd).shape == (256, 2, 64)
    assert unpadded_features(odd).dtype == torch.float32


@pytest.mark.parametrize(("rows", "cols"), [(36, 64), (64, 36), (64, 64), (1, 64)])
def test_heat_becomes_a_mask_prompt_in_place_and_padding_is_outside(rows, cols):
    heat = torch.full((2, rows, cols), -3.0)
    heat[0, 0, 10] = heat[1, rows - 1, 2] = 9.0
    prompt = heat_to_mask_prompt(heat).mask_logits
    assert prompt.shape == (2, 1, 256, 256)
    for n, (row, col) in enumerate([(0, 10), (rows - 1, 2)]):
        hot = (prompt[n, 0] > 3).nonzero()
        assert hot[:, 0].min() >= 4 * row - 1
        assert hot[:, 0].max() <= 4 * row + 4
        assert hot[:, 1].min() >= 4 * col - 1
        assert hot[:, 1].max() <= 4 * col + 4
    # Bilinear interpolation reaches two pixels beyond the border of the heat.
    assert (prompt[:, :, 4 * rows + 2 :] == -8).all()
    assert (prompt[..., 4 * cols + 2 :] == -8).all()
    assert prompt[:, :, : 4 * rows - 2, : 4 * cols - 2].min() >= -3


def test_mask_boxes_are_in_x_y_and_end_one_past_the_mask():
    masks = torch.zeros(3, 10, 20, dtype=torch.bool)
    masks[0, 2:5, 7:15] = True
    masks[2, 9, 19] = True
    boxes, some = mask_boxes(masks)
    assert some.tolist() == [True, False, True]
    assert boxes[0].tolist() == [7, 2, 15, 5]
    assert boxes[2].tolist() == [19, 9, 20, 10]
    assert boxes[1].tolist() == [0, 0, 0, 0]


def test_agreement_is_a_correlation():
    rng = np.random.default_rng(0)
    heat = torch.from_numpy(rng.normal(0, 2, (6, 7))).float()
    masks = torch.from_numpy(rng.random((3, 6, 7)) < 0.4)
    for mask, got in zip(masks, agreement(masks, heat), strict=True):
        flat = mask.numpy().ravel()
        by_hand = [
            np.corrcoef(flat, each.numpy().ravel())[0, 1] for each in (((heat - heat.max()) / 2).exp(), heat)
        ]
        assert got.item() == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert agreement(heat[None] > 0, heat).item() > 0.5
    assert agreement(heat[None] < 0, heat).item() < -0.5
    constant = torch.stack([torch.zeros(6, 7), torch.ones(6, 7)]).bool()
    assert agreement(constant, heat).abs().max() < 1e-3


def test_sam_is_asked_with_embedding_and_heat_and_the_mask_comes_at_the_frames_size(features):
    box = (40, 80, 100, 160)
    sam = KnownSam([low_res(*box)])
    mllm = KnownMllm(heat_map((10, 20, 25, 40)))
    drawn = drawing(sam, num_peaks=0).draw(mllm, "reading", "answer", features)
    ((prompts, multimask),) = sam.asked
    embedding, mask = prompts
    assert isinstance(embedding, EmbeddingPrompt)
    assert isinstance(mask, MaskPrompt)
    assert not multimask
    assert torch.equal(mask.mask_logits, heat_to_mask_prompt(mllm.heat).mask_logits)
    ((reading, answer, seen),) = mllm.seen
    assert (reading, answer) == ("reading", "answer")
    assert seen.shape == (256, 36, 64)
    assert drawn.masks.shape == (1, *FRAME_SIZE)
    assert drawn.masks.dtype == bool
    assert overlap(drawn.masks[0], on_frame(*box)) > 0.95
    assert torch.equal(drawn.heat_logits, mllm.heat)


def test_without_peaks_the_tuned_decoder_is_believed_whatever_the_heat_says(features):
    sam = KnownSam([low_res(0, 4, 0, 4)], points={False: low_res(40, 80, 100, 160)})
    drawn = drawing(sam, num_peaks=0).draw(KnownMllm(heat_map((10, 20, 25, 40))), None, None, features)
    assert overlap(drawn.masks[0], on_frame(0, 4, 0, 4)) > 0.8
    assert len(sam.asked) == 1


def test_the_tuned_decoder_draws_and_the_published_one_is_asked_points_and_boxes(features):
    published = KnownSam([], {False: low_res(*HOT), True: low_res(*PART)})
    tuned = KnownSam([low_res(*ELSEWHERE)])
    drawn = MaskDrawing(published, tuned).draw(KnownMllm(heat_map((10, 20, 25, 40))), None, None, features)
    assert [isinstance(prompts, list) for prompts, _ in tuned.asked] == [True]
    kinds = [(type(prompts), multimask) for prompts, multimask in published.asked]
    assert kinds == [(kind, several) for kind in (PointPrompt, BoxPrompt) for several in (False, True)]
    assert overlap(drawn.masks[0], on_frame(*HOT)) > 0.95


HOT = (40, 80, 100, 160)  # what the heat map (10, 20, 25, 40) covers, in low-resolution pixels
PART, ELSEWHERE = (40, 50, 100, 120), (100, 140, 10, 60)


@pytest.mark.parametrize(
    ("own", "points", "boxes"),
    [
        (HOT, {False: low_res(*PART), True: low_res(*ELSEWHERE)}, {}),
        (PART, {False: low_res(*HOT), True: low_res(*PART)}, {}),
        (PART, {False: low_res(*ELSEWHERE), True: low_res(*HOT)}, {}),
        (ELSEWHERE, {}, {False: low_res(*HOT), True: low_res(*PART)}),
        (ELSEWHERE, {}, {False: low_res(*PART), True: low_res(*HOT)}),
    ],
    ids=["its own", "a point's", "a point's, of three", "a box's", "a box's, of three"],
)
def test_the_candidate_that_agrees_best_with_the_heat_wins(features, own, points, boxes):
    sam = KnownSam([low_res(*own)], points, boxes)
    drawn = drawing(sam).draw(KnownMllm(heat_map((10, 20, 25, 40))), None, None, features)
    assert overlap(drawn.masks[0], on_frame(*HOT)) > 0.95


def test_each_object_is_judged_by_its_own_heat(features):
    sam = KnownSam([low_res(*ELSEWHERE), low_res(*HOT)], {False: low_res(*HOT), True: low_res(*PART)})
    mllm = KnownMllm(heat_map((25, 35, 2, 15)), heat_map((10, 20, 25, 40)))
    drawn = drawing(sam).draw(mllm, None, None, features)
    assert overlap(drawn.masks[0], on_frame(*ELSEWHERE)) > 0.95
    assert overlap(drawn.masks[1], on_frame(*HOT)) > 0.95


def test_own_bonus_and_quality_tip_the_balance(features):
    nearly = low_res(40, 80, 104, 160)
    mllm = KnownMllm(heat_map((10, 20, 25, 40)))

    def drawn(**options):
        sam = KnownSam([nearly], {False: low_res(*HOT), True: low_res(*HOT)}, iou=options.pop("iou", 0.0))
        return drawing(sam, **options).draw(mllm, None, None, features).masks[0]

    truth, own = on_frame(*HOT), on_frame(40, 80, 104, 160)
    assert overlap(drawn(quality_weight=0.0), truth) > overlap(drawn(quality_weight=0.0), own)
    with_bonus = drawn(quality_weight=0.0, own_bonus=0.5)
    assert overlap(with_bonus, own) > overlap(with_bonus, truth)
    outbid = drawn(quality_weight=1.0, own_bonus=0.5, iou=0.9)
    assert overlap(outbid, truth) > overlap(outbid, own)


def test_the_share_of_the_largest_piece():
    masks = torch.zeros(5, 20, 30, dtype=torch.bool)
    masks[1, 2:8, 3:9] = True  # 4 x 4 without its edge
    masks[2, 2:8, 3:9] = masks[2, 10:14, 20:24] = True  # another 2 x 2
    masks[3, 2:8, 3:9] = masks[3, 2:8, 20:26] = masks[3, 4:6, 9:20] = True  # two and a bridge of two pixels
    masks[4, 0] = True
    assert largest_pieces(masks).tolist() == pytest.approx([0, 1, 0.8, 0.5, 0])


def test_of_two_masks_that_agree_alike_the_one_of_one_piece_wins(features):
    """Heat over two things: the mask of both agrees a little better than that of one."""
    both = low_res(*HOT)
    both[..., 100:130, 20:60] = 6.0
    heat = torch.maximum(heat_map((10, 20, 25, 40)), heat_map((25, 32, 5, 15)))

    def drawn(weight):
        sam = KnownSam([both], {False: low_res(*HOT), True: low_res(*HOT)})
        return drawing(sam, quality_weight=0.0, piece_weight=weight).draw(
            KnownMllm(heat), None, None, features
        )

    assert drawn(0.0).masks[0, 2 * 100 : 2 * 130, 2 * 20 : 2 * 60].all()
    assert overlap(drawn(1.5).masks[0], on_frame(*HOT)) > 0.95


def test_peaks_are_the_hot_places_as_x_y_of_sams_input(features):
    sam = KnownSam([low_res(*HOT)])
    heat = heat_map((4, 9, 6, 11), (24, 29, 50, 55))  # centred on cells (row 6, col 8) and (26, 52)
    heat[4:9, 6:11] += 1
    drawing(sam, num_peaks=2).draw(KnownMllm(heat), None, None, features)
    (prompt,) = sam.prompts(PointPrompt)
    assert prompt.points.shape == (2, 1, 2)
    assert prompt.labels.tolist() == [[1], [1]]
    centres = torch.tensor([[8.5 * 16, 6.5 * 16], [52.5 * 16, 26.5 * 16]])
    hottest = prompt.points[:, 0]
    for point in hottest:
        assert (point - centres).abs().amax(1).min() <= 40, f"{point.tolist()} is on neither blob"
    assert (hottest[0] - centres[0]).abs().max() <= 40, "the hottest first"


def test_peaks_stay_out_of_the_padding(features):
    sam = KnownSam([low_res(*HOT)])
    drawing(sam, num_peaks=50).draw(KnownMllm(torch.zeros(36, 64)), None, None, features)
    (prompt,) = sam.prompts(PointPrompt)
    assert 1 <= len(prompt.points) <= 50
    assert (prompt.points[..., 0] < INPUT_SIZE[1]).all()
    assert (prompt.points[..., 1] < INPUT_SIZE[0]).all()


def test_boxes_of_mask_and_heat_are_asked_in_sams_input(features):
    sam = KnownSam([low_res(*ELSEWHERE)])
    drawing(sam).draw(KnownMllm(heat_map((10, 20, 25, 40))), None, None, features)
    (prompt,) = sam.prompts(BoxPrompt)
    own, hot = prompt.boxes.tolist()
    assert own == [4 * 10, 4 * 100, 4 * 60, 4 * 140]
    assert hot == pytest.approx([25 * 16, 10 * 16, 40 * 16, 20 * 16], abs=8)


def test_cold_heat_and_an_empty_mask_ask_for_no_box_and_draw_nothing(features):
    sam = KnownSam([torch.full((256, 256), -5.0)])
    drawn = drawing(sam).draw(KnownMllm(torch.full((36, 64), -6.0)), None, None, features)
    assert not sam.prompts(BoxPrompt)
    assert not drawn.masks.any()


def test_a_frame_of_one_pixel_is_drawn():
    tiny = FrameFeatures(torch.zeros(1, 256, 64, 64), (), (1, 1), (1, 1))
    sam = KnownSam([torch.full((256, 256), 5.0)])
    drawn = drawing(sam).draw(KnownMllm(torch.full((1, 1), 6.0)), None, None, tiny)
    assert drawn.masks.tolist() == [[[True]]]
