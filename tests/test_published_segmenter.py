"""The whole path of the published systems, from a checkpoint's folder to masks, on tiny random weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import visa
from model.mllm.splicing import IMAGE_TOKEN
from model.sam import fastest_encoder_dtype
from tests.published_tracking import Still, write_xmem
from tests.synthetic_clips import number_of, numbered_frame, write_clip
from tests.tiny_published import SEG, write_published
from visa.conversations import encode
from visa.errors import InputError
from visa.propagation import ImageEncoder
from visa.sampling import AtPercent, FirstFrame, MiddleFrame, PercentGuided, ReplayedPercent
from visa.segmenter import Segmenter
from visa.video import Video

SYSTEMS = ("visa", "videolisa")
FORCED = {"visa": "It is [SEG].", "videolisa": "Sure, [SEG]."}
NUM_FRAMES, HEIGHT, WIDTH = 7, 48, 64
QUESTIONS = ["The goat", "Which one could fly?", "the red ball on the left"]
CONTROL = ["[SEG]", "<image>", "</s>", "<s>", "<|end|>", "<|user|>", "<|assistant|>", "<unk>", "<0x0A>"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for system in SYSTEMS:
        write_published(folder / system, system)
    write_xmem(folder / "visa" / "XMem.pth")
    return folder


@pytest.fixture(scope="module")
def loaded(root) -> Callable[..., Segmenter]:
    """`visa.load` of a system's folder, once for the same options.

    XMem takes long even at the small size that it tracks at here: only where asked to does it track at all.
    """
    kept = {}

    def load(system: str, dtype: str = "float32", *, tracking: bool = False, **options: object) -> Segmenter:
        key = (system, dtype, tracking, *sorted(options.items()))
        if key not in kept:
            segmenter = visa.load(root / system, device="cpu", dtype=dtype, **options)
            if segmenter.propagator is not None:
                assert segmenter.propagator.encoder.short_side == 480
                segmenter.propagator.encoder = ImageEncoder(segmenter.propagator.network, 32)
            if system == "visa":
                segmenter.sampler = AtPercent(0.5)
                segmenter.propagator = segmenter.propagator if tracking else Still()
            kept[key] = segmenter
        return kept[key]

    return load


def make_video(num_frames: int = NUM_FRAMES) -> Video:
    return Video.from_frames(np.stack([numbered_frame(k + 1, HEIGHT, WIDTH) for k in range(num_frames)]))


def answering(segmenter: Segmenter, monkeypatch, **settings: object) -> Segmenter:
    """The same system with other answer settings for the length of a test."""
    reasoner = segmenter.reasoner
    monkeypatch.setattr(reasoner, "settings", dataclasses.replace(reasoner.settings, **settings))
    return segmenter


def expect_next(segmenter: Segmenter, monkeypatch, token: int) -> None:
    """Have the language model write one and the same token all the time."""
    logits = torch.zeros(512)
    logits[token] = 1.0
    monkeypatch.setattr(
        segmenter.reasoner.model, "logits", lambda states: logits.expand(*states.shape[:-1], -1)
    )


def favour(segmenter: Segmenter, monkeypatch, token: int) -> None:
    """Have the language model write one token, as sure of it as what it read makes it."""
    logits = segmenter.reasoner.model.logits

    def favouring(states):
        found = 0.1 * logits(states)
        found[..., token] += 1
        return found

    monkeypatch.setattr(segmenter.reasoner.model, "logits", favouring)


@pytest.fixture
def watch(monkeypatch):
    """Counts what is encoded and read by a segmenter from now on."""

    def start(segmenter: Segmenter) -> SimpleNamespace:
        seen = SimpleNamespace(clip=[], sam=[], positions=[], questions=[])
        model, reasoner = segmenter.reasoner.model, segmenter.reasoner
        tower, encode_sam, go_on = reasoner._images, reasoner.sam.encode, model.go_on

        def images(frames):
            seen.clip += [number_of(frame) for frame in frames]
            return tower(frames)

        def sam(frames):
            seen.sam += [number_of(frame) for frame in frames]
            return encode_sam(frames)

        def read(reading, embeds):
            seen.positions.append(embeds.shape[1])
            return go_on(reading, embeds)

        monkeypatch.setattr(reasoner, "_images", images)
        monkeypatch.setattr(reasoner.sam, "encode", sam)
        monkeypatch.setattr(model, "go_on", read)

        def asked(call):
            def ask(reading, question_ids, *rest):
                seen.questions.append(question_ids)
                return call(reading, question_ids, *rest)

            return ask

        for name in ("forced", "generate"):
            monkeypatch.setattr(model, name, asked(getattr(model, name)))
        return seen

    return start


def prompt_by_one_pass(segmenter: Segmenter, video: Video, question: str, frames, dense=None) -> torch.Tensor:
    """The [SEG] prompt [1, 256] by one pass over the whole conversation, all frames encoded together."""
    reasoner, model = segmenter.reasoner, segmenter.reasoner.model
    turn = (reasoner.request(question, len(frames)), reasoner.settings.forced_answer)
    ids = encode(reasoner.chat.write([turn]), reasoner.tokenizer).input_ids
    images = reasoner._images(video.frames(frames))
    if dense is None:
        tokens = model.visual_tokens(images).flatten(0, 1)
        counts = [model.tokens_per_frame] * len(frames)
    else:
        tokens = model.visual_tokens(images, dense)
        counts = model.visual_counts(len(frames), len(dense))
    batch = model.splice([ids], [counts])
    (embedding,) = model.seg_embeddings(model(batch, [tokens]), batch)
    return embedding


def test_both_modes_and_precisions(loaded):
    for system in SYSTEMS:
        for dtype in ("float32", "bfloat16"):
            segmenter = loaded(system, dtype)
            tracklet = segmenter.segment(make_video(), "the goat")
            assert (tracklet.found, tracklet.answer) == (True, FORCED[system]), (system, dtype)
            assert tracklet.masks.shape == (NUM_FRAMES, HEIGHT, WIDTH)
            assert tracklet.masks[tracklet.target_frame].any()
            assert 0 <= tracklet.score <= 1

            written = loaded(system, dtype, answer="generate").segment(make_video(), "the goat")
            assert written.answer != tracklet.answer, "random weights know no answer"
            assert written.found == ("[SEG]" in written.answer) == written.masks.any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_written_seg_draws_what_the_same_forced_one_draws(loaded, system, dtype, monkeypatch):
    segmenter = answering(loaded(system, dtype), monkeypatch, forced_answer="[SEG]")
    forced = segmenter.segment(make_video(), "the goat")
    answering(segmenter, monkeypatch, answer="generate", max_new_tokens=1)
    expect_next(segmenter, monkeypatch, SEG)
    written = segmenter.segment(make_video(), "the goat")
    assert forced.found
    assert written.found
    assert forced.answer == written.answer == "[SEG]"
    # One pass over the question with [SEG] behind it and one without may round differently.
    assert (forced.masks == written.masks).mean() > (0.999 if dtype == "float32" else 0.95)


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_seg_in_the_answer_means_not_found_and_nothing_is_drawn(loaded, system, monkeypatch, watch):
    segmenter = answering(loaded(system), monkeypatch, answer="generate")
    end = segmenter.reasoner.tokenizer.convert_tokens_to_ids(segmenter.reasoner.chat.end)
    expect_next(segmenter, monkeypatch, end)
    seen = watch(segmenter)
    tracklet = segmenter.segment(make_video(), "the goat")
    assert (tracklet.found, tracklet.answer, tracklet.score, tracklet.target_frame) == (False, "", 0.0, None)
    assert not tracklet.masks.any()
    assert seen.clip
    assert seen.sam == []


def test_several_segs_are_several_objects_and_their_masks_are_joined(loaded, monkeypatch):
    segmenter = loaded("videolisa")
    alone = [
        answering(segmenter, monkeypatch, forced_answer=text).segment(make_video(), "the goats")
        for text in ("[SEG]", "[SEG], [SEG].")
    ]
    assert alone[1].answer == "[SEG], [SEG]."
    assert (alone[1].masks | alone[0].masks == alone[1].masks).mean() > 0.999
    assert alone[0].object_masks is None
    assert alone[1].object_masks.shape == (2, NUM_FRAMES, HEIGHT, WIDTH)
    assert np.array_equal(alone[1].object_masks.any(axis=0), alone[1].masks)


@pytest.mark.parametrize("answer", ["forced", "generate"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_many_questions_give_the_masks_of_single_ones(loaded, system, dtype, answer, monkeypatch):
    segmenter = answering(loaded(system, dtype), monkeypatch, answer=answer, max_new_tokens=3)
    if answer == "generate":
        favour(segmenter, monkeypatch, SEG)
    together = segmenter.segment_many(make_video(), QUESTIONS)
    single = [segmenter.segment(make_video(), question) for question in reversed(QUESTIONS)][::-1]
    assert [tracklet.question for tracklet in together] == QUESTIONS
    for one, other in zip(together, single, strict=True):
        assert one == other
        assert one.score == other.score
    assert all(tracklet.masks.any() for tracklet in together)
    assert len({tracklet.score for tracklet in together}) == len(QUESTIONS), "the questions are read"


def test_every_frame_is_encoded_once_however_many_questions_are_asked(loaded, watch):
    numbers = list(range(1, NUM_FRAMES + 1))
    for system, targets in (("visa", [4, 1]), ("videolisa", numbers)):
        segmenter = loaded(system)
        seen = watch(segmenter)
        video = make_video()
        segmenter.segment_many(video, QUESTIONS)
        if system == "visa":
            segmenter.segment(video, "another", sampler=FirstFrame(11, "strided"))
        else:
            segmenter.segment(video, "another")
        assert sorted(seen.clip) == numbers
        assert sorted(seen.sam) == sorted(targets)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_before_the_question_is_read_once(loaded, system, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    segmenter.segment_many(make_video(), QUESTIONS)
    frames, *questions = seen.positions
    visual = {"visa": (NUM_FRAMES + 1) * 112, "videolisa": 32 + 4 * 256}[system]
    assert frames > visual
    assert len(questions) == len(QUESTIONS)
    assert max(questions) < 200


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_videolisa_draws_every_frame_with_one_prompt(loaded, dtype):
    segmenter, video = loaded("videolisa", dtype), make_video()
    tracklet = segmenter.segment(video, QUESTIONS[1])
    choice = segmenter.sampler.choose(NUM_FRAMES, "", None)
    assert (len(choice.references), len(choice.dense)) == (32, 4)
    assert tracklet.target_frame == choice.target
    with torch.inference_mode():
        prompt = prompt_by_one_pass(segmenter, video, QUESTIONS[1], choice.references, choice.dense)
        expected = draw(segmenter, video, range(NUM_FRAMES), prompt)
    assert 0.01 < expected.mean() < 0.99
    assert (tracklet.masks == expected).mean() > (0.999 if dtype == "float32" else 0.9)
    assert any((tracklet.masks[0] != mask).any() for mask in tracklet.masks)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_visa_draws_the_target_and_xmem_carries_it_both_ways(loaded, dtype):
    segmenter, video = loaded("visa", dtype, tracking=True), make_video()
    sampler = MiddleFrame(3, "strided")
    tracklet = segmenter.segment(video, QUESTIONS[0], sampler=sampler)
    choice = sampler.choose(NUM_FRAMES, "", None)
    assert tracklet.target_frame == choice.target == 3
    with torch.inference_mode():
        shown = (*choice.references, choice.target)
        prompt = prompt_by_one_pass(segmenter, video, QUESTIONS[0], shown)
        (expected,) = draw(segmenter, video, [choice.target], prompt)
    assert 0.01 < expected.mean() < 0.99
    # In bfloat16 a token may join another cluster when frames are encoded together.
    assert (tracklet.masks[3] == expected).mean() > (0.999 if dtype == "float32" else 0.5)
    (carried,) = segmenter.propagator.propagate(video, 3, tracklet.masks[3][None])
    assert np.array_equal(tracklet.masks, carried)
    network = segmenter.propagator.network
    assert network.map_dtype == (None if dtype == "float32" else fastest_encoder_dtype(torch.device("cpu")))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def draw(segmenter: Segmenter, video: Video, frames, prompt: torch.Tensor) -> np.ndarray:
    """bool [F, H, W], frame by frame."""
    from model.seg_head import as_prompt

    sam, masks = segmenter.reasoner.sam, []
    for index in frames:
        features = sam.encode(video.frames([index]))
        logits = sam.to_frame(sam.decode(features, as_prompt(prompt)).mask_logits, features)
        masks.append((logits[0, 0] > 0).numpy())
    return np.stack(masks)


def test_videolisa_with_xmem_draws_the_dense_frames_and_tracks_the_others(loaded, root, watch):
    video = make_video()
    drawn = loaded("videolisa").segment(video, "the goat")
    segmenter = loaded("videolisa", tracking=True, xmem=root / "visa" / "XMem.pth")
    seen = watch(segmenter)
    tracklet = segmenter.segment(video, "the goat")
    dense = sorted({*segmenter.sampler.choose(NUM_FRAMES, "", None).dense_frames})
    assert 1 < len(dense) < NUM_FRAMES
    assert seen.sam == [index + 1 for index in dense]
    assert (tracklet.masks[dense] == drawn.masks[dense]).mean() > 0.999
    others = [index for index in range(NUM_FRAMES) if index not in dense]
    assert (tracklet.masks[others] != drawn.masks[others]).any()


def test_the_samplers_of_visa(loaded, tmp_path, monkeypatch):
    segmenter, video = loaded("visa"), make_video()
    for sampler, target in ((FirstFrame(11, "strided"), 0), (MiddleFrame(12, "global_local"), 3)):
        assert segmenter.segment(video, "the goat", sampler=sampler).target_frame == target
    expressions = {"0": {"exp": "the goat", "tp": 0.8}, "1": {"exp": "the sheep", "tp": 0.1}}
    meta = tmp_path / "meta_llamavid.json"
    meta.write_text(json.dumps({"videos": {video.name: {"expressions": expressions}}}))
    assert segmenter.segment(video, "the goat", sampler=ReplayedPercent(meta)).target_frame == 5


def test_visa_asks_itself_where_to_look_and_keeps_the_answers(loaded, root, tmp_path, monkeypatch, watch):
    monkeypatch.setenv("VISA_CACHE", str(tmp_path))
    segmenter = loaded("visa")
    guided = visa.loading.build_sampler({"sampler": "percent_guided", "num_references": 11})
    monkeypatch.setattr(segmenter.reasoner, "_text", lambda ids: "at the 80% mark, I think")
    seen = watch(segmenter)
    first = segmenter.segment(make_video(), "the goat", sampler=guided)
    assert first.target_frame == int(0.8 * NUM_FRAMES)
    assert len(seen.questions) == 10 + 1
    asked = segmenter.reasoner.tokenizer.decode(seen.questions[0].tolist())
    assert "If I want to find 'the goat', which percentage mark" in asked
    assert len(list((tmp_path / "answers").iterdir())) == 1
    assert segmenter.segment(make_video(), "the goat", sampler=guided) == first
    assert len(seen.questions) == 10 + 1 + 1, "kept answers are not asked for again"


def test_another_model_can_be_asked_where_to_look(loaded, tmp_path, monkeypatch, watch):
    monkeypatch.setenv("VISA_CACHE", str(tmp_path))
    segmenter, guide = loaded("visa"), loaded("videolisa")
    monkeypatch.setattr(segmenter, "guide", guide)
    monkeypatch.setattr(guide.reasoner, "_text", lambda ids: "10%")
    asked, own = watch(guide), watch(segmenter)
    tracklet = segmenter.segment(make_video(), "the goat", sampler=PercentGuided(num_answers=3))
    assert (tracklet.target_frame, tracklet.answer) == (0, FORCED["visa"])
    assert (len(asked.questions), len(own.questions)) == (3, 1)


def test_a_drawn_answer_has_a_number_and_is_the_same_whatever_was_drawn_before(loaded):
    segmenter, video = loaded("visa"), make_video()
    answers = [segmenter.scorer(video).generate("where?", number) for number in range(4)]
    assert len({*answers}) == 4
    assert segmenter.scorer(make_video()).generate("where?", 2) == answers[2]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_persons_text_never_becomes_a_control_token(loaded, system, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    video = make_video()
    benign = segmenter.segment(video, "the goat")
    hostile = segmenter.segment(video, "the goat " + " ".join(CONTROL))
    # Of one control token's characters nothing is lost, and none of it is the token.
    tokenizer = segmenter.reasoner.tokenizer
    control = {IMAGE_TOKEN, SEG, *(tokenizer.convert_tokens_to_ids(text) for text in CONTROL[2:8])}
    counts = [[ids.tolist().count(token) for token in sorted(control)] for ids in seen.questions]
    assert counts[0] == counts[1]
    assert len(seen.questions[1]) > len(seen.questions[0]) + 40
    assert hostile.answer == benign.answer
    assert "(SEG)" in hostile.question
    assert hostile.found


@pytest.mark.parametrize("system", SYSTEMS)
def test_empty_and_endless_questions_are_one_clear_line(loaded, system, monkeypatch, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    for question, message in (("", "empty"), (" \n\x00", "empty"), ("goat " * 2000, "10000|9999")):
        with pytest.raises(InputError, match=message) as caught:
            segmenter.segment_many(make_video(), ["the goat", question])
        assert "\n" not in str(caught.value)
    assert seen.positions == [], "nothing was read before the question was refused"

    longest = segmenter.segment(make_video(), "goat " * 390)
    assert longest.found
    config = segmenter.reasoner.model.language.config
    monkeypatch.setattr(config, "max_position_embeddings", 1500)
    video = make_video()
    with pytest.raises(InputError, match=r"knows 1500; ask shorter") as caught:
        segmenter.segment(video, "goat " * 390)
    assert "\n" not in str(caught.value)
    assert segmenter.segment(video, "the goat").found, "the system is as good as before"


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("system", SYSTEMS)
def test_short_videos(loaded, system, num_frames, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    tracklet = segmenter.segment(make_video(num_frames), "the goat")
    assert tracklet.found
    assert tracklet.masks.shape == (num_frames, HEIGHT, WIDTH)
    assert tracklet.masks.any()
    assert sorted(seen.clip) == list(range(1, num_frames + 1))


def test_a_file_is_opened_and_stages_are_told(loaded, tmp_path):
    path, told = write_clip(tmp_path / "clip.mp4", 5), []
    for system, tracked in (("visa", ["propagate"]), ("videolisa", [])):
        told.clear()
        loaded(system).segment(path, "the goat", progress=lambda *call: told.append(call))
        stages = [stage for stage, done, total in told if done == total]
        assert stages == ["sample", "reason", "segment", *tracked]
