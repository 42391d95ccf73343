"""The pipeline with fakes in every stage: what each is handed, and what is left out when nothing is found."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.mllm.mllm import Answer, RefusalPolicy
from model.xmem import MemoryConfig, for_tracking
from tests.small_xmem import small_network
from tests.synthetic_clips import number_of, numbered_frame
from visa.errors import InputError
from visa.mask_drawing import DrawnMasks
from visa.mask_track import decode_masks
from visa.propagation import OBJECTS_AT_ONCE, ImageEncoder
from visa.reasoning import DrawnFrames
from visa.reasoning.embedded import EmbeddedReasoner
from visa.sampling import FirstFrame, FrameChoice, MiddleFrame, TextGuided, uniform_indices
from visa.segmenter import Segmenter
from visa.video import Video
from visa.xmem_propagation import Propagator

NUM_FRAMES = 9
HEIGHT, WIDTH = 16, 24


class Numbers:
    """Stands in for the tower, SAM's encoder and the tracker's: a frame becomes the number it shows."""

    def __init__(self):
        self.encoded = []

    def __call__(self, frames):
        numbers = [number_of(frame) for frame in frames]
        self.encoded += numbers
        return numbers

    def encode(self, frames):
        return self(frames)[0]


class FakeMllm:
    """Finds the thing in the frames of `shown`, as far as it is shown them."""

    def __init__(self, shown):
        self.tower, self.shown = Numbers(), shown
        self.read_calls, self.asked = [], []

    def read(self, cells, percents):
        self.read_calls.append((list(cells), list(percents)))
        return SimpleNamespace(frames=list(cells))

    def answer(self, reading, question, *, refusal=None, max_new_tokens=32):
        self.asked.append(SimpleNamespace(question=question, refusal=refusal, tokens=max_new_tokens))
        prob = max((self.shown.get(frame, 0.1) for frame in reading.frames), default=0.1)
        prob = 0.0 if refusal is not None and refusal.bias > 100 else prob
        text = "It is the goat. [SEG]" if prob >= 0.5 else "There is none."
        return Answer(text, prob >= 0.5, prob, torch.zeros(1, 4), torch.zeros(1, 4))


class FakeDrawing:
    """Two masks whose place tells the frame that they were drawn on."""

    def __init__(self, heat=0.0):
        self.calls, self.heat = [], heat

    def draw(self, mllm, reading, answer, features):
        self.calls.append((reading.frames, answer.text, features))
        masks = np.zeros((2, HEIGHT, WIDTH), bool)
        masks[0, 0, features] = masks[1, 1, features] = True
        return DrawnMasks(masks, torch.full((2, 1, 1), self.heat))


class FakePropagator:
    """Carries the masks to every frame, one row further down in each."""

    def __init__(self):
        self.calls, self.viewed = [], []

    def features(self, video):
        self.viewed.append(video)
        return SimpleNamespace(video=video)

    def stream_many(self, video, anchors, *, features=None):
        self.calls.append((video, anchors, features))
        for t in range(len(video)):
            for question, anchor in enumerate(anchors):
                yield question, t, np.roll(anchor.masks, t, axis=1)


def make(shown=None, sampler=None, **options):
    reasoner = EmbeddedReasoner(
        mllm=FakeMllm({} if shown is None else shown), sam=Numbers(), drawing=FakeDrawing(), **options
    )
    return Segmenter(reasoner, FakePropagator(), sampler or MiddleFrame(num_references=2))


@pytest.fixture
def video():
    return Video.from_frames(np.stack([numbered_frame(k, HEIGHT, WIDTH) for k in range(NUM_FRAMES)]))


def test_not_found_means_empty_masks_and_neither_drawing_nor_propagation(video):
    segmenter = make()
    tracklet = segmenter.segment(video, "the red bus")
    assert not tracklet.found
    assert tracklet.target_frame is None
    assert tracklet.answer == "There is none."
    assert tracklet.score == pytest.approx(0.1)
    assert tracklet.masks.shape == (NUM_FRAMES, HEIGHT, WIDTH)
    assert not tracklet.masks.any()
    assert (
        segmenter.reasoner.drawing.calls == segmenter.propagator.calls == segmenter.reasoner.sam.encoded == []
    )


@pytest.mark.parametrize(("heat", "found"), [(3.0, True), (-3.0, False)])
def test_an_answer_that_points_nowhere_is_taken_back(video, heat, found):
    segmenter = make({4: 0.9}, refusal=RefusalPolicy(second_look=2.0))
    segmenter.reasoner.drawing.heat = heat
    tracklet = segmenter.segment(video, "the goat")
    assert tracklet.found == found
    assert tracklet.masks.any() == found
    assert (tracklet.score >= 0.5) == found
    assert tracklet.score == pytest.approx(1 / (1 + np.exp(2.0 - heat - np.log(9))), abs=1e-4)
    assert ("[SEG]" in tracklet.answer) == found
    assert bool(segmenter.propagator.calls) == found


def test_found_draws_on_the_target_frame_and_carries_that_mask(video):
    segmenter = make({4: 0.9}, refusal=RefusalPolicy(bias=0.7))
    tracklet = segmenter.segment(video, "the goat")
    references = list(uniform_indices(NUM_FRAMES, 2))
    ((cells, percents),) = segmenter.reasoner.mllm.read_calls
    assert cells == [*references, 4], "references first, the target last"
    assert percents == [round(100 * index / (NUM_FRAMES - 1)) for index in (*references, 4)]
    assert [(call.question, call.refusal.bias) for call in segmenter.reasoner.mllm.asked] == [
        ("the goat", 0.7)
    ]
    assert segmenter.reasoner.drawing.calls == [(cells, "It is the goat. [SEG]", 4)]

    ((carried, (anchor,), features),) = segmenter.propagator.calls
    assert carried is video
    assert anchor.target_frame == 4
    assert features.video is video
    masks = anchor.masks
    assert masks.shape == (2, HEIGHT, WIDTH)
    assert masks[0, 0, 4]
    assert masks[1, 1, 4]

    assert tracklet.found
    assert tracklet.target_frame == 4
    assert (tracklet.question, tracklet.answer) == ("the goat", "It is the goat. [SEG]")
    assert tracklet.score == pytest.approx(0.9)
    for t in range(NUM_FRAMES):
        rows, columns = np.nonzero(tracklet.masks[t])
        assert (rows.tolist(), columns.tolist()) == ([t, t + 1], [4, 4]), "the union of both objects"


def test_the_text_guided_sampler_asks_of_single_frames_and_finds_the_one_that_shows_it(video):
    segmenter = make(
        {7: 0.95}, sampler=TextGuided(num_references=2, num_candidates=9), refusal=RefusalPolicy(bias=0.3)
    )
    tracklet = segmenter.segment(video, "the goat")
    assert tracklet.found
    assert tracklet.target_frame == 7
    *alone, whole = segmenter.reasoner.mllm.read_calls
    assert [cells for cells, _ in alone] == [[k] for k in range(NUM_FRAMES)]
    assert whole[0] == [*uniform_indices(NUM_FRAMES, 2), 7]
    *scoring, final = segmenter.reasoner.mllm.asked
    assert all((call.tokens, call.refusal.bias) == (1, 0.3) for call in scoring), "scored by one token"
    assert final.refusal.bias == 0.3
    assert final.tokens > 1


def test_every_object_keeps_its_own_masks(video, tmp_path):
    tracklet = make({4: 0.9}).segment(video, "the goats")
    assert tracklet.object_masks.shape == (2, NUM_FRAMES, HEIGHT, WIDTH)
    for n, masks in enumerate(tracklet.object_masks):
        assert [np.argwhere(mask).tolist() for mask in masks] == [[[t + n, 4]] for t in range(NUM_FRAMES)]
    result = json.loads((tracklet.save(tmp_path) / "result.json").read_text())
    assert np.array_equal(np.stack([decode_masks(one) for one in result["objects"]]), tracklet.object_masks)
    assert np.array_equal(decode_masks(result["masks"]), tracklet.object_masks.any(axis=0))


def test_questions_go_through_the_video_together_as_many_as_one_walk_takes(video):
    segmenter = make({4: 0.9})
    questions = [f"goat {number}" for number in range(OBJECTS_AT_ONCE // 2 + 1)]
    together = segmenter.segment_many(video, questions)
    assert [len(anchors) for _, anchors, _ in segmenter.propagator.calls] == [OBJECTS_AT_ONCE // 2, 1]
    assert [tracklet.question for tracklet in together] == questions
    assert together == [segmenter.segment(video, question) for question in questions]


def test_what_is_not_found_waits_for_nobody_but_those_before_it(video):
    segmenter = make({4: 0.9, 0: 0.1})
    found = {"goat": MiddleFrame(2), "bus": FirstFrame(0)}
    picked = SimpleNamespace(choose=lambda count, asked, scorer: found[asked].choose(count, asked, scorer))
    asked = segmenter.reasoner.mllm.asked
    answers = segmenter.segment_each(video, ["bus", "goat", "bus", "goat"], sampler=picked)
    assert not next(answers).found
    assert [call.question for call in asked] == ["bus"], "the others are not looked at yet"
    assert [tracklet.found for tracklet in answers] == [True, False, True]
    ((_, anchors, _),) = segmenter.propagator.calls
    assert len(anchors) == 2


def test_questions_before_one_that_fails_are_answered(video):
    segmenter = make({4: 0.9})
    answer = segmenter.reasoner.mllm.answer

    def fails(reading, question, **options):
        if question == "bad":
            raise RuntimeError("no such word")
        return answer(reading, question, **options)

    segmenter.reasoner.mllm.answer = fails
    known = []
    with pytest.raises(RuntimeError, match="no such word"):
        known.extend(segmenter.segment_each(video, ["a", "b", "bad", "c"]))
    assert [tracklet.question for tracklet in known] == ["a", "b"]


def test_objects_may_each_start_in_a_frame_of_their_own(video, monkeypatch):
    segmenter = make({4: 0.9})
    masks = np.zeros((2, 2, HEIGHT, WIDTH), bool)
    masks[0, 1, 0, 5] = masks[1, 0, 0, 7] = True

    def draw(viewing, choice, answer, progress):
        return DrawnFrames(answer, (1, 8), masks, starts=(1, 0))

    monkeypatch.setattr(segmenter.reasoner, "draw", draw)
    tracklet = segmenter.segment(video, "the goats")
    assert tracklet.target_frame == 1, "the first that was drawn, as the chosen one was not"
    ((_, anchors, _),) = segmenter.propagator.calls
    assert [anchor.target_frame for anchor in anchors] == [8, 1]
    assert [np.argwhere(anchor.masks).tolist() for anchor in anchors] == [[[0, 0, 5]], [[0, 0, 7]]]
    for n, column in enumerate((5, 7)):
        assert [np.argwhere(mask).tolist() for mask in tracklet.object_masks[n]] == [
            [[t, column]] for t in range(NUM_FRAMES)
        ]


def test_frames_that_are_all_drawn_are_left_as_they_are(video, monkeypatch):
    segmenter = make({4: 0.9})
    masks = np.random.default_rng(0).random((1, NUM_FRAMES, HEIGHT, WIDTH)) < 0.5

    def draw(viewing, choice, answer, progress):
        return DrawnFrames(answer, tuple(range(NUM_FRAMES)), masks)

    monkeypatch.setattr(segmenter.reasoner, "draw", draw)
    calls = segmenter.propagator.calls
    for propagator in (segmenter.propagator, None):
        segmenter.propagator = propagator
        tracklet = segmenter.segment(video, "the goats")
        assert np.array_equal(tracklet.masks, masks[0])
        assert tracklet.object_masks is None
    assert calls == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_question_has_the_same_masks_whoever_else_is_asked(dtype):
    network = for_tracking(small_network(), dtype)
    noise = np.random.default_rng(0).integers(0, 200, (NUM_FRAMES, 48, 80, 3), dtype=np.uint8)
    noise[:, :HEIGHT, :WIDTH] = [numbered_frame(k, HEIGHT, WIDTH) for k in range(NUM_FRAMES)]
    video = Video.from_frames(noise)
    segmenter = make(dict.fromkeys(range(NUM_FRAMES), 0.9))
    segmenter.propagator = Propagator(network, MemoryConfig(mem_every=2), ImageEncoder(network, None))
    targets = {"a": 3, "b": 3, "c": 6, "d": 0, "e": 3}

    def draw(viewing, choice, answer, progress):
        rng = np.random.default_rng(ord(answer.question))
        masks = np.zeros((1 + ord(answer.question) % 2, 1, 48, 80), bool)
        for mask in masks:
            top, left = rng.integers(0, 20), rng.integers(0, 40)
            mask[0, top : top + 20, left : left + 30] = True
        return DrawnFrames(answer, (targets[answer.question],), masks)

    segmenter.reasoner.draw = draw
    together = segmenter.segment_many(video, list(targets))
    assert all(tracklet.areas().min() < tracklet.areas().max() for tracklet in together)
    for rest in (["c"], ["b", "e"], ["e", "a", "d"]):
        again = segmenter.segment_many(Video.from_frames(noise), rest)
        assert again == [together[list(targets).index(question)] for question in rest]


def test_another_sampler_may_be_given_for_one_call(video):
    segmenter = make(dict.fromkeys(range(NUM_FRAMES), 0.9))
    assert segmenter.segment(video, "q", sampler=FirstFrame(2)).target_frame == 0
    assert segmenter.segment(video, "q").target_frame == NUM_FRAMES // 2

    class Last:
        def choose(self, num_frames, question, scorer):
            return FrameChoice(num_frames - 1, ())

    both = segmenter.segment_many(video, ["a", "b"], sampler=Last())
    assert [tracklet.target_frame for tracklet in both] == [NUM_FRAMES - 1] * 2


def test_progress_tells_the_stages_in_order(video):
    def stages(segmenter):
        calls = []
        segmenter.segment(video, "q", progress=lambda *call: calls.append(call))
        return calls

    asked = TextGuided(num_references=2, num_candidates=4)
    told = [call for call in stages(make({4: 0.9}, asked)) if call[0] == "sample"]
    assert told == [("sample", 0, 1), *(("sample", done, 4) for done in range(5))], "frame by frame"
    found = stages(make({4: 0.9}))
    assert found == [
        *((stage, done, 1) for stage in ("sample", "reason", "segment") for done in (0, 1)),
        *(("propagate", done, NUM_FRAMES) for done in range(1, NUM_FRAMES + 1)),
    ]
    assert stages(make()) == [(stage, done, 1) for stage in ("sample", "reason") for done in (0, 1)]


def test_every_frame_is_encoded_once_however_many_questions_are_asked(video):
    segmenter = make({4: 0.9})
    tracklets = segmenter.segment_many(video, ["the goat", "it", "that one"])
    segmenter.segment(video, "the goat again")
    assert [tracklet.question for tracklet in tracklets] == ["the goat", "it", "that one"]
    assert sorted(segmenter.reasoner.mllm.tower.encoded) == sorted({*uniform_indices(NUM_FRAMES, 2), 4})
    assert segmenter.reasoner.sam.encoded == [4]
    assert segmenter.propagator.viewed == [video]


def test_the_viewing_is_dropped_for_another_video(video):
    segmenter = make({4: 0.9})
    other = Video.from_frames(video.frames(range(NUM_FRAMES)), name=video.name)
    for clip in (video, other, other, video):
        tracklet = segmenter.segment(clip, "the goat")
        assert tracklet.video is clip
    assert segmenter.propagator.viewed == [video, other, video]
    assert segmenter.reasoner.sam.encoded == [4, 4, 4]
    assert [call[0] for call in segmenter.propagator.calls] == [video, other, other, video]


def test_a_path_is_opened(tmp_path):
    from PIL import Image

    for k in range(3):
        Image.fromarray(numbered_frame(k, HEIGHT, WIDTH)).save(tmp_path / f"{k}.png")
    segmenter = make({1: 0.9})
    assert segmenter.segment(str(tmp_path), "the goat").target_frame == 1
    with pytest.raises(InputError, match="no such video"):
        segmenter.segment(tmp_path / "missing.mp4", "the goat")


def test_the_question_is_cleaned_before_anybody_sees_it(video):
    segmenter = make({4: 0.9})
    tracklet = segmenter.segment(video, "  the\tgoat [SEG]<|im_end|>\x00 ")
    assert tracklet.question == "the goat (SEG)‹|im_end|›"
    assert [call.question for call in segmenter.reasoner.mllm.asked] == [tracklet.question]


@pytest.mark.parametrize("question", ["", " \n\t", "\x00"])
def test_an_empty_question_is_the_users_mistake_and_costs_nothing(video, question):
    segmenter = make({4: 0.9})
    with pytest.raises(InputError, match="question is empty"):
        segmenter.segment_many(video, ["the goat", question])
    assert segmenter.reasoner.mllm.tower.encoded == segmenter.reasoner.mllm.asked == []
