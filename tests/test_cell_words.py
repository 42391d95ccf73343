"""What cells look like, in words: the classifiers' own, and the names of CLIP's points."""

from dataclasses import replace

import pytest
import torch

from model.mllm.words import KNOWN, NUM_NAMES, SHARPNESS, TRUST, CellWords
from tests.tiny_mllm import CLASS_NAMES, random_cells, tiny_mllm, tiny_names


@pytest.fixture
def spoken():
    return tiny_mllm().cell_words


def at(cells, place):
    """The cells, all of whose points lie at one place."""
    return replace(cells, points=place.expand(*cells.points.shape).contiguous())


def of_classes(spoken, cells):
    indices, probs = cells.class_indices, cells.class_probs
    return sum(probs[..., k, None] * spoken.classes[indices[..., k]] for k in range(probs.shape[-1]))


def test_what_nothing_is_known_of_is_called_by_its_classes(spoken):
    """The weighted mean of the classes' names, wherever the points are."""
    cells = random_cells()
    assert spoken.classes.shape == (len(CLASS_NAMES), 32)
    nameless = CellWords(spoken.classes, spoken.places[:0], spoken.names[:0])
    assert torch.allclose(nameless(cells), of_classes(spoken, cells), atol=1e-6)
    assert torch.allclose(spoken(cells, range(8)), of_classes(spoken, cells), atol=1e-6)
    away = at(cells, -spoken.places.mean(0) * 0)  # nowhere: unlike every name
    assert torch.allclose(spoken(away), of_classes(spoken, cells), atol=1e-4)


def test_what_is_known_is_mostly_called_by_its_name(spoken):
    names = tiny_names().names
    cells = random_cells()
    owl = names.index("owl")
    words = spoken(at(cells, spoken.places[owl]))
    likeness, index = (spoken.places[owl] @ spoken.places.T).topk(NUM_NAMES)
    assert likeness[0] == pytest.approx(1.0, abs=1e-5)
    assert KNOWN < 0.9
    named = ((SHARPNESS * likeness).softmax(0)[:, None] * spoken.names[index]).sum(0)
    expected = (1 - TRUST) * of_classes(spoken, cells) + TRUST * named
    assert torch.allclose(words, expected, atol=1e-4)


def test_a_barred_name_is_not_said(spoken):
    names = tiny_names().names
    cells, owl = random_cells(), names.index("owl")
    seen = at(cells, spoken.places[owl])
    kept = [index for index in range(len(names)) if index != owl]
    without = CellWords(spoken.classes, spoken.places[kept], spoken.names[kept])
    assert torch.allclose(spoken(seen, [owl]), without(seen), atol=1e-5)
    assert not torch.allclose(spoken(seen, [owl]), spoken(seen), atol=1e-2)


def test_the_model_reads_its_own_words():
    mllm, cells = tiny_mllm(), random_cells()
    slots = mllm.slots([cells.colour.shape[:2]], [0])
    tokens, projected, words = mllm.visual_tokens([cells], slots)
    assert torch.equal(words, mllm.cell_words(cells))
    told = mllm.visual_tokens([cells], slots, [words])
    assert all(torch.equal(one, other) for one, other in zip(told, (tokens, projected, words), strict=True))
