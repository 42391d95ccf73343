"""Points, boxes and masks of the video through SAM and SAM 2, to masks of every frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.prompt import BoxPrompt, MaskPrompt, PointPrompt
from model.sam import SamSegmenter, build_sam
from model.sam2 import Sam2Network, Sam2Segmenter
from model.segmentation import KNOWN_LOGIT, FrameFeatures, mask_prompt
from tests.golden.fill import fill
from tests.tiny_sam2 import tiny_video_model
from visa.errors import InputError
from visa.prompting import draw_prompts, track_prompts
from visa.sam2_propagation import Sam2Propagator
from visa.video import Video

NUM_FRAMES, HEIGHT, WIDTH = 3, 60, 100


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def mobile_sam() -> SamSegmenter:
    network = build_sam("vit_t", image_size=128)
    network.load_state_dict(fill(network.state_dict()))
    return SamSegmenter(network.requires_grad_(False), pad_input=False)


@pytest.fixture(scope="module")
def sam2() -> Sam2Segmenter:
    return Sam2Segmenter(Sam2Network(tiny_video_model()))


@pytest.fixture(params=["mobile_sam", "sam2"])
def sam(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def video() -> Video:
    rng = np.random.default_rng(0)
    return Video.from_frames(rng.integers(0, 256, (NUM_FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8))


class Asked:
    """A segmenter that keeps what it was asked and draws the whole of three masks, the second rated best."""

    image_size = 128

    def encode(self, frames):
        self.frame = frames
        size = frames.shape[1:3]
        return FrameFeatures(torch.zeros(1, 256, 8, 8), (), (76, 128), size)

    def decode(self, features, prompts, *, multimask):
        self.prompts, self.multimask = prompts, multimask
        count = prompts[0].num_objects
        logits = torch.arange(3.0).view(1, 3, 1, 1).expand(count, -1, 32, 32) - 1.5
        return SimpleNamespace(mask_logits=logits, iou=torch.tensor([[0.2, 0.9, 0.8]]).expand(count, -1))

    def to_frame(self, mask_logits, features):
        return torch.nn.functional.interpolate(mask_logits, features.original_size)


def test_pixels_of_the_video_become_those_of_the_network(video) -> None:
    asked = Asked()
    drawn = draw_prompts(asked, video, 1, points=[[[50, 30]], [[100, 0], [0, 60]]], labels=[[1], [0, 1]])
    (prompt,) = asked.prompts
    assert torch.allclose(prompt.points[0, 0], torch.tensor([64.0, 38]))
    assert torch.allclose(prompt.points[1], torch.tensor([[128.0, 0], [0, 76]]))
    assert prompt.labels.tolist() == [[1, -1], [0, 1]]
    assert np.array_equal(asked.frame[0], video[1])
    assert drawn.quality.tolist() == pytest.approx([0.9, 0.9])
    assert not drawn.masks.any()  # the second mask's logits are below 0, the third's are not
    assert not asked.multimask


def test_what_may_be_ambiguous_is_drawn_thrice(video) -> None:
    asked, inside = Asked(), np.zeros((1, HEIGHT, WIDTH), bool)
    cases = [
        ({"points": [[[5, 5]]]}, True),
        ({"points": [[[5, 5]]], "multimask": False}, False),
        ({"points": [[[5, 5]]], "boxes": [[1, 2, 30, 40]]}, False),
        ({"boxes": [[1, 2, 30, 40]]}, False),
        ({"masks": inside}, False),
    ]
    for given, expected in cases:
        draw_prompts(asked, video, 0, **given)
        assert asked.multimask is expected


def test_a_mask_of_the_video_becomes_the_networks_prompt() -> None:
    features = FrameFeatures(torch.zeros(1, 256, 8, 8), (), (64, 128), (32, 64))
    masks = torch.zeros(2, 32, 64, dtype=torch.bool)
    masks[0, 8:16, 32:64] = True
    prompt = mask_prompt(masks, features, 128).mask_logits
    assert prompt.shape == (2, 1, 32, 32)
    expected = torch.full((32, 32), -KNOWN_LOGIT)
    expected[4:8, 16:32] = KNOWN_LOGIT
    assert torch.equal(prompt[0, 0] > 0, expected > 0)
    assert torch.equal(prompt[0, 0, 5:7, 18:30], expected[5:7, 18:30])
    assert (prompt[1] == -KNOWN_LOGIT).all()
    with pytest.raises(ValueError, match=r"bool \[N, 32, 64\]"):
        mask_prompt(masks[:, 1:], features, 128)


def test_each_kind_of_prompt_is_the_segmenters_own(sam, video) -> None:
    boxes, points = np.array([[10, 10, 60, 50], [30, 5, 90, 40]]), np.array([[[20, 30]], [[70, 15]]])
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 10:40, 20:70] = masks[1, 20:30, 5:90] = True
    with torch.inference_mode():
        features = sam.encode(video.frames([2]))
    asked = PointPrompt(features.to_input(torch.from_numpy(points)), torch.ones(2, 1))
    boxed = BoxPrompt(features.to_input(torch.from_numpy(boxes)))
    rough = mask_prompt(torch.from_numpy(masks), features, sam.image_size)
    assert isinstance(rough, MaskPrompt)
    cases = [
        ({"points": points, "multimask": False}, [asked]),
        ({"boxes": boxes}, [boxed]),
        ({"masks": masks}, [rough]),
        ({"points": points, "boxes": boxes, "masks": masks}, [asked, boxed, rough]),
    ]
    seen = []
    for given, prompts in cases:
        drawn = draw_prompts(sam, video, 2, **given)
        with torch.inference_mode():
            expected = sam.decode(features, prompts)
            logits = sam.to_frame(expected.mask_logits, features)[:, 0]
        assert np.array_equal(drawn.masks, (logits > 0).numpy())
        assert np.array_equal(drawn.quality, expected.iou[:, 0].numpy())
        seen.append(logits)
    assert all(not torch.allclose(seen[0], other) for other in seen[1:])


def test_what_is_drawn_is_followed(sam2, mobile_sam, video) -> None:
    for sam in (sam2, mobile_sam):
        segmenter = SimpleNamespace(
            reasoner=SimpleNamespace(sam=sam), propagator=Sam2Propagator(sam2.network)
        )
        steps = []
        masks = track_prompts(
            segmenter,
            video,
            1,
            boxes=[[10, 10, 60, 50]],
            progress=lambda *step, kept=steps: kept.append(step),
        )
        assert masks.shape == (1, NUM_FRAMES, HEIGHT, WIDTH)
        assert np.array_equal(masks[:, 1], draw_prompts(sam, video, 1, boxes=[[10, 10, 60, 50]]).masks)
        assert steps[-1] == (NUM_FRAMES, NUM_FRAMES)


def test_tensors_that_learn_are_prompts_too(sam2, video) -> None:
    """As those on a GPU, such a tensor does not become an array by itself."""
    points = torch.tensor([[[20.0, 30.0]], [[70.0, 40.0]]], requires_grad=True)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 50.0], [50.0, 20.0, 90.0, 55.0]], requires_grad=True)
    for given in ({"points": points}, {"boxes": boxes}):
        plain = {name: value.detach().numpy() for name, value in given.items()}
        drawn, expected = draw_prompts(sam2, video, 0, **given), draw_prompts(sam2, video, 0, **plain)
        assert np.array_equal(drawn.masks, expected.masks)
        assert np.array_equal(drawn.quality, expected.quality)


def test_no_objects_are_no_masks(sam2, video) -> None:
    assert draw_prompts(sam2, video, 0, boxes=np.zeros((0, 4))).masks.shape == (0, HEIGHT, WIDTH)
    assert draw_prompts(sam2, video, 0, points=[]).masks.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "nothing was pointed at"),
        ({"labels": [[1]]}, "labels belong to points"),
        ({"points": [[[101, 5]]]}, r"100 wide and 60 high, got \(x, y\) = \(101, 5\)"),
        ({"points": [[[5, float("nan")]]]}, "in the picture"),
        ({"points": [[5, 5]]}, r"shape \[any, 2\], got \[2\]"),
        ({"points": [[[5, 5]], []]}, "every object needs a point"),
        ({"points": [[["a", "b"]]]}, "must be numbers"),
        ({"points": [[[5, 5]]], "labels": [[1, 0]]}, "one for each"),
        ({"points": [[[5, 5]]], "labels": [[2]]}, "1 .inside the object. or 0"),
        ({"boxes": [[5, 5, 5, 9]]}, "x0 < x1"),
        ({"boxes": [[5, 5, 50, 61]]}, "60 high"),
        ({"boxes": [5, 5, 50, 40]}, r"shape \[any, 4\]"),
        ({"masks": np.zeros((1, 5, 5), bool)}, r"bool \[N, 60, 100\]"),
        ({"points": [[[5, 5]]], "boxes": [[1, 1, 2, 2], [1, 1, 3, 3]]}, r"same objects, got \[1, 2\]"),
        ({"frame_index": 3, "points": [[[5, 5]]]}, r"0\.\.2, got 3"),
    ],
)
def test_bad_prompts_are_told_in_one_line(given, words, sam2, video) -> None:
    with pytest.raises(InputError, match=words) as told:
        draw_prompts(sam2, video, **{"frame_index": 0, **given})
    assert "\n" not in str(told.value)


def test_a_system_without_tracker_says_so(sam2, video) -> None:
    segmenter = SimpleNamespace(reasoner=SimpleNamespace(sam=sam2), propagator=None)
    with pytest.raises(InputError, match="load it with a tracker"):
        track_prompts(segmenter, video, 0, points=[[[5, 5]]])
