"""Re-anchoring: which anchors are believed, what they make together, and how the pipeline comes to them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthetic_clips import numbered_frame
from tests.test_segmenter import FakePropagator, make
from visa.mask_track import as_tracks
from visa.reanchoring import CarriedAnchor, agree, fused, vote_weights
from visa.sampling import FrameChoice, TextGuided, uniform_indices
from visa.video import Video

NUM_FRAMES, HEIGHT, WIDTH = 20, 16, 24
MANY = settings(max_examples=50, deadline=None, derandomize=True)


def moving_square(speed=0.0, top=4, start=2) -> np.ndarray:
    """bool [T, H, W]: a square that moves to the right by ``speed`` pixels a frame."""
    masks = np.zeros((NUM_FRAMES, HEIGHT, WIDTH), bool)
    for t, mask in enumerate(masks):
        left = start + round(speed * t)
        mask[top : top + 6, left : left + 6] = True
    return masks


def drifting(masks, frame, per_frame=1) -> np.ndarray:
    """What a tracker makes of ``masks`` from ``frame`` on: the further away, the further down."""
    return np.stack(
        [
            np.roll(mask, min(HEIGHT // 2, round(per_frame * abs(t - frame))), axis=0)
            for t, mask in enumerate(masks)
        ]
    )


def anchor(frame, *objects, score=0.9) -> CarriedAnchor:
    return CarriedAnchor(frame, score, as_tracks(np.stack(objects)))


def decoded(tracks) -> np.ndarray:
    return np.stack([track.decoded() for track in tracks])


def iou(first, second) -> float:
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


def test_one_anchor_is_left_as_it_is():
    alone = anchor(3, moving_square())
    assert fused([alone]) is alone.tracks


def test_an_anchor_on_another_object_is_left_out():
    meant, other = moving_square(0.5), moving_square(0.5, top=10)
    first = anchor(10, drifting(meant, 10, 0))
    wrong = [anchor(3, other, score=1.0), anchor(17, other, score=1.0)]
    assert not any(agree(first, each) for each in wrong)
    assert fused([first, *wrong]) is first.tracks, "though they are the majority, and surer"


def test_a_good_anchor_is_kept_beside_one_on_another_object():
    meant, other = moving_square(), moving_square(top=10)
    first, second = (anchor(frame, drifting(meant, frame, 0.125)) for frame in (10, 18))
    masks = decoded(fused([first, anchor(2, other, score=1.0), second]))
    assert np.array_equal(masks, decoded(fused([first, second])))
    assert not np.array_equal(masks, decoded(first.tracks))


def test_drift_is_mended_by_an_anchor_that_agrees():
    meant = moving_square()
    first, second = anchor(4, drifting(meant, 4)), anchor(16, meant)
    alone, masks = first.tracks[0].decoded(), decoded(fused([first, second]))[0]
    assert iou(alone[11:], meant[11:]) < 0.1, "the tracker has lost it there"
    assert np.array_equal(masks[11:], meant[11:])
    assert np.array_equal(masks[:11], alone[:11]), "what was drawn nearer counts, and on a tie the first"
    assert np.array_equal(masks[4], meant[4])


def test_objects_are_fused_each_with_itself():
    one, two = moving_square(), moving_square(top=9, start=14)
    first = anchor(4, drifting(one, 4), drifting(two, 4))
    both = anchor(15, one, two)
    masks = decoded(fused([first, both]))
    assert np.array_equal(masks[:, 15], [one[15], two[15]])
    assert fused([first, anchor(15, two, one)]) is first.tracks, "in another order they are other objects"
    assert fused([first, anchor(15, one)]) is first.tracks, "another number of objects cannot be paired"


def test_an_object_lost_on_the_way_there_agrees_by_the_way_back():
    meant = moving_square()
    lost = np.where(np.arange(NUM_FRAMES)[:, None, None] > 8, False, meant)
    first, second = anchor(5, lost), anchor(15, meant)
    assert agree(first, second)
    assert not agree(second, first), "were the second the target, nothing told that the first is the same"
    masks = decoded(fused([first, second]))[0]
    assert [t for t in range(NUM_FRAMES) if not np.array_equal(masks[t], meant[t])] == [9, 10]


def test_anchors_that_see_nothing_do_not_agree():
    nothing = np.zeros((NUM_FRAMES, HEIGHT, WIDTH), bool)
    assert not agree(anchor(2, nothing), anchor(9, nothing))
    assert not agree(anchor(2, moving_square()), anchor(9, nothing))


@MANY
@given(
    frames=st.lists(st.integers(0, NUM_FRAMES - 1), min_size=1, max_size=4, unique=True),
    scores=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    index=st.integers(0, NUM_FRAMES - 1),
)
def test_votes_sum_to_one_and_the_nearer_of_two_equally_sure_counts_more(frames, scores, index):
    anchors = [CarriedAnchor(frame, score, ()) for frame, score in zip(frames, scores, strict=False)]
    weights = vote_weights(anchors, index, NUM_FRAMES)
    assert weights.shape == (len(anchors),)
    assert weights.sum() == pytest.approx(1)
    equal = vote_weights([CarriedAnchor(frame, 0.7, ()) for frame in frames], index, NUM_FRAMES)
    distances = [abs(frame - index) for frame in frames]
    assert distances[int(equal.argmax())] == min(distances)


@MANY
@given(seed=st.integers(0, 99), count=st.integers(1, 4))
def test_fused_masks_are_of_pixels_that_some_anchor_has_and_all_that_all_have(seed, count):
    rng = np.random.default_rng(seed)
    core = moving_square(0.4)
    noisy = [core | (rng.random(core.shape) < 0.1) for _ in range(count)]
    masks = decoded(fused([anchor(4 * k + 1, each) for k, each in enumerate(noisy)]))[0]
    assert not (masks & ~np.any(noisy, axis=0)).any()
    assert (masks | ~np.all(noisy, axis=0)).all()


def scores_of(**by_frame):
    known = {int(name[1:]): score for name, score in by_frame.items()}
    return lambda frames, question: [known.get(frame, 0.1) for frame in frames]


def test_the_sampler_names_the_surest_frames_that_lie_apart():
    candidates = uniform_indices(80, 8)
    assert candidates == (5, 15, 25, 35, 45, 55, 65, 75)
    scorer = scores_of(f15=0.9, f5=0.7, f35=0.6, f45=0.95, f55=0.94, f65=0.8, f75=0.4)
    choose = TextGuided(num_anchors=3).choose
    choice = choose(80, "q", scorer)
    assert (choice.target, choice.anchors) == (45, (15, 65)), "55 is next to the target"
    assert TextGuided(num_anchors=9).choose(80, "q", scorer).anchors == (15, 65), "75 is too unsure"
    assert TextGuided(num_anchors=9, anchor_score=0.3, anchor_gap=0.0).choose(80, "q", scorer).anchors == (
        55,
        15,
        65,
        5,
        35,
        75,
    )
    assert [each.target for each in choice.at_anchors()] == [15, 65]
    assert {(each.references, each.anchors) for each in choice.at_anchors()} == {(choice.references, ())}
    assert TextGuided().choose(80, "q", scorer) == FrameChoice(45, choice.references)


def test_an_anchor_is_at_least_the_target_frame():
    with pytest.raises(ValueError, match="num_anchors must be at least 1"):
        TextGuided(num_anchors=0)


@pytest.fixture
def video():
    return Video.from_frames(np.stack([numbered_frame(k, HEIGHT, WIDTH) for k in range(9)]))


def anchored_at(target, *anchors):
    return SimpleNamespace(choose=lambda count, question, scorer: FrameChoice(target, (0,), anchors=anchors))


def test_every_anchor_is_read_drawn_and_carried_and_makes_one_track(video):
    segmenter = make({2: 0.9, 4: 0.95, 7: 0.8}, sampler=anchored_at(4, 7, 3, 2))
    segmenter.propagator = Still()
    asked = []
    tracklet = segmenter.segment(video, "the goats", progress=lambda *call: asked.append(call))
    reads = [cells for cells, _ in segmenter.reasoner.mllm.read_calls]
    assert reads == [[0, 4], [0, 7], [0, 3], [0, 2]]
    ((_, anchors, _),) = segmenter.propagator.calls
    assert [each.target_frame for each in anchors] == [4, 7, 2], "there is no goat in frame 3"
    assert tracklet.target_frame == 4
    assert tracklet.score == pytest.approx(0.95)
    assert len(tracklet.object_masks) == 2
    came_from = [[column for column in (2, 4, 7) if mask[5, column]] for mask in tracklet.masks]
    assert [came_from[t] for t in (0, 2, 4, 7, 8)] == [[2], [2], [4], [7], [7]]
    assert [call for call in asked if call[0] == "reason"] == [("reason", 0, 1), ("reason", 1, 1)]


def test_with_anchors_that_disagree_or_find_nothing_the_answer_is_that_of_the_target_frame(video):
    shown = {4: 0.95, 7: 0.8}
    alone = make(shown, sampler=anchored_at(4)).segment(video, "the goats")
    assert make(shown, sampler=anchored_at(4, 3)).segment(video, "the goats") == alone
    # What the fakes draw on frame 7 stands elsewhere than what they carry there.
    assert make(shown, sampler=anchored_at(4, 7)).segment(video, "the goats") == alone


def test_what_is_not_found_is_not_looked_for_elsewhere(video):
    segmenter = make({7: 0.9}, sampler=anchored_at(4, 7))
    assert not segmenter.segment(video, "the goats").found
    assert len(segmenter.reasoner.mllm.read_calls) == 1


def test_questions_with_anchors_have_the_same_masks_together_as_alone(video):
    segmenter = make({2: 0.9, 4: 0.95, 7: 0.8}, sampler=anchored_at(4, 7, 2))
    together = segmenter.segment_many(video, ["a", "b", "c"])
    assert together == [segmenter.segment(video, question) for question in "abc"]


class Still(FakePropagator):
    """Makes of each mask its whole row, and a pixel that tells where it comes from."""

    def stream_many(self, video, anchors, *, features=None):
        self.calls.append((video, anchors, features))
        for index in range(len(video)):
            for question, each in enumerate(anchors):
                masks = np.repeat(each.masks.any(-1, keepdims=True), WIDTH, axis=-1)
                masks[:, 5, each.target_frame] = True
                yield question, index, masks


def test_the_benchmark_has_the_same_answers_with_and_without_anchors_in_one_run(video, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from with_and_without_anchors import Both, Remembered

    shown, sampler = {2: 0.9, 4: 0.95, 7: 0.8}, anchored_at(4, 7, 2)
    segmenter = make(shown, sampler=sampler)
    segmenter.propagator = Still()
    both = Both(segmenter.reasoner, segmenter.propagator, sampler)
    assert both.segment_many(video, ["goats"]) == segmenter.segment_many(video, ["goats"])
    assert (both.num_drawn, both.num_agreed) == (1, 1)
    (alone,) = Remembered(both.alone).segment_many(video, [" goats"])
    assert alone == segmenter.segment(video, "goats", sampler=anchored_at(4))
    assert alone != segmenter.segment(video, "goats")
