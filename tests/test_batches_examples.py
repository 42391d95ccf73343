"""Samples of a mixture as training examples: which frames are shown and drawn, pixels, masks; and a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import CLIPVisionConfig

from model.clip_images import ClipImages
from model.llava_phi3.language import phi3_config
from model.llava_phi3.videolisa import build_videolisa
from model.sam.images import SamImages
from tests import tiny_videolisa
from tests.tiny_batches import SEG, LetterTokenizer, frame, mixed, turn
from tests.tiny_training import tiny_sam
from tests.tiny_visa import tiny_sam as tiny_vit_sam
from tests.tiny_visa import tiny_visa
from visa.training.batches.examples import ExampleMaker
from visa.training.engine.batch import TrainingBatch
from visa.training.engine.step import TrainingStep
from visa.training.published_objective import LossWeights

CLIP, SAM = 28, 64


def maker(system: str, **options) -> ExampleMaker:
    settings = {"clip_size": CLIP, "sam_size": SAM, "num_sparse": 6, "num_dense": 2, **options}
    return ExampleMaker(system, LetterTokenizer(), **settings)


def frames(count: int, size: tuple[int, int] = (6, 8)) -> list[np.ndarray]:
    return [frame(10 + 30 * number, size) for number in range(count)]


def test_sam_images_are_what_sam_itself_prepares() -> None:
    segmenter = tiny_sam()
    for size in ((6, 8), (90, 31), (1, 500)):
        pictures = np.stack(frames(2, size))
        expected, (height, width) = segmenter.preprocess(pictures)
        side = segmenter.sam.image_size
        padded = functional.pad(expected, (0, side - width, 0, side - height))
        assert torch.equal(SamImages(side)(pictures), padded)
    with pytest.raises(ValueError, match="uint8"):
        SamImages(64)(np.zeros((1, 4, 4, 3)))


def test_visa_shows_references_and_target_each_encoded_once() -> None:
    shown = frames(4)
    truth = np.zeros((1, 2, 6, 8), bool)
    truth[0, 0, :3] = True
    sample = mixed([turn("a dog"), turn("no cat")], shown, [shown[2]], truth, places=(2,))
    video = maker("visa").make(sample)
    assert video.name == "mevis: a/clip"
    assert video.shown == (0, 1, 2, 3, 2)
    assert video.drawn == (0,)
    assert video.dense_indices == ()
    assert torch.equal(video.images_clip, ClipImages(CLIP)(np.stack(shown)))
    assert torch.equal(video.images_sam, SamImages(SAM)(shown[2][None]))
    assert video.input_size == (48, 64)
    assert torch.equal(video.masks, torch.from_numpy(truth))
    assert len(video.conversations) == 2


def test_visas_negative_shows_another_videos_frame() -> None:
    shown, other = frames(3), frame(200, (9, 5))
    video = maker("visa").make(mixed([turn("a dog")], shown, [other]))
    assert video.shown == (0, 1, 2, 3)
    assert torch.equal(video.images_clip[3:], ClipImages(CLIP)(other[None]))
    assert torch.equal(video.images_sam, SamImages(SAM)(other[None]))
    assert video.masks.shape == (1, 1, 9, 5)
    assert not video.masks.any()
    assert video.input_size == (64, 36)


@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_a_picture_is_encoded_once(system: str) -> None:
    picture = frame(77)
    truth = np.ones((1, 1, 6, 8), bool)
    video = maker(system).make(mixed([turn("a cup")], [picture], [picture], truth, places=(0,)))
    assert len(video.images_clip) == len(video.images_sam) == 1
    if system == "visa":
        assert (video.shown, video.drawn, video.dense_indices) == ((0, 0), (0,), ())
        assert video.masks.shape == (1, 1, 6, 8)
    else:
        assert (video.shown, video.drawn, video.dense_indices) == ((0,) * 6, (0, 0), (0, 1))
        assert video.masks.shape == (2, 1, 6, 8)
    assert video.masks.all()
    assert video.masks.is_contiguous(), "a view of one frame cannot be pinned"


def test_videolisa_draws_its_dense_frames_and_repeats_none() -> None:
    pool = frames(5)
    shown = [pool[0], pool[0], pool[1], pool[2], pool[3], pool[4]]
    truth = np.zeros((2, 1, 6, 8), bool)
    truth[1] = True
    video = maker("videolisa").make(mixed([turn("dogs")], shown, [shown[1], shown[4]], truth, places=(1, 4)))
    assert video.shown == (0, 0, 1, 2, 3, 4)
    assert video.dense_indices == (1, 4)
    assert video.drawn == (0, 1)
    assert torch.equal(video.images_clip, ClipImages(CLIP)(np.stack(pool)))
    assert torch.equal(video.images_sam, SamImages(SAM)(np.stack([pool[0], pool[3]])))
    assert torch.equal(video.masks, torch.from_numpy(truth))


@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_talk_draws_nothing(system: str) -> None:
    pictures = [frame(1, (4, 6)), frame(2, (7, 3))]
    talk = [turn("Why?", "words", "So.", kind="talk")]
    video = maker(system).make(mixed(talk, pictures))
    assert video.images_sam.shape == (0, 3, SAM, SAM)
    assert video.drawn == ()
    assert video.masks.shape[:2] == (0, 0)
    assert video.shown == ((0, 1) if system == "visa" else (0, 0, 0, 1, 1, 1))
    expected = torch.cat([ClipImages(CLIP)(picture[None]) for picture in pictures])
    assert torch.equal(video.images_clip, expected)


def test_chat_univis_pictures_keep_their_sides() -> None:
    picture = frame(50, (4, 12))
    talk = [turn("Why?", "words", "So.", kind="talk")]
    padded = maker("visa").make(mixed(talk, [picture], source="chat_univi_sqa")).images_clip
    cropped = maker("visa").make(mixed(talk, [picture], source="llava_instruct")).images_clip
    assert torch.equal(padded, ClipImages(CLIP, pad_square=True)(picture[None]))
    assert torch.equal(cropped, ClipImages(CLIP)(picture[None]))
    assert not torch.equal(padded, cropped)


def test_an_example_follows_from_sample_and_seed() -> None:
    shown = frames(2)

    def ids(index: int = 0, seed: int = 0) -> tuple:
        sample = mixed([turn("a dog")], shown, [shown[0]], places=(0,), index=index)
        return tuple(maker("visa", seed=seed).make(sample).conversations[0].input_ids.tolist())

    assert ids() == ids()
    assert len({ids(index) for index in range(20)}) > 5
    assert len({ids(seed=seed) for seed in range(20)}) > 5


def tiny_step(system: str) -> tuple[TrainingStep, dict]:
    torch.manual_seed(0)
    if system == "visa":
        return TrainingStep(tiny_visa(), LossWeights()), {"clip_size": 224, "sam_size": 256}
    language = phi3_config({**tiny_videolisa.PHI3, "vocab_size": 512, "max_position_embeddings": 2048})
    model = build_videolisa(
        language,
        CLIPVisionConfig(**tiny_videolisa.CLIP),
        tiny_vit_sam(**tiny_videolisa.SAM),
        seg_token_id=SEG,
    )
    return TrainingStep(model, LossWeights()), {}


@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_the_trainers_step_takes_every_kind_of_example(system: str) -> None:
    step, sizes = tiny_step(system)
    make = maker(system, **sizes).make
    pool = frames(6, (30, 40))
    targets, places = ([pool[1]], (1,)) if system == "visa" else ([pool[1], pool[4]], (1, 4))
    truth = np.zeros((len(targets), 1, 30, 40), bool)
    truth[:, :, 5:20] = True
    samples = [
        mixed([turn("the dog")], pool, targets, truth, places=places),
        mixed([turn("a cup", is_sentence=False)], [pool[0]], [pool[0]], truth[:1], places=(0,)),
        mixed([turn("Who?", "words", "He.", True)], [pool[0]]),
        mixed([turn("Why?", "words", "So.", kind="talk")], [frame(1), frame(2, (7, 3))]),
    ]
    batch = TrainingBatch(0, tuple(make(sample) for sample in samples))
    result = step(batch)
    assert torch.isfinite(result.loss.total)
    assert [len(logits) for logits in result.mask_logits] == (
        [1, 1, 0, 0] if system == "visa" else [2, 2, 0, 0]
    )
    result.loss.total.backward()
    assert step.model.seg_head[0].weight.grad.abs().sum() > 0
