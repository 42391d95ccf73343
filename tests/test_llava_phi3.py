"""LLaVA-Phi-3 and VideoLISA: tokens, the sliding window, batches, masks on every frame."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import Phi3Config, Phi3ForCausalLM

from model.llava_phi3.every_frame import decode_every_frame
from model.llava_phi3.language import phi3_config
from model.llava_phi3.sparse_dense import sparse_dense_grids, sparse_dense_tokens
from model.llava_phi3.videolisa import VideoLisaModel
from model.mllm.layout import FrameSpan
from model.mllm.splicing import embed
from model.sam.segmenter import FrameFeatures, SamSegmenter
from model.seg_head import as_prompt
from tests.tiny_videolisa import PATCHES, PHI3, SEG, conversation, frames, tiny_videolisa

ATTENTION = ["eager", "sdpa"]


def test_a_video_is_a_mean_for_each_frame_and_all_patches_of_a_few() -> None:
    tokens = torch.randn(4, 6, 5)
    video = sparse_dense_tokens(tokens, [2, 0])
    assert video.shape == (4 + 2 * 6, 5)
    for t in range(4):
        torch.testing.assert_close(video[t], tokens[t].mean(0))
    assert torch.equal(video[4:10], tokens[0])
    assert torch.equal(video[10:], tokens[2])


@pytest.mark.parametrize("dense", [[4], [-1], [0, 9]])
def test_a_dense_frame_that_was_not_sampled_is_refused(dense: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must lie in 0 \.\.\. 3"):
        sparse_dense_tokens(torch.randn(4, 6, 5), dense)


def test_patches_that_make_no_square_are_refused() -> None:
    assert sparse_dense_grids(2, 1, 9) == ((1, 1), (1, 1), (3, 3))
    with pytest.raises(ValueError, match="square, got 8"):
        sparse_dense_grids(2, 1, 8)


def test_visual_tokens_are_projected_before_they_are_averaged() -> None:
    model = tiny_videolisa()
    images = frames(3)
    first, _, second = model.projector
    hidden = functional.gelu(functional.linear(model.tower(images), first.weight, first.bias))
    projected = functional.linear(hidden, second.weight, second.bias)
    expected = torch.cat([projected.mean(1), projected[1]])
    torch.testing.assert_close(model.visual_tokens(images, [1]), expected)


def test_the_layout_knows_every_frame() -> None:
    model = tiny_videolisa()
    batch = model.splice([conversation([5, 6], [SEG, 2])], [model.visual_counts(3, 2)])
    (layout,) = batch.layouts
    start = 2
    assert layout.frames[:3] == tuple(FrameSpan(start + t, 1, 1) for t in range(3))
    assert layout.frames[3:] == (FrameSpan(start + 3, 2, 2), FrameSpan(start + 3 + PATCHES, 2, 2))
    assert layout.length == 2 + 3 + 2 * PATCHES + 4


def test_the_published_window_leaves_out_the_token_itself() -> None:
    assert phi3_config({"sliding_window": 2047}).sliding_window == 2048
    assert phi3_config({"sliding_window": None}).sliding_window is None
    assert phi3_config({}).sliding_window is None


def test_only_what_the_language_model_knows_is_read_from_a_checkpoint() -> None:
    published = {
        "model_type": "llava_phi",
        "mm_vision_tower": "clip",
        "rope_theta": 500.0,
        "rope_scaling": None,
    }
    config = phi3_config({**PHI3, **published})
    assert config.model_type == "phi3"
    assert config.rope_parameters["rope_theta"] == 500.0
    assert config.vocab_size == PHI3["vocab_size"]
    assert not hasattr(config, "mm_vision_tower")


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("window", [None, 1, 4])
def test_a_token_sees_itself_and_as_many_before_it_as_the_window_says(
    attention: str, window: int | None
) -> None:
    model = tiny_videolisa(window, attention, layers=1)
    length = 9
    embeds = torch.randn(1, length, PHI3["hidden_size"], requires_grad=True)
    states = model.language.get_decoder()(inputs_embeds=embeds).last_hidden_state[0]
    for query in range(length):
        (gradient,) = torch.autograd.grad(states[query].square().sum(), embeds, retain_graph=True)
        seen = gradient[0].abs().sum(-1).nonzero()[:, 0].tolist()
        first = 0 if window is None else max(0, query - window)
        assert seen == list(range(first, query + 1))


@pytest.mark.parametrize("attention", ATTENTION)
@torch.no_grad()
def test_hidden_states_are_those_of_transformers(attention: str) -> None:
    model = tiny_videolisa(None, attention)
    ids = conversation([5, 6, 7], [9, SEG, 2])
    tokens = model.visual_tokens(frames(3), [0])
    reference = Phi3ForCausalLM(Phi3Config(**PHI3)).eval()
    reference.load_state_dict(model.language.state_dict())
    words = reference.get_input_embeddings()
    embeds = torch.cat([words(ids[:2]), tokens, words(ids[3:])])[None]
    expected = reference(inputs_embeds=embeds, output_hidden_states=True)
    batch = model.splice([ids], [model.visual_counts(3, 1)])
    hidden = model(batch, [tokens])
    torch.testing.assert_close(hidden, expected.hidden_states[-1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.logits(hidden), expected.logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("window", [None, 3])
@torch.no_grad()
def test_a_row_is_read_alike_alone_and_beside_longer_ones(attention: str, window: int | None) -> None:
    model = tiny_videolisa(window, attention)
    rows = [conversation([5, 6, 7, 8], [9, SEG, 2]), conversation([3], [SEG]), torch.tensor([1, 4])]
    shown = [(frames(3, seed=1), [0, 2]), (frames(2, seed=2), [1]), None]
    tokens = [torch.zeros(0, PHI3["hidden_size"]) if s is None else model.visual_tokens(*s) for s in shown]
    counts = [() if s is None else model.visual_counts(len(s[0]), len(s[1])) for s in shown]
    batch = model.splice(rows, counts)
    hidden = model(batch, tokens)
    assert hidden.isfinite().all()
    embeddings = model.seg_embeddings(hidden, batch)
    for index, row in enumerate(rows):
        alone = model.splice([row], [counts[index]])
        states = model(alone, [tokens[index]])
        torch.testing.assert_close(hidden[index, : states.shape[1]], states[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            embeddings[index], model.seg_embeddings(states, alone)[0], atol=1e-5, rtol=1e-5
        )
    assert [len(found) for found in embeddings] == [1, 1, 0]


@pytest.mark.parametrize(("seg_state", "shift"), [("predicting", 1), ("at_token", 0)])
@torch.no_grad()
def test_seg_state_says_which_state_points(seg_state: str, shift: int) -> None:
    model = tiny_videolisa(seg_state=seg_state)
    ids = conversation([5, 6], [9, SEG, 4, SEG, 2])
    tokens = model.visual_tokens(frames(2), [1])
    batch = model.splice([ids], [model.visual_counts(2, 1)])
    hidden = model(batch, [tokens])
    places = [hidden.shape[1] - 4 - shift, hidden.shape[1] - 2 - shift]
    torch.testing.assert_close(model.seg_embeddings(hidden, batch)[0], model.seg_head(hidden[0, places]))


def test_an_unknown_seg_state_is_refused() -> None:
    with pytest.raises(ValueError, match="'predicting' or 'at_token', not 'after'"):
        tiny_videolisa(seg_state="after")


@torch.no_grad()
def test_every_frame_is_asked_the_same_and_answers_frame_by_frame() -> None:
    model = tiny_videolisa(sam=True)
    features = FrameFeatures(torch.randn(3, 256, 4, 4), (), (64, 48), (32, 24))
    segmenter = SamSegmenter(model.visual_model)
    embeddings = torch.randn(2, 256)
    prediction = decode_every_frame(segmenter, features, embeddings)
    assert prediction.mask_logits.shape == (6, 1, 16, 16)
    for t in range(3):
        for n in range(2):
            alone = segmenter.decode(features, as_prompt(embeddings[n : n + 1]), frame_index=t)
            torch.testing.assert_close(prediction.mask_logits[2 * t + n], alone.mask_logits[0])
            torch.testing.assert_close(prediction.iou[2 * t + n], alone.iou[0])
    assert decode_every_frame(segmenter, features, embeddings[:0]).mask_logits.shape == (0, 1, 16, 16)


def seg_states_of(model: VideoLisaModel, images: Tensor) -> Tensor:
    batch = model.splice([conversation([5, 6], [SEG, 2])], [model.visual_counts(len(images), 1)])
    return model.seg_embeddings(model(batch, [model.visual_tokens(images, [0])]), batch)[0]


@torch.no_grad()
def test_half_precision_language_with_a_head_in_full() -> None:
    model = tiny_videolisa(window=3)
    exact = seg_states_of(model, frames(2))
    model.language.to(torch.bfloat16)
    model.tower.to(torch.bfloat16)
    rough = seg_states_of(model, frames(2))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1
    assert seg_states_of(model.to(torch.bfloat16), frames(2)).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's, of transformers
@torch.no_grad()
def test_adapters_in_the_language_model_take_part() -> None:
    model = tiny_videolisa()
    before = seg_states_of(model, frames(2))
    adapted = get_peft_model(model.language, LoraConfig(target_modules=["qkv_proj"], r=2))
    model.language = adapted.eval()
    torch.testing.assert_close(seg_states_of(model, frames(2)), before)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    assert not torch.allclose(seg_states_of(model, frames(2)), before, atol=1e-3)


def test_gradients_reach_what_is_trained_and_the_tower_stays() -> None:
    model = tiny_videolisa().train()
    batch = model.splice([conversation([5], [SEG])], [model.visual_counts(2, 1)])
    embeds = embed(batch, model.language.get_input_embeddings(), [model.visual_tokens(frames(2), [0])])
    assert embeds.requires_grad
    seg_states_of(model, frames(2)).square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.tower.parameters())
    assert all(p.grad is not None for p in model.seg_head.parameters())
    assert all(p.grad is not None for p in model.projector.parameters())
    assert model.language.get_input_embeddings().weight.grad.abs().sum() > 0
