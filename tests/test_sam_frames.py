"""SAM, frames in and masks out: sizes, padding and resizing as the package does them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from model.prompt import EmbeddingPrompt
from model.sam import Sam, SamSegmenter
from model.sam.import_segment_anything import modeling
from tests import small_sam
from tests.small_sam import SIDE, PooledEncoder, random

pytestmark = pytest.mark.usefixtures("one_thread")
sam = small_sam.sam
segmenter = small_sam.segmenter
frames = small_sam.frames
features = small_sam.features


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (1080, 1920), (1, 1), (17, 9), (1, 3000)])
def test_input_size_is_sams(size):
    segmenter = SamSegmenter(Sam(PooledEncoder()))
    scale = 1024 / max(size)
    expected = tuple(max(1, int(side * scale + 0.5)) for side in size)
    assert segmenter.input_size(size) == expected
    assert max(expected) == 1024


def test_preprocessing_is_sams(sam, segmenter, frames):
    images, size = segmenter.preprocess(frames)
    resized = np.asarray(Image.fromarray(frames[1]).resize((256, 154), Image.Resampling.BILINEAR))
    package = modeling.Sam(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
    sam.image_encoder.img_size = SIDE
    expected = package.preprocess(torch.from_numpy(resized.copy()).permute(2, 0, 1))
    assert size == (154, 256)
    assert torch.equal(images[1], expected[:, :154, :256])
    assert expected[:, 154:].eq(0).all()


def test_encoder_sees_the_frame_padded_below(sam, segmenter, frames, features):
    images, (height, width) = segmenter.preprocess(frames)
    padded = torch.zeros(2, 3, SIDE, SIDE)
    padded[:, :, :height, :width] = images
    with torch.no_grad():
        expected, levels = sam.image_encoder.forward_levels(padded)
    torch.testing.assert_close(features.embedding, expected, rtol=1e-4, atol=1e-4)
    assert [tuple(level.shape) for level in features.levels] == [
        (2, 64, 39, 64),
        (2, 128, 20, 32),
        (2, 160, 10, 16),
    ]
    torch.testing.assert_close(features.levels[2], levels[2][:, :, :10], rtol=1e-4, atol=1e-4)


def test_frames_are_encoded_alike_alone_and_together(segmenter, frames, features):
    with torch.no_grad():
        together = segmenter.encode(torch.from_numpy(frames), chunk=2, levels=False)
    assert together.levels == ()
    assert (features.embedding[0] - features.embedding[1]).abs().max() > 0.1
    torch.testing.assert_close(together.embedding, features.embedding, rtol=1e-4, atol=1e-4)


def test_postprocessing_is_sams(sam, segmenter, features):
    package = modeling.Sam(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
    sam.image_encoder.img_size = SIDE
    logits = random(3, 2, SIDE // 4, SIDE // 4)
    expected = package.postprocess_masks(logits, features.input_size, features.original_size)
    assert expected.shape == (3, 2, 48, 80)
    assert torch.equal(segmenter.to_frame(logits, features), expected)
    assert segmenter.to_frame(logits.bfloat16(), features).dtype == torch.float32


@pytest.mark.parametrize("pad_input", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (1, 400), (301, 2)])
def test_tiny_and_extreme_frames(sam, size, pad_input):
    segmenter = SamSegmenter(sam, pad_input=pad_input)
    with torch.no_grad():
        features = segmenter.encode(np.zeros((1, *size, 3), np.uint8))
        prediction = segmenter.decode(features, EmbeddingPrompt(random(2, 1, 256)))
    logits = segmenter.to_frame(prediction.mask_logits, features)
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


def test_4k_frame(sam):
    segmenter = SamSegmenter(sam, pad_input=False, encoder_dtype=torch.bfloat16)
    with torch.no_grad():
        features = segmenter.encode(np.zeros((1, 2160, 4096, 3), np.uint8), levels=False)
        prediction = segmenter.decode(features, EmbeddingPrompt(random(1, 1, 256)))
    assert features.input_size == (135, 256)
    assert segmenter.to_frame(prediction.mask_logits, features).shape == (1, 1, 2160, 4096)


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 8, 8, 4), np.uint8), np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)],
)
def test_wrong_frames_are_refused(segmenter, frames):
    with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\]"):
        segmenter.encode(frames)


def test_no_frames_are_refused(segmenter):
    with pytest.raises(ValueError, match="at least one frame"):
        segmenter.encode(np.zeros((0, 8, 8, 3), np.uint8))


def test_unpadded_frame_is_decoded_on_its_own_grid(sam, segmenter, frames, features):
    direct = SamSegmenter(sam, pad_input=False)
    with torch.no_grad():
        own = direct.encode(frames)
        prediction = direct.decode(own, EmbeddingPrompt(random(2, 1, 256)))
        square = direct.encode(np.ascontiguousarray(np.broadcast_to(frames[:1, :1, :1], (1, 20, 20, 3))))
        padded_square = segmenter.encode(np.broadcast_to(frames[:1, :1, :1], (1, 20, 20, 3)))
    assert own.embedding.shape == (2, 256, 10, 16)
    assert features.embedding.shape == (2, 256, 16, 16)
    assert [level.shape for level in own.levels] == [level.shape for level in features.levels]
    assert prediction.mask_logits.shape == (2, 1, SIDE // 4, SIDE // 4)
    # What lies below the frame repeats the last row, so that it cannot bleed into the frame.
    below, last_row = prediction.mask_logits[:, :, 40:], prediction.mask_logits[:, :, 39:40]
    assert torch.equal(below, last_row.expand_as(below))
    assert direct.to_frame(prediction.mask_logits, own).shape == (2, 1, 48, 80)
    # A square frame has no padding either way.
    torch.testing.assert_close(square.embedding, padded_square.embedding, rtol=0, atol=0)


def test_encoder_without_levels_fits(frames):
    segmenter = SamSegmenter(Sam(PooledEncoder(), SIDE).eval())
    with torch.no_grad():
        features = segmenter.encode(frames)
        prediction = segmenter.decode(features, EmbeddingPrompt(random(1, 1, 256)), multimask=True)
    assert features.levels == ()
    assert prediction.mask_logits.shape == (1, 3, SIDE // 4, SIDE // 4)
    assert len(features) == 2
