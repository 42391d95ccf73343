"""Attention rollout: caught queries and keys, the row vector against the explicit product."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    Qwen2Config,
    Qwen2Model,
    Qwen2VLTextConfig,
    Qwen2VLTextModel,
    Qwen3VLTextConfig,
    Qwen3VLTextModel,
)

from model.steering.attention_rows import LayerAttention, recorded_attention
from model.steering.checkpointing import checkpoint_layers
from model.steering.rollout import RolloutSettings, rollout_row

LENGTH, WIDTH, LAYERS = 21, 32, 4
VISUAL = torch.arange(5, 14)
SIZES = {
    "vocab_size": 50, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
# The language models of SmolVLM (Llama), InternVL3 and LLaVA-OneVision (Qwen2) and the three Qwen-VL.
FAMILIES = {
    "llama": (LlamaModel, LlamaConfig, {}),
    "qwen2": (Qwen2Model, Qwen2Config, {}),
    "qwen2_vl": (Qwen2VLTextModel, Qwen2VLTextConfig, ROPE),
    "qwen2_5_vl": (Qwen2_5_VLTextModel, Qwen2_5_VLTextConfig, ROPE),
    "qwen3_vl": (Qwen3VLTextModel, Qwen3VLTextConfig, ROPE | {"head_dim": 8}),
    "mistral, sliding window": (MistralModel, MistralConfig, {"sliding_window": 6, "head_dim": 8}),
    "qwen2, sliding window": (
        Qwen2Model,
        Qwen2Config,
        {"sliding_window": 6, "use_sliding_window": True, "max_window_layers": 2},
    ),
}


def build(family: str, attention: str = "sdpa", dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    kind, config, extra = FAMILIES[family]
    model = kind._from_config(config(**SIZES, **extra), attn_implementation=attention)
    for parameter in model.parameters():  # the usual small start makes attention nearly even
        torch.nn.init.normal_(parameter, std=0.35) if parameter.ndim > 1 else None
    return model.to(dtype).eval()


def embeds(dtype: torch.dtype = torch.float32, length: int = LENGTH) -> torch.Tensor:
    return torch.randn(1, length, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def explicit_rollout(attentions: dict[int, torch.Tensor], start: int, options: RolloutSettings):
    """The whole product of L x L matrices, and of it one row. attentions: [H, L, L] of each layer."""
    identity = torch.eye(start + 1, dtype=next(iter(attentions.values())).dtype)
    product = identity
    for number in sorted(attentions):
        weights = attentions[number][:, : start + 1, : start + 1]
        share = torch.ones(len(weights), dtype=weights.dtype)
        if options.head_weights == "vmax":
            share = weights[:, :, VISUAL].max(2).values.mean(1)
            share = share / share.max()
        mean = sum(w * matrix for w, matrix in zip(share, weights, strict=True)) / len(weights)
        product = ((1 - options.residual) * mean + options.residual * identity) @ product
    return product[start]


@pytest.mark.parametrize("head_weights", ["vmax", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_product_of_the_librarys_own_attention(family: str, head_weights: str) -> None:
    options = RolloutSettings(head_weights=head_weights, chunk=5)
    eager = build(family, "eager")
    with torch.no_grad():
        weights = eager(inputs_embeds=embeds(), output_attentions=True).attentions
    explicit = explicit_rollout(
        {number: weights[number][0] for number in options.layers(LAYERS)}, LENGTH - 1, options
    )
    assert explicit.std() > 1e-3
    for attention in ("sdpa", "eager"):
        model = build(family, attention)
        with torch.no_grad(), recorded_attention(model, options.layers(LAYERS)) as record:
            model(inputs_embeds=embeds())
        assert sorted(record) == [2, 3]
        row = rollout_row(record, LENGTH - 1, VISUAL, options)
        torch.testing.assert_close(row, explicit, atol=1e-5, rtol=0)


@given(
    heads=st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    length=st.integers(15, 40),
    back=st.integers(0, 3),
    chunk=st.integers(1, 50),
    window=st.sampled_from([None, 3, 20]),
    residual=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    head_weights=st.sampled_from(["vmax", "mean"]),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_exact_in_double_precision(heads, length, back, chunk, window, residual, head_weights, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    record, weights, start = {}, {}, length - 1 - min(back, length - 15)
    for number in range(2, 5):
        query, key = (torch.randn(n, length, 8, generator=generator).double() for n in heads)
        record[number] = LayerAttention(query, key, 0.7, window=window)
        behind = torch.arange(length)[:, None] - torch.arange(length)
        unseen = (behind < 0) | (behind >= (window or length))
        scores = query @ key.repeat_interleave(heads[0] // heads[1], 0).transpose(1, 2) * 0.7
        weights[number] = scores.masked_fill(unseen, -torch.inf).softmax(-1)
    options = RolloutSettings(None, head_weights, residual, chunk)
    row = rollout_row(record, start, VISUAL, options)
    assert (row.dtype, row.shape) == (torch.float64, (length,))
    torch.testing.assert_close(
        row[: start + 1], explicit_rollout(weights, start, options), atol=1e-10, rtol=0
    )
    assert row.min() >= 0
    assert row.sum() <= 1 + 1e-12
    assert not row[start + 1 :].any()
    text = torch.ones(length, dtype=torch.bool).index_fill(0, VISUAL, False)
    torch.testing.assert_close(row[VISUAL].sum() + row[text].sum(), row.sum(), atol=1e-12, rtol=0)
    if head_weights == "mean":
        torch.testing.assert_close(row.sum(), torch.tensor(1.0).double(), atol=1e-12, rtol=0)


def test_attention_in_bf16_is_made_in_float32() -> None:
    options = RolloutSettings()
    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = build("qwen2_vl", dtype=torch.bfloat16).to(dtype)
        with torch.no_grad(), recorded_attention(model, options.layers(LAYERS)) as record:
            model(inputs_embeds=embeds(torch.bfloat16).to(dtype))
        assert record[3].query.dtype == dtype
        with torch.autocast("cpu", torch.bfloat16):
            rows[dtype] = rollout_row(record, LENGTH - 1, VISUAL, options)
        assert rows[dtype].dtype == torch.float32
    exact = rollout_row(
        {
            n: LayerAttention(layer.query.double(), layer.key.double(), layer.scale)
            for n, layer in record.items()
        },
        LENGTH - 1,
        VISUAL,
        options,
    )
    torch.testing.assert_close(rows[torch.bfloat16].double(), exact, atol=1e-6, rtol=0)
    correlation = torch.corrcoef(torch.stack(list(rows.values())))[0, 1]
    assert correlation > 0.98  # what is left is the model's own rounding


def test_flash_kernels_are_handed_everything_under_their_own_name(monkeypatch) -> None:
    """No flash kernel runs here: one that acts like it (no square mask, a window by option) stands in."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    seen = []

    def flash(module, query, key, value, attention_mask, sliding_window=None, scaling=None, **options):
        seen.append((module.config._attn_implementation, attention_mask, sliding_window))
        groups = query.shape[1] // key.shape[1]
        behind = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
        visible = (behind >= 0) & (behind < (sliding_window or LENGTH))
        out = torch.nn.functional.scaled_dot_product_attention(
            query,
            key.repeat_interleave(groups, 1),
            value.repeat_interleave(groups, 1),
            visible,
            scale=scaling,
        )
        return out.transpose(1, 2).contiguous(), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", flash)
    monkeypatch.setitem(
        ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", lambda *a, **k: None
    )
    options, rows = RolloutSettings(), []
    for attention in ("sdpa", "flash_attention_2"):
        model = build("mistral, sliding window")
        model.config._attn_implementation_internal = attention
        with torch.no_grad(), recorded_attention(model, options.layers(LAYERS)) as record:
            model(inputs_embeds=embeds())
        rows.append(rollout_row(record, LENGTH - 1, VISUAL, options))
    assert seen == [("flash_attention_2", None, 6)] * LAYERS
    assert AttentionInterface._global_mapping["flash_attention_2"] is flash
    torch.testing.assert_close(*rows, atol=1e-5, rtol=0)


def test_recording_changes_nothing_and_cleans_up() -> None:
    before = dict(AttentionInterface._global_mapping)
    model, other = build("llama"), build("llama", "eager")
    with torch.no_grad():
        plain = model(inputs_embeds=embeds()).last_hidden_state
        with recorded_attention(model, [1]) as record, recorded_attention(other, [0, 3]) as inner:
            recorded = model(inputs_embeds=embeds()).last_hidden_state
            assert [sorted(record), sorted(inner)] == [[1], []]
            other(inputs_embeds=embeds())
            assert [sorted(record), sorted(inner)] == [[1], [0, 3]]
    assert torch.equal(plain, recorded)
    assert before == AttentionInterface._global_mapping


def test_a_failing_pass_leaves_the_registry_as_it_was() -> None:
    before = dict(AttentionInterface._global_mapping)
    model = build("llama")
    with pytest.raises(ValueError, match="one sequence at a time, not 2"), recorded_attention(model, [1]):
        model(inputs_embeds=embeds().expand(2, -1, -1))
    cache = model(inputs_embeds=embeds(), use_cache=True).past_key_values
    refused = pytest.raises(ValueError, match="whole sequence in one pass, got 3 of 24")
    with refused, recorded_attention(model, [1]):
        model(inputs_embeds=embeds(length=3), past_key_values=cache)
    assert before == AttentionInterface._global_mapping


def test_gradients_with_and_without_checkpointing_agree() -> None:
    options, gradients = RolloutSettings(chunk=6), []
    for checkpointing in (False, True):
        model = build("qwen2_5_vl", dtype=torch.float64).requires_grad_(False)
        calls = []
        if checkpointing:
            checkpoint_layers(model)
            model.layers[1].input_layernorm.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        inputs = embeds(torch.float64).requires_grad_()
        with recorded_attention(model, options.layers(LAYERS)) as record:
            model(inputs_embeds=inputs, use_cache=False)
        row = rollout_row(record, LENGTH - 1, VISUAL, options)
        row[VISUAL[3]].log().backward()
        gradients.append(inputs.grad)
        assert len(calls) == 2 * checkpointing  # once forwards, once more for the way back
    assert gradients[0].abs().max() > 1e-4
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-8)
    # Against finite differences, head weights held still: with "mean" there are none.
    mean = RolloutSettings(head_weights="mean")
    model = build("llama", dtype=torch.float64).requires_grad_(False)

    def mass(inputs: torch.Tensor) -> torch.Tensor:
        with recorded_attention(model, mean.layers(LAYERS)) as record:
            model(inputs_embeds=inputs)
        return rollout_row(record, LENGTH - 1, VISUAL, mean)[VISUAL[3]].log()

    inputs = embeds(torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(mass(inputs), inputs)
    step = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(3)).double() * 1e-3
    with torch.no_grad():
        change = mass(inputs + step) - mass(inputs - step)
    # The library's normalisation rounds to float32 inside the model, hence the tolerance.
    torch.testing.assert_close((gradient * step).sum() * 2, change, atol=3e-6, rtol=1e-2)
    assert change.abs() > 1e-4


def test_questions_packed_together_draw_as_each_alone() -> None:
    options = RolloutSettings(chunk=4)
    model = build("llama")
    segments = torch.tensor([0] * 14 + [1] * 3 + [2] * 4)
    seen = (segments[:, None] == segments) | (segments == 0)
    visible = (seen & torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril())[None, None]
    places = torch.tensor([*range(14), *range(14, 17), *range(14, 18)])[None]
    for number, start in ((1, 16), (2, 20)):
        own = ((segments == 0) | (segments == number)).nonzero()[:, 0]
        with torch.no_grad(), recorded_attention(model, options.layers(LAYERS)) as together:
            model(inputs_embeds=embeds(), attention_mask=visible, position_ids=places)
        with torch.no_grad(), recorded_attention(model, options.layers(LAYERS)) as alone:
            model(inputs_embeds=embeds()[:, own])
        row = rollout_row(together, start, VISUAL, options, rows=own)
        expected = rollout_row(alone, len(own) - 1, VISUAL, options)
        torch.testing.assert_close(row[own], expected, atol=1e-6, rtol=0)
        assert row.count_nonzero() == row[own].count_nonzero()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_weights": "max"}, "vmax or mean"),
        ({"residual": 1.5}, "share in"),
        ({"chunk": 0}, "at least one"),
    ],
)
def test_impossible_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutSettings(**change)


def test_impossible_rollouts_are_refused() -> None:
    layer = LayerAttention(torch.randn(2, 9, 4), torch.randn(1, 9, 4), 0.5)
    with pytest.raises(ValueError, match=r"first_layer is in \[0, 3\]"):
        RolloutSettings(first_layer=4).layers(4)
    with pytest.raises(ValueError, match="at least one recorded layer"):
        rollout_row({}, 3, torch.tensor([1]))
    with pytest.raises(ValueError, match=r"start is a position in \[0, 8\]"):
        rollout_row({0: layer}, 9, torch.tensor([1]))
    for visual in (torch.tensor([], dtype=torch.int64), torch.tensor([2, 5])):
        with pytest.raises(ValueError, match="visual tokens, all of them before it"):
            rollout_row({0: layer}, 4, visual)
    with pytest.raises(ValueError, match="attention of layers"), recorded_attention(build("llama"), [4]):
        pass
