"""The CLIP tower against transformers' own hidden states."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from model.clip_tower import ClipTower

CONFIG = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 42,
    "patch_size": 14,
}


def tower_of(layer: int, chunk: int = 8) -> ClipTower:
    torch.manual_seed(0)
    return ClipTower(CLIPVisionConfig(**CONFIG), layer, chunk).eval()


@pytest.mark.parametrize("layer", [-4, -2, -1, 0, 2, 3])
@torch.no_grad()
def test_patches_are_those_of_transformers(layer: int) -> None:
    tower = tower_of(layer)
    reference = CLIPVisionModel(CLIPVisionConfig(**CONFIG)).eval()
    reference.load_state_dict(tower.vision.state_dict())
    images = torch.randn(3, 3, 42, 42)
    expected = reference(images, output_hidden_states=True).hidden_states[layer][:, 1:]
    assert (tower.num_patches, tower.width, tower.image_size) == (9, 16, 42)
    torch.testing.assert_close(tower(images), expected)


@torch.no_grad()
def test_frames_are_encoded_alike_in_chunks_of_any_size() -> None:
    images = torch.randn(5, 3, 42, 42)
    torch.testing.assert_close(tower_of(-2, chunk=2)(images), tower_of(-2)(images))


@torch.no_grad()
def test_layers_behind_the_chosen_one_do_not_run() -> None:
    tower = tower_of(-2)
    tower.vision.encoder.layers[-1].forward = None
    assert tower(torch.randn(1, 3, 42, 42)).shape == (1, 9, 16)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="3 layers has no hidden state 4; choose from -4 to 3"):
        tower_of(4)
