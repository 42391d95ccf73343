"""VISA's network beside live transformers on random tiny weights, and what must hold for any weights."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import CLIPVisionModel, LlamaForCausalLM

from model.chat_univi.merging import TIE_NOISE, Stage, merge_stages
from model.chat_univi.visa import VisaModel
from model.mllm.decoding import Decoding
from model.mllm.splicing import IGNORE_INDEX, IMAGE_TOKEN
from model.prompt import EmbeddingPrompt
from model.sam.segmenter import FrameFeatures, SamSegmenter
from tests.tiny_visa import CLIP, LLAMA, SEG, tiny_visa
from visa.training.published_objective import predicting_states, published_loss

SMALL_CLIP = CLIP | {"image_size": 56}  # 16 patches
STAGES = (Stage(8, 3), Stage(4, 3))
QUESTIONS = ([5, 6, 7], [8, 9, 10, 11, 12], [13])
ANSWER = [20, 21, SEG, 2]


def build(llama: dict = LLAMA, seed: int = 0, **options: object) -> VisaModel:
    torch.manual_seed(seed)
    model = tiny_visa(llama, SMALL_CLIP, None, stages=STAGES, **options).eval()
    # Initial weights are small: tokens would hardly differ and answers all be the same.
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def some_frames(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 56, 56, generator=torch.Generator().manual_seed(seed))


def conversation(question: list[int], answer: list[int], frames: int) -> tuple[Tensor, Tensor]:
    """Ids and labels: a few words, ``frames`` placeholders with a word behind each, question, answer."""
    opening = [1, 3, 4]
    for number in range(frames):
        opening += [IMAGE_TOKEN, 30 + number]
    ids = torch.tensor([*opening, *question, *answer])
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[len(ids) - len(answer) :] = ids[len(ids) - len(answer) :]
    return ids, labels


@torch.no_grad()
@pytest.mark.parametrize(
    ("llama", "select_layer"),
    [({}, -2), ({"num_key_value_heads": 2, "rope_theta": 500.0, "num_hidden_layers": 3}, -1), ({}, 1)],
)
def test_the_same_as_transformers_alone(llama: dict, select_layer: int):
    model = build(LLAMA | llama, select_layer=select_layer)
    images = some_frames(5)
    # CLIP and LLaMA as anybody would run them, the sequence put together by hand.
    clip = CLIPVisionModel(model.tower.vision.config).eval()
    clip.load_state_dict(model.tower.vision.state_dict())
    language = LlamaForCausalLM(model.language.config).eval()
    language.load_state_dict(model.language.state_dict())
    patches = clip(images, output_hidden_states=True).hidden_states[select_layer][:, 1:]
    torch.testing.assert_close(model.tower(images), patches, atol=1e-5, rtol=1e-5)
    tokens = model.projector(merge_stages(patches, STAGES).tokens)
    torch.testing.assert_close(model.visual_tokens(images), tokens, atol=1e-5, rtol=1e-5)

    samples = [conversation(QUESTIONS[0], ANSWER, 2), conversation(QUESTIONS[1], ANSWER, 3)]
    shown = [tokens[:2], tokens[2:]]
    rows = []
    for (ids, _), mine in zip(samples, shown, strict=True):
        left = list(mine)
        words = [
            left.pop(0) if i == IMAGE_TOKEN else language.model.embed_tokens.weight[i][None] for i in ids
        ]
        rows.append(torch.cat(words))
    embeds = torch.nn.utils.rnn.pad_sequence(rows, True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in rows], True)
    theirs = language(inputs_embeds=embeds, attention_mask=mask.long(), output_hidden_states=True)

    counts = [[model.tokens_per_frame] * len(mine) for mine in shown]
    batch = model.splice([ids for ids, _ in samples], counts, labels=[labels for _, labels in samples])
    hidden = model(batch, [mine.flatten(0, 1) for mine in shown])
    real = batch.attention_mask
    assert torch.equal(real, mask.bool())
    torch.testing.assert_close(hidden[real], theirs.hidden_states[-1][real], atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(model.logits(hidden)[real], theirs.logits[real], atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_written_answers_are_those_of_transformers():
    different = set()
    for seed in range(4):
        model = build(seed=seed)
        tokens = model.visual_tokens(some_frames(2, seed))
        prefix, rest = model.split_behind_frames(conversation(QUESTIONS[0], [], 2)[0])
        reading = model.read(prefix, [12, 12], tokens.flatten(0, 1))
        decoding = Decoding(stop_ids=(2,), max_new_tokens=12)
        answer = model.generate(reading, rest, decoding)
        words = model.language.get_input_embeddings()
        embeds = torch.cat([words(prefix[:3]), tokens[0], words(prefix[4:5]), tokens[1], words(rest)])[None]
        theirs = model.language.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
        )[0]
        assert answer.ids.tolist() == [token for token in theirs.tolist() if token != 2]
        different.add(tuple(answer.ids.tolist()))
    assert len(different) > 1


@torch.no_grad()
@pytest.mark.parametrize("seg_state", ["predicting", "at_token"])
def test_an_answer_behind_read_frames_points_as_in_one_pass(seg_state: str):
    model = build(seg_state=seg_state)
    images = some_frames(3)
    tokens = model.visual_tokens(images).flatten(0, 1)
    counts = [model.tokens_per_frame] * 3
    prefix, _ = model.split_behind_frames(conversation([], [], 3)[0])
    reading = model.read(prefix, counts, tokens)
    seen = []
    for question in QUESTIONS:
        ids, labels = conversation(question, ANSWER, 3)
        batch = model.splice([ids], [counts], labels=[labels])
        (whole,) = model.seg_embeddings(model(batch, [tokens]), batch)
        rest = model.split_behind_frames(ids)[1]
        asked = rest[: -len(ANSWER)]
        answer = model.forced(reading, asked, rest[-len(ANSWER) :])
        assert answer.found
        assert answer.embeddings.shape == whole.shape == (1, 256)
        torch.testing.assert_close(answer.embeddings, whole, atol=1e-5, rtol=1e-5)
        seen.append(answer.embeddings)
        # Alone, behind frames read for it, it is the same to the bit.
        alone = model.forced(model.read(prefix, counts, tokens), asked, rest[-len(ANSWER) :])
        assert torch.equal(alone.embeddings, answer.embeddings)
    assert (seen[0] - seen[1]).abs().max() > 1e-2


@torch.no_grad()
def test_frames_are_encoded_each_on_its_own():
    model = build()
    images = some_frames(9)
    together = model.visual_tokens(images)
    assert together.shape == (9, model.tokens_per_frame, 64)
    for number in (0, 8):
        alone = model.visual_tokens(images[number : number + 1])[0]
        torch.testing.assert_close(together[number], alone, atol=1e-5, rtol=1e-5)
    assert model.video_tokens(images).shape == (model.tokens_per_frame, 64)


@torch.no_grad()
def test_only_noise_makes_encoding_a_matter_of_chance():
    images = torch.zeros(1, 3, 56, 56)  # all patches but for their position the same
    still, noisy = build(), build(noise=TIE_NOISE * 1e6)
    assert torch.equal(still.visual_tokens(images), still.visual_tokens(images))
    assert not torch.equal(noisy.visual_tokens(images), noisy.visual_tokens(images))


def test_a_batch_is_its_samples_one_by_one():
    """Several conversations of a video, a text-only sample and padding do not touch each other."""
    model = build()
    tokens = model.visual_tokens(some_frames(2)).detach().flatten(0, 1)
    samples = [conversation(question, ANSWER, 2) for question in QUESTIONS]
    samples.append(conversation([9, 8], [7, 2], 0))
    counts = [[model.tokens_per_frame] * 2] * 3 + [[]]
    shown = [tokens] * 3 + [tokens[:0]]
    batch = model.splice([ids for ids, _ in samples], counts, labels=[labels for _, labels in samples])
    hidden = model(batch, shown)
    together = model.seg_embeddings(hidden, batch)
    assert [len(rows) for rows in together] == [1, 1, 1, 0]
    for row, ((ids, labels), count, mine) in enumerate(zip(samples, counts, shown, strict=True)):
        single = model.splice([ids], [count], labels=[labels])
        alone = model(single, [mine])
        torch.testing.assert_close(hidden[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            together[row], model.seg_embeddings(alone, single)[0], atol=1e-5, rtol=1e-5
        )
    states, answers = predicting_states(hidden, batch.labels)
    assert answers.tolist() == ANSWER * 3 + [7, 2]
    published_loss(model.logits(states), answers, [], []).total.backward()
    assert model.language.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    assert model.tower.vision.embeddings.patch_embedding.weight.grad is None


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # asked by peft
def test_lora_is_trained_through_the_same_forward_pass():
    model = build()
    tokens = model.visual_tokens(some_frames(2)).detach().flatten(0, 1)
    ids, labels = conversation(QUESTIONS[0], ANSWER, 2)
    batch = model.splice([ids], [[model.tokens_per_frame] * 2], labels=[labels])
    before = model(batch, [tokens]).detach()
    model.language = get_peft_model(model.language, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    hidden = model(batch, [tokens])
    torch.testing.assert_close(hidden, before)
    model.seg_embeddings(hidden, batch)[0].sum().backward()
    trained = [name for name, parameter in model.language.named_parameters() if parameter.grad is not None]
    assert trained
    assert all("lora_" in name for name in trained)


@torch.no_grad()
def test_bfloat16_goes_through_every_part():
    model = build().to(torch.bfloat16)
    tokens = model.visual_tokens(some_frames(2))
    assert tokens.dtype == torch.bfloat16
    prefix, rest = model.split_behind_frames(conversation(QUESTIONS[0], ANSWER, 2)[0])
    reading = model.read(prefix, [12, 12], tokens.flatten(0, 1))
    embeddings = model.forced(reading, rest[:-4], rest[-4:]).embeddings
    full = build()
    tokens = full.visual_tokens(some_frames(2))
    wanted = full.forced(full.read(prefix, [12, 12], tokens.flatten(0, 1)), rest[:-4], rest[-4:]).embeddings
    assert torch.nn.functional.cosine_similarity(embeddings.float(), wanted).min() > 0.9


@torch.no_grad()
def test_an_answer_without_seg_draws_no_mask():
    torch.manual_seed(0)
    model = tiny_visa().eval()
    sam = SamSegmenter(model.visual_model)
    features = FrameFeatures(torch.randn(1, 256, 16, 16), (), (192, 256), (90, 120))
    nothing = torch.zeros(0, 1, 256)
    for multimask, channels in ((False, 1), (True, 3)):
        prediction = sam.decode(features, EmbeddingPrompt(nothing), multimask=multimask)
        assert prediction.mask_logits.shape == (0, channels, 64, 64)
        assert prediction.iou.shape == (0, channels)
        assert sam.to_frame(prediction.mask_logits, features).shape == (0, channels, 90, 120)
    one = sam.decode(features, EmbeddingPrompt(torch.randn(1, 1, 256)))
    assert one.mask_logits.shape == (1, 1, 64, 64)
