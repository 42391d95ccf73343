"""The published systems, loaded from folders of tiny random weights, and ways to watch and steer them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import visa
from tests.published_tracking import Still, write_xmem
from tests.synthetic_clips import number_of, numbered_frame
from tests.tiny_published import write_published
from visa.conversations import encode
from visa.propagation import ImageEncoder
from visa.sampling import AtPercent
from visa.segmenter import Segmenter
from visa.video import Video

SYSTEMS = ("visa", "videolisa")
FORCED = {"visa": "It is [SEG].", "videolisa": "Sure, [SEG]."}
NUM_FRAMES, HEIGHT, WIDTH = 7, 48, 64
QUESTIONS = ["The goat", "Which one could fly?", "the red ball on the left"]


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


def draw(segmenter: Segmenter, video: Video, frames, prompt: torch.Tensor) -> np.ndarray:
    """bool [F, H, W], frame by frame."""
    from model.seg_head import as_prompt

    sam, masks = segmenter.reasoner.sam, []
    for index in frames:
        features = sam.encode(video.frames([index]))
        logits = sam.to_frame(sam.decode(features, as_prompt(prompt)).mask_logits, features)
        masks.append((logits[0, 0] > 0).numpy())
    return np.stack(masks)
