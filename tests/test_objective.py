"""Each loss against its formula in numpy, on numbers small enough to check by hand."""

import numpy as np
import pytest
import torch

from visa.training.objective import (
    MISTAKEN_WEIGHT,
    cell_choice,
    mask_bce,
    mask_dice,
    meaning_loss,
    object_choice,
    text_loss,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def draw(rng, count=3, height=5, width=7):
    return rng.normal(0, 2, (count, height, width)), (rng.random((count, height, width)) < 0.3).astype(float)


def test_text_loss_is_the_mean_cross_entropy(rng):
    logits, labels = rng.normal(0, 3, (4, 11)), np.array([0, 10, 3, 3])
    expected = -log_softmax(logits)[np.arange(4), labels].mean()
    loss = text_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_text_loss_without_answers_is_a_zero_that_can_be_differentiated():
    logits = torch.randn(0, 11, requires_grad=True)
    loss = text_loss(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_mask_bce_is_the_mean_over_pixels_then_masks(rng, weight):
    logits, masks = draw(rng)
    probs = sigmoid(logits)
    pixels = -(weight * masks * np.log(probs) + (1 - masks) * np.log(1 - probs))
    expected = pixels.mean((1, 2)).sum() / (3 + 1e-8)
    loss = mask_bce(torch.from_numpy(logits), torch.from_numpy(masks), positive_weight=weight)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_mask_dice_is_the_references_formula(rng):
    """1 − (2Σpt/1000 + 1e-6) / (Σp/1000 + Σt/1000 + 1e-6), summed over masks / (n + 1e-8)."""
    logits, masks = draw(rng)
    probs = sigmoid(logits)
    dice = [
        1 - (2 * (p * t).sum() / 1000 + 1e-6) / (p.sum() / 1000 + t.sum() / 1000 + 1e-6)
        for p, t in zip(probs, masks, strict=True)
    ]
    loss = mask_dice(torch.from_numpy(logits), torch.from_numpy(masks))
    assert loss.item() == pytest.approx(sum(dice) / (3 + 1e-8), rel=1e-9)


def test_a_perfect_mask_costs_nothing_and_a_wrong_one_everything():
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:5, 2:5] = 1
    perfect = (masks * 2 - 1) * 40
    assert mask_bce(perfect, masks).item() == pytest.approx(0, abs=1e-6)
    assert mask_dice(perfect, masks).item() == pytest.approx(0, abs=1e-5)
    assert mask_bce(-perfect, masks).item() == pytest.approx(40, rel=1e-4)
    assert mask_dice(-perfect, masks).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("loss", [mask_bce, mask_dice])
def test_no_mask_no_loss(loss):
    assert loss(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4)).item() == 0


def scene(num_objects=3):
    """K objects side by side on a 6-row grid, two columns each: float [K, 6, 2K]."""
    masks = np.zeros((num_objects, 6, 2 * num_objects))
    for k in range(num_objects):
        masks[k, 1:5, 2 * k : 2 * k + 2] = 1 / (k + 1)  # partly filled cells
    return masks


def test_object_choice_by_hand(rng):
    masks = scene()
    heat = rng.normal(0, 2, (2, *masks.shape[1:]))
    meant = np.array([[True, False, False], [False, True, True]])
    mean_heat = np.array([[(h * m).sum() / m.sum() for m in masks] for h in heat])
    share = np.exp(log_softmax(mean_heat))
    expected = -np.mean([np.log(share[0, 0]), np.log(share[1, 1] + share[1, 2])])
    loss = object_choice(torch.from_numpy(heat), torch.from_numpy(masks), torch.from_numpy(meant))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_object_choice_falls_as_the_right_object_gets_hotter():
    masks = torch.from_numpy(scene())
    meant = torch.tensor([[False, True, False]])
    losses = [object_choice(warmth * masks[1:2], masks, meant).item() for warmth in (-2, 0, 1, 3, 9)]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] == pytest.approx(np.log(3), rel=1e-6)
    assert losses[-1] < 0.05
    wrong = [object_choice(warmth * masks[2:3], masks, meant).item() for warmth in (0, 1, 3)]
    assert wrong == sorted(wrong)


@pytest.mark.parametrize(
    "meant",
    [[False, False, False], [True, True, True], [False, False, True]],
    ids=["nothing is meant", "all are meant", "the meant one is not seen"],
)
def test_object_choice_is_zero_with_nothing_to_teach(meant):
    masks = torch.from_numpy(scene())
    masks[2] = 0 if meant == [False, False, True] else masks[2]
    heat = torch.randn(1, *masks.shape[1:], dtype=torch.float64, requires_grad=True)
    loss = object_choice(heat, masks, torch.tensor([meant]))
    loss.backward()
    assert loss.item() == 0
    assert not heat.grad.any()


def test_object_choice_ignores_what_is_not_seen_and_turns_that_teach_nothing():
    masks = torch.from_numpy(scene())
    masks[2] = 0
    heat = torch.randn(2, *masks.shape[1:], dtype=torch.float64, requires_grad=True)
    meant = torch.tensor([[True, False, True], [True, True, False]])  # the second means all that is seen
    loss = object_choice(heat, masks, meant)
    alone = object_choice(heat[:1], masks[:2], meant[:1, :2])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-9)
    loss.backward()
    assert torch.isfinite(heat.grad).all()
    assert heat.grad[0].any()
    assert not heat.grad[1].any()


def test_cell_choice_by_hand(rng):
    heat, _ = draw(rng, 2)
    masks = np.zeros_like(heat)
    masks[0, 1, 2], masks[0, 1, 3], masks[1, 4, 6] = 1.0, 0.5, 0.25
    log_share = log_softmax(heat.reshape(2, -1)).reshape(heat.shape)
    first = -(log_share[0, 1, 2] / 1.5 + log_share[0, 1, 3] * 0.5 / 1.5)
    expected = (first - log_share[1, 4, 6]) / 2
    loss = cell_choice(torch.from_numpy(heat), torch.from_numpy(masks))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_meaning_loss_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0], [1.0, 0.0, -2.0, 4.0]], dtype=torch.float64)
    fits = torch.tensor([[True, False, False, True], [False, False, False, False]])
    known = torch.tensor([[True, True, True, False], [True, True, True, False]])
    softplus = torch.nn.functional.softplus
    first = softplus(-logits[0, 0]) + MISTAKEN_WEIGHT * softplus(logits[0, 1:3]).mean()
    first = first + 0.5 * (logits[0, :3].logsumexp(0) - logits[0, 0])
    second = MISTAKEN_WEIGHT * softplus(logits[1, :3]).mean()
    assert meaning_loss(logits, fits, known).item() == pytest.approx(((first + second) / 2).item(), rel=1e-9)


def test_meaning_loss_does_not_see_what_is_not_known():
    logits = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    known = torch.rand(4, 9) < 0.7
    fits = torch.rand(4, 9) < 0.3
    meaning_loss(logits, fits, known).backward()
    assert torch.equal(logits.grad != 0, known)
