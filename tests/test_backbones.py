"""Vision-language models behind one face: where the layout says a cell is, there the picture is seen."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_backbones import FAMILIES, tiny_backbone, tiny_model, tiny_tokenizer

from model.backbones.backbone import ChatTurn
from model.backbones.families import backbone_for, family_names
from model.backbones.patches import fitted_size
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPlace

QUESTION = [ChatTurn("user", "where is the cat?")]
STREAMS = ("frame", "video")
# Frame sizes (height, width) that each family takes without resizing, so that a cell's pixels stay its own.
EXACT = {
    "qwen2_vl": [(112, 56), (56, 112)],
    "qwen2_5_vl": [(112, 56), (56, 112)],
    "qwen3_vl": [(128, 64), (64, 128)],
    "internvl": [(56, 56)],
    "llava_onevision": [(56, 56), (56, 28), (28, 56)],
    "smolvlm": [(64, 64)],
}
OUTPUTS = ("attn.proj", "attention.projection_layer", "self_attn.out_proj")
both = pytest.mark.parametrize("stream", STREAMS)
every = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request):
    return tiny_backbone(request.param)


def noise(count, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def without_mixing(backbone):
    """The same backbone; the tower's attention adds nothing, so that a patch sees itself alone."""
    for name, module in backbone.core.named_modules():
        if name.endswith(OUTPUTS) and not name.startswith(("language_model", "text_model")):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return backbone


def embeddings(backbone, packed):
    """What the language model is given: float [L, D]."""
    caught = []
    hook = backbone.language_model.register_forward_pre_hook(
        lambda module, args, named: caught.append(named["inputs_embeds"][0].detach()), with_kwargs=True
    )
    try:
        with torch.no_grad():
            backbone(packed)
    finally:
        hook.remove()
    return caught[0]


def test_every_family_is_tested():
    assert family_names() == sorted(FAMILIES)


@every
@both
def test_a_changed_cell_changes_what_stands_at_its_position_and_nothing_else(family, stream):
    backbone = without_mixing(tiny_backbone(family))
    for height, width in EXACT[family]:
        if family == "llava_onevision" and stream == "video" and height != width:
            continue  # pressed into a square: resized
        frames = noise(3, height, width)
        packed = backbone.pack(frames, QUESTION, stream=stream)
        before = embeddings(backbone, packed)
        shown = [frame for span in packed.layout.frames for frame in span.shows]
        assert shown == [0, 1, 2]
        for span in packed.layout.frames:
            cells = span.positions().view(span.rows, span.cols)
            for frame in span.shows:
                for row, col in {(0, 0), (span.rows - 1, 0), (span.rows // 2, span.cols - 1)}:
                    part = (slice(row * height // span.rows, (row + 1) * height // span.rows),)
                    part += (slice(col * width // span.cols, (col + 1) * width // span.cols),)
                    other = frames.copy()
                    other[frame][part] = 255 - other[frame][part]
                    after = embeddings(backbone, backbone.pack(other, QUESTION, stream=stream))
                    changed = (before - after).abs().amax(1).nonzero()[:, 0].tolist()
                    assert changed == [cells[row, col]]


def test_one_picture_in_tiles_has_its_cells_between_newlines():
    backbone = without_mixing(tiny_backbone("llava_onevision"))
    height, width, side = 168, 112, 14  # three tiles by two, of four cells by four
    frames = noise(1, height, width)
    packed = backbone.pack(frames, QUESTION, stream="frame")
    (span,) = packed.layout.frames
    assert (span.rows, span.cols, span.row_stride) == (12, 8, 9)
    before = embeddings(backbone, packed)
    for row, col in [(0, 0), (5, 3), (11, 7)]:
        other = frames.copy()
        other[0, row * side : (row + 1) * side, col * side : (col + 1) * side] ^= 255
        after = embeddings(backbone, backbone.pack(other, QUESTION, stream="frame"))
        changed = (before - after).abs().amax(1).nonzero()[:, 0].tolist()
        thumbnail = [position for position in changed if position < span.start]
        assert thumbnail
        assert changed[len(thumbnail) :] == [span.positions().view(12, 8)[row, col]]
    # The end of each row is the same newline, and no cell.
    ends = [span.start + row * 9 + 8 for row in range(12)]
    assert not set(ends) & set(span.positions().tolist())
    assert torch.equal(before[ends], backbone.core.image_newline.detach().expand(12, -1))


@both
@pytest.mark.parametrize(("height", "width"), [(90, 170), (170, 90), (33, 200)])
def test_frames_of_any_shape_are_seen_where_the_layout_says(backbone, stream, height, width):
    frames = np.full((5, height, width, 3), 90, np.uint8)
    packed = backbone.pack(frames, QUESTION, stream=stream)
    before = embeddings(backbone, packed)
    for span in packed.layout.frames:
        frame = span.shows[-1]
        assert frame in (0, 1, 2, 3, 4)
        other = frames.copy()
        row, col = span.rows - 1, span.cols // 2
        top, left = (2 * row + 1) * height // (2 * span.rows), (2 * col + 1) * width // (2 * span.cols)
        other[frame, max(0, top - 2) : top + 3, max(0, left - 2) : left + 3] = 255
        after = embeddings(backbone, backbone.pack(other, QUESTION, stream=stream))
        most = int((before - after).abs().sum(1)[span.positions()].argmax())
        found_row, found_col = divmod(most, span.cols)
        assert abs(found_row - row) <= 1
        assert abs(found_col - col) <= 1


def test_a_video_of_an_odd_number_of_frames_ends_in_a_patch_of_one():
    backbone = tiny_backbone("qwen2_5_vl")
    spans = backbone.pack(noise(5, 60, 60), QUESTION, stream="video").layout.frames
    assert [span.shows for span in spans] == [(0, 1), (2, 3), (4,)]
    assert [s.shows for s in backbone.pack(noise(1, 60, 60), QUESTION, stream="video").layout.frames] == [
        (0,)
    ]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(20, 300), width=st.integers(20, 300), most=st.integers(60, 120))
def test_a_frame_takes_at_most_the_tokens_it_may(family, height, width, most):
    backbone = cached(family)
    packed = backbone.pack(noise(1, height, width), QUESTION, stream="frame", max_tokens_per_frame=most)
    config = backbone.model.config
    assert int((packed.inputs["input_ids"] == config.image_token_id).sum()) <= most
    (span,) = packed.layout.frames
    # about of the frame's shape, as far as so few cells allow
    assert abs(span.rows - span.cols * height / width) <= 1 + max(1, height / width)
    with torch.no_grad():
        assert backbone(packed).hidden.isfinite().all()


CACHE = {}


def cached(family):
    if family not in CACHE:
        CACHE[family] = tiny_backbone(family)
    return CACHE[family]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(2, 60), st.integers(1, 8))
def test_fitted_sizes_are_whole_cells_within_bounds(height, width, most, fewest):
    fewest = min(fewest, most)
    try:
        rows, cols = (length / 28 for length in fitted_size(height, width, 28, fewest, most))
    except ValueError:
        return  # too narrow for so few cells
    assert rows == int(rows) >= 1
    assert cols == int(cols) >= 1
    assert fewest <= rows * cols <= most or rows * cols < fewest * 2


@both
def test_words_of_a_soft_prompt_say_what_the_same_words_say(backbone, stream):
    """A prompt of the embedding of "X" is a text with an "X" in its place: positions, answers and all."""
    frames = noise(3, 60, 90)
    vectors = backbone.model.get_input_embeddings().weight.detach()
    letter = backbone.tokenizer("X").input_ids[0]
    plain = backbone.pack(frames, [ChatTurn("user", "Xq")], stream=stream)
    steered = backbone.pack(frames, [ChatTurn("user", "q")], stream=stream, soft=SoftPlace(1, "before_text"))
    assert steered.length == plain.length
    with torch.no_grad():
        expected = backbone(plain)
        got = backbone(steered, soft_prompt=vectors[[letter]])
    torch.testing.assert_close(got.hidden, expected.hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert backbone.generate(steered, 6, vectors[[letter]]) == backbone.generate(plain, 6)


@both
def test_a_soft_prompt_before_the_frames_stands_before_the_frames(backbone, stream):
    frames = noise(2, 60, 90)
    place = SoftPlace(3, "before_vision")
    plain = backbone.pack(frames, QUESTION, stream=stream)
    packed = backbone.pack(frames, QUESTION, stream=stream, soft=place)
    assert packed.soft.stop - packed.soft.start == 3
    assert packed.soft.stop <= packed.layout.frames[0].start
    moved = [span.start - 3 for span in packed.layout.frames]
    assert moved == [span.start for span in plain.layout.frames]
    # The ids around the room are those without it.
    ids = packed.inputs["input_ids"][0].tolist()
    assert ids[: packed.soft.start] + ids[packed.soft.stop :] == plain.inputs["input_ids"][0].tolist()
    words = torch.randn(3, backbone.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (backbone(packed, soft_prompt=scale * words).hidden for scale in (1, 2))
    assert torch.equal(one[:, : packed.soft.start], two[:, : packed.soft.start])
    assert not torch.allclose(one[:, -1], two[:, -1])


def test_gradients_reach_the_soft_prompt_through_hidden_states_and_attention(backbone):
    prompt = torch.randn(2, backbone.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    packed = backbone.pack(noise(1, 60, 60), QUESTION, stream="frame", soft=SoftPlace(2))
    out = backbone(packed, soft_prompt=prompt, return_attention=RolloutSettings())
    for value in (out.hidden[0, -1].sum(), out.rollout[packed.visual_positions()].sum()):
        (gradient,) = torch.autograd.grad(value, prompt, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_a_rollout_is_a_share_of_every_token(backbone):
    packed = backbone.pack(noise(2, 60, 60), QUESTION, stream="frame")
    with torch.no_grad():
        out = backbone(packed, return_attention=RolloutSettings(head_weights="mean"))
        plain = backbone(packed)
    assert out.rollout.shape == (packed.length,)
    assert out.rollout.dtype == torch.float32
    assert out.rollout.sum().item() == pytest.approx(1, abs=1e-4)
    assert out.rollout.min() >= 0
    assert plain.rollout is None
    assert torch.equal(out.hidden, plain.hidden)


def test_face(backbone):
    assert (backbone.width, backbone.num_layers) == (64, 2)
    assert len(backbone.language_model.layers) == 2
    assert backbone.dtype == torch.float32
    packed = backbone.pack(noise(1, 60, 60), QUESTION, stream="frame")
    with torch.no_grad():
        out = backbone(packed)
    assert out.hidden.shape == (1, packed.length, 64)
    assert torch.equal(out.logits, backbone.logits(out.hidden[:, -1:]))


def test_bfloat16(backbone):
    half = tiny_backbone(backbone.family)
    half.model.to(torch.bfloat16)
    packed = half.pack(noise(2, 60, 60), QUESTION, stream="video", soft=SoftPlace(2))
    out = half(packed, soft_prompt=torch.randn(2, 64), return_attention=RolloutSettings())
    assert out.hidden.dtype == torch.bfloat16
    assert out.rollout.dtype == torch.float32
    assert out.rollout.isfinite().all()


def test_what_cannot_be_packed_is_told(backbone):
    frames = noise(1, 60, 60)
    with pytest.raises(ValueError, match="stream must be"):
        backbone.pack(frames, QUESTION, stream="sound")
    with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\]"):
        backbone.pack(frames[0], QUESTION, stream="frame")
    with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\]"):
        backbone.pack(frames[:0], QUESTION, stream="frame")
    with pytest.raises(ValueError, match="got none"):
        backbone.pack(frames, [], stream="frame")
    with pytest.raises(ValueError, match="user and assistant in turns"):
        backbone.pack(frames, [ChatTurn("assistant", "hm")], stream="frame")
    with pytest.raises(ValueError, match="generate=False"):
        backbone.pack(frames, [*QUESTION, ChatTurn("assistant", "there")], stream="frame")
    with pytest.raises(ValueError, match="as many times"):
        backbone.pack(frames, QUESTION, stream="frame", seconds=[0.0, 1.0])
    with pytest.raises(ValueError, match="visual tokens"):
        backbone.pack(noise(1, 300, 40), QUESTION, stream="frame", max_tokens_per_frame=1)


def test_a_soft_prompt_without_its_room_is_refused_and_the_other_way_round(backbone):
    frames = noise(1, 60, 60)
    plain = backbone.pack(frames, QUESTION, stream="frame")
    roomy = backbone.pack(frames, QUESTION, stream="frame", soft=SoftPlace(4))
    for packed, prompt in [(plain, torch.randn(4, 64)), (roomy, None)]:
        with pytest.raises(ValueError, match="room"):
            backbone(packed, soft_prompt=prompt)
    for prompt in (torch.randn(3, 64), torch.randn(4, 32)):
        with pytest.raises(ValueError, match=r"must be \[4, 64\]"):
            backbone(roomy, soft_prompt=prompt)


def test_a_model_without_an_adapter_is_told():
    tokenizer = tiny_tokenizer("qwen2_vl")
    model = tiny_model("qwen2_vl", tokenizer)
    model.config.model_type = "blip"
    with pytest.raises(ValueError, match="no adapter for a blip: expected one of internvl, llava_onevision"):
        backbone_for(model, tokenizer)


def test_another_models_tokenizer_is_refused():
    tokenizer = tiny_tokenizer("qwen2_vl")
    with pytest.raises(ValueError, match="no <img>"):
        backbone_for(tiny_model("internvl", tiny_tokenizer("internvl")), tokenizer)
