"""The embedded MLLM with a backbone's face: packing, soft prompts, attention and words."""

import numpy as np
import pytest
import torch
from torch import nn

from model.backbones.backbone import ChatTurn
from model.backbones.embedded import EmbeddedBackbone
from model.mllm.packing import collate
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPlace
from tests.tiny_mllm import random_cells, tiny_mllm
from tests.tiny_training import TinyTower

QUESTION = [ChatTurn("user", "the goat <|im_end|>")]
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone() -> EmbeddedBackbone:
    torch.manual_seed(0)
    mllm = tiny_mllm(tower=TinyTower())
    for parameter in mllm.language.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return EmbeddedBackbone(mllm.requires_grad_(False))


def test_what_it_is(backbone: EmbeddedBackbone) -> None:
    assert (backbone.family, backbone.width, backbone.num_layers) == ("embedded", 32, 2)
    assert backbone.language_model.layers[1].self_attn is not None
    assert (backbone.dtype, backbone.device.type) == (torch.float32, "cpu")


def test_a_frame_is_the_target_and_a_clips_frames_are_equal(backbone: EmbeddedBackbone) -> None:
    frame = backbone.pack(FRAMES[:1], QUESTION, stream="frame", max_tokens_per_frame=6)
    video = backbone.pack(FRAMES, QUESTION, stream="video", max_tokens_per_frame=6)
    assert [(span.rows, span.cols) for span in video.layout.frames] == [(2, 3)] * 3
    assert len(frame.layout.frames) == 1
    words = [
        backbone.mllm.tokenizer.decode(packed.inputs["batch"].ids[0][~packed.inputs["batch"].visual[0]])
        for packed in (frame, video)
    ]
    assert "target 0%:" in words[0]
    assert "target" not in words[1]
    assert [f"{percent}%:" in words[1] for percent in (0, 50, 100)] == [True] * 3
    timed = backbone.pack(FRAMES, QUESTION, stream="video", max_tokens_per_frame=6, seconds=[1.0, 1.5, 3.0])
    assert "25%:" in backbone.mllm.tokenizer.decode(timed.inputs["batch"].ids[0])
    # What looks like a control token in a question stays characters: no turn ends there.
    ids = frame.inputs["batch"].ids[0].tolist()
    assert ids.count(backbone.mllm.packer.end_id) == 1


@pytest.mark.parametrize("position", ["before_vision", "before_text"])
def test_room_for_a_soft_prompt(backbone: EmbeddedBackbone, position: str) -> None:
    plain = backbone.pack(FRAMES, QUESTION, stream="video", max_tokens_per_frame=6)
    packed = backbone.pack(
        FRAMES, QUESTION, stream="video", max_tokens_per_frame=6, soft=SoftPlace(4, position)
    )
    assert packed.length == plain.length + 4
    first, last = packed.layout.frames[0].start, packed.layout.frames[-1].stop
    assert packed.soft.stop <= first if position == "before_vision" else packed.soft.start == last
    ids, batch = plain.inputs["batch"].ids[0], packed.inputs["batch"]
    kept = torch.ones(packed.length, dtype=torch.bool)
    kept[packed.soft] = False
    assert torch.equal(batch.ids[0][kept], ids)
    assert torch.equal(batch.visual[0][kept], plain.inputs["batch"].visual[0])
    vectors = torch.randn(4, 32, requires_grad=True)
    embeds = backbone.mllm.embedded(**packed.inputs, soft_prompt=vectors)
    assert torch.equal(embeds[0, packed.soft], vectors)
    output = backbone.forward(packed, soft_prompt=vectors, return_attention=RolloutSettings(first_layer=0))
    output.rollout[packed.visual_positions()].sum().backward()
    assert vectors.grad.abs().sum(1).min() > 0
    for wrong, count in ((None, 0), (torch.zeros(3, 32), 3)):
        with pytest.raises(ValueError, match=f"room for 4 soft prompt tokens, not for {count}"):
            backbone.forward(packed, soft_prompt=wrong)
    with pytest.raises(ValueError, match="room for 0 soft prompt tokens, not for 4"):
        backbone.forward(plain, soft_prompt=vectors)


def test_without_a_prompt_it_is_the_plain_model_with_its_own_attention(backbone: EmbeddedBackbone) -> None:
    settings = RolloutSettings(first_layer=0, head_weights="mean")
    packed = backbone.pack(FRAMES, QUESTION, stream="video", max_tokens_per_frame=6)
    output = backbone.forward(packed, return_attention=settings)
    plain = backbone.mllm(**packed.inputs)
    assert torch.equal(output.hidden, plain)
    assert backbone.forward(packed).rollout is None
    torch.testing.assert_close(output.logits, backbone.logits(plain[:, -1:]))
    assert output.rollout.shape == (packed.length,)
    torch.testing.assert_close(output.rollout.sum(), torch.tensor(1.0))
    decoder = backbone.language_model
    decoder.config._attn_implementation, implementation = "eager", decoder.config._attn_implementation
    try:
        embeds = backbone.mllm.embedded(**packed.inputs)
        attentions = decoder(inputs_embeds=embeds, output_attentions=True).attentions
    finally:
        decoder.config._attn_implementation = implementation
    product = torch.eye(packed.length)
    for weights in attentions:
        product = (0.5 * weights[0].mean(0) + 0.5 * torch.eye(packed.length)) @ product
    torch.testing.assert_close(output.rollout, product[-1], atol=1e-5, rtol=0)


def test_several_questions_of_one_pass_draw_as_each_alone(backbone: EmbeddedBackbone) -> None:
    settings, cells = RolloutSettings(first_layer=0), [random_cells(seed=1)]
    asked = [("the goat", None), ("which taxi is it?", None)]
    together = backbone.pack_cells(cells, asked, "frame", None, 8)
    rows = backbone.rollouts(together, settings)
    for number, question in enumerate(asked):
        alone = backbone.pack_cells(cells, [question], "frame", None, 8)
        row = backbone.rollouts(alone, settings)[0]
        visual = alone.visual_positions()
        torch.testing.assert_close(rows[number, visual], row[visual], atol=1e-6, rtol=0)
    batch = collate([backbone.mllm.packer.pack(backbone.mllm.slots([(4, 6)], [0]), asked[:1])] * 2)
    with pytest.raises(ValueError, match="one sequence at a time"):
        backbone.mllm(batch, [torch.zeros(int(batch.visual[0].sum()), 32)] * 2, return_attention=settings)


def test_words_are_the_likeliest_one_after_another(backbone: EmbeddedBackbone) -> None:
    packed = backbone.pack(FRAMES[:1], QUESTION, stream="frame", soft=SoftPlace(4))
    vectors = torch.randn(4, 32, generator=torch.Generator().manual_seed(2))
    said = backbone.generate(packed, 5, vectors)
    embeds, ids = backbone.mllm.embedded(**packed.inputs, soft_prompt=vectors), []
    for _ in range(5):
        state = backbone.language_model(inputs_embeds=embeds).last_hidden_state[0, -1]
        token = int(backbone.logits(state).argmax())
        if token == backbone.mllm.packer.end_id:
            break
        ids.append(token)
        embeds = torch.cat([embeds, backbone.mllm.embed(torch.tensor([[token]]))], 1)
    assert said == backbone.mllm.text(ids)
    assert ids


def test_what_it_cannot_read_is_refused(backbone: EmbeddedBackbone) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        backbone.pack_cells([], [("a", None)], "frame")
    for turns, generate in (
        ([ChatTurn("system", "be kind"), *QUESTION], True),
        (QUESTION, False),
        ([], True),
    ):
        with pytest.raises(ValueError, match="takes a user's turn"):
            backbone.pack(FRAMES, turns, stream="frame", generate=generate)
