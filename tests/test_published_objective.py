"""The published loss counted mask by mask and token by token, for any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visa.training.published_objective import LossWeights, predicting_states, published_loss

video = st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=50, deadline=None)
@given(st.lists(video, max_size=4), st.integers(0, 4), st.integers(0, 1000))
def test_every_mask_counts_the_same(videos, num_tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(*shape, generator=generator, requires_grad=True) for shape in videos]
    truth = [torch.rand(*shape, generator=generator).round() for shape in videos]
    token_logits = torch.randn(num_tokens, 7, generator=generator, requires_grad=True)
    tokens = torch.arange(num_tokens)
    weights = LossWeights(text=1.5, bce=3.0, dice=0.25)
    loss = published_loss(token_logits, tokens, logits, truth, weights)

    bce, dice = [], []
    for many_logits, many_truths in zip(logits, truth, strict=True):
        for mask_logits, mask in zip(many_logits, many_truths, strict=True):
            prob = mask_logits.sigmoid()
            bce.append(-(mask * prob.log() + (1 - mask) * (1 - prob).log()).mean().item())
            both = 2 * (prob * mask).sum().item() / 1000
            total = (prob.sum() + mask.sum()).item() / 1000
            dice.append(1 - (both + 1e-6) / (total + 1e-6))
    said = [
        (row.exp().sum().log() - row[token]).item() for row, token in zip(token_logits, tokens, strict=True)
    ]
    count = max(1, len(bce))
    assert loss.bce.item() == pytest.approx(3.0 * sum(bce) / count, rel=1e-4, abs=1e-6)
    assert loss.dice.item() == pytest.approx(0.25 * sum(dice) / count, rel=1e-4, abs=1e-6)
    assert loss.text.item() == pytest.approx(1.5 * sum(said) / max(1, num_tokens), rel=1e-4, abs=1e-6)
    assert loss.total.item() == pytest.approx((loss.text + loss.bce + loss.dice).item())
    loss.total.backward()
    assert all(each.grad.isfinite().all() for each in (*logits, token_logits) if each.grad is not None)


def test_states_before_counted_tokens_predict_them():
    hidden = torch.arange(10.0).reshape(2, 5, 1)
    labels = torch.tensor([[-100, 4, -100, 5, 6], [3, -100, -100, -100, 7]])
    states, tokens = predicting_states(hidden, labels)
    assert tokens.tolist() == [4, 5, 6, 7]  # what stands first is predicted by nothing
    assert states[:, 0].tolist() == [0, 2, 3, 8]


def test_other_masks_than_predicted_are_named():
    with pytest.raises(ValueError, match=r"\[\[1, 2, 2\]\]"):
        published_loss(
            torch.zeros(0, 3), torch.zeros(0).long(), [torch.zeros(1, 2, 2)], [torch.zeros(2, 2, 2)]
        )
