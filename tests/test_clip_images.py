"""Frames as CLIP takes them: crops, padding, and frames of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.clip_images import ClipImages

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def a_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [224, 336])
@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (120, 120), (401, 300)])
def test_shorter_side_bicubic_then_the_middle(size, height, width):
    frame = a_frame(height, width)
    scale = size / min(height, width)
    resized = Image.fromarray(frame).resize(
        (max(size, int(width * scale)), max(size, int(height * scale))), Image.Resampling.BICUBIC
    )
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    expected = np.asarray(resized.crop((left, top, left + size, top + size)))
    clip = ClipImages(size)
    crop = clip.crops(frame[None])
    assert crop.dtype == torch.uint8
    assert np.array_equal(crop[0].permute(1, 2, 0).numpy(), expected)
    image = clip(frame[None])
    assert image.dtype == torch.float32
    torch.testing.assert_close(image[0], (crop[0] / 255 - MEAN) / STD, rtol=0, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), pad_square=st.booleans())
def test_frames_of_any_size(height, width, pad_square):
    clip = ClipImages(28, pad_square=pad_square)
    frames = np.stack([a_frame(height, width, seed) for seed in range(2)])
    images = clip(frames)
    assert images.shape == (2, 3, 28, 28)
    assert images.isfinite().all()
    assert torch.equal(images[1], clip(frames[1:])[0]), "alone and together alike"


def test_three_rows_are_not_taken_for_channels():
    frame = np.zeros((3, 7, 3), np.uint8)
    frame[..., 2] = 255
    crop = ClipImages(28).crops(frame[None])[0]
    assert [channel.unique().tolist() for channel in crop] == [[0], [0], [255]]


def test_padding_keeps_the_sides():
    frame = np.zeros((20, 60, 3), np.uint8)
    frame[:, :5] = (255, 0, 0)
    cropped, padded = (ClipImages(60, pad_square=pad).crops(frame[None])[0] for pad in (False, True))
    assert cropped[0].max() == 0, "the sides are lost"
    assert padded[0, 20:40, :4].min() > 200
    assert padded[:, 0, 30].tolist() == [122, 116, 104]
    assert padded[:, 59, 30].tolist() == [122, 116, 104]
    square = a_frame(60, 60)[None]
    assert torch.equal(ClipImages(60, pad_square=True)(square), ClipImages(60)(square))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.float32),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((1, 0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(frames):
    with pytest.raises(ValueError, match=r"frames must be uint8 \[T, H, W, 3\]"):
        ClipImages()(frames)
