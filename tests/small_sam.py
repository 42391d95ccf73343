"""SAM at a quarter of its size with known weights, frames for it, and the package's own decoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from model.sam import FrameFeatures, Sam, SamSegmenter, build_sam
from tests.golden.fill import fill

SIDE = 256  # a quarter of SAM's, so that decoding takes milliseconds


class PooledEncoder(nn.Module):
    """Stands in for an image encoder: the embedding is made of the frame's pooled colours."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 256, 1)

    def forward(self, images):
        return self.mix(nn.functional.avg_pool2d(images, 16))


@pytest.fixture(scope="module")
def sam() -> Sam:
    network = build_sam("vit_t", image_size=SIDE)
    network.load_state_dict(fill(network.state_dict()))
    # Unit normal frequencies, as SAM draws them.
    network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(2**0.5)
    return network


@pytest.fixture(scope="module")
def segmenter(sam) -> SamSegmenter:
    return SamSegmenter(sam)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 48, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(segmenter, frames) -> FrameFeatures:
    with torch.no_grad():
        return segmenter.encode(frames)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def package_decode(sam, embedding, *, points=None, boxes=None, masks=None, multimask=False):
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    return sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
