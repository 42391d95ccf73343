"""Reference frames around a target, and VideoLISA's sparse and dense frames, in videos of any length."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visa.sampling import SAMPLERS, FrameChoice, SparseDense, uniform_indices
from visa.sampling.references import REFERENCE_RULES, reference_frames
from visa.sampling.sparse_dense import dense_positions, sparse_indices

MANY = settings(max_examples=200, deadline=None)
RULES = st.sampled_from([*REFERENCE_RULES])


@st.composite
def videos(draw):
    """(number of frames, target frame)."""
    num_frames = draw(st.integers(1, 3000))
    return num_frames, draw(st.integers(0, num_frames - 1))


@MANY
@given(rule=RULES, video=videos(), count=st.integers(1, 60))
def test_references_stand_in_order_of_time_and_fit(rule, video, count):
    num_frames, target = video
    frames = reference_frames(rule, num_frames, target, count)
    assert 1 <= len(frames) <= min(count, num_frames)
    assert all(before < after for before, after in itertools.pairwise(frames))
    assert frames[0] >= 0
    assert frames[-1] < num_frames
    if rule in ("strided", "local", "global_local"):
        assert target in frames
    if count >= num_frames and rule != "global_local":
        assert frames == tuple(range(num_frames)), "a video shorter than the references is shown whole"


@MANY
@given(rule=RULES, video=videos())
def test_no_references_leave_the_target(rule, video):
    assert reference_frames(rule, *video, 0) == (video[1],)


@pytest.mark.parametrize("rule", REFERENCE_RULES)
@pytest.mark.parametrize("count", [0, 1, 11, 12])
def test_one_frame(rule, count):
    assert reference_frames(rule, 1, 0, count) == (0,)


@MANY
@given(video=videos(), count=st.integers(1, 60))
def test_strided_frames_are_evenly_spaced_and_as_many_as_may_be(video, count):
    num_frames, target = video
    frames = reference_frames("strided", num_frames, target, count)
    step = max(1, -(-num_frames // count))
    assert {after - before for before, after in itertools.pairwise(frames)} <= {step}
    assert frames[0] < step
    assert frames[-1] >= num_frames - step
    if step > 1:
        assert -(-num_frames // (step - 1)) > count, "a smaller step would give too many"


@MANY
@given(video=videos(), count=st.integers(1, 60))
def test_local_frames_are_neighbours_with_the_target_in_their_middle(video, count):
    num_frames, target = video
    frames = reference_frames("local", num_frames, target, count)
    assert frames == tuple(range(frames[0], frames[0] + min(count, num_frames)))
    before, after = target - frames[0], frames[-1] - target
    if frames[0] > 0 and frames[-1] < num_frames - 1:
        assert before - after in (0, 1)


@MANY
@given(video=videos(), count=st.integers(2, 60))
def test_global_local_frames_are_half_of_each(video, count):
    num_frames, target = video
    frames = set(reference_frames("global_local", num_frames, target, count))
    far = set(uniform_indices(num_frames, count // 2))
    near = set(reference_frames("local", num_frames, target, count - count // 2))
    assert frames == far | near


def test_references_by_hand():
    assert reference_frames("global", 120, 7, 12) == tuple(range(5, 120, 10))
    assert reference_frames("local", 120, 60, 12) == tuple(range(54, 66))
    assert reference_frames("local", 120, 1, 5) == (0, 1, 2, 3, 4)
    assert reference_frames("local", 120, 119, 4) == (116, 117, 118, 119)
    assert reference_frames("global_local", 120, 60, 12) == (10, 30, 50, 57, 58, 59, 60, 61, 62, 70, 90, 110)
    assert reference_frames("global_local", 120, 60, 1) == (60,)
    assert reference_frames("strided", 120, 60, 11) == tuple(range(5, 120, 11))


@pytest.mark.parametrize(
    ("rule", "num_frames", "target", "count", "complaint"),
    [
        ("near", 10, 0, 3, "must be one of strided, global, local, global_local"),
        ("local", 10, 10, 3, "one of the video's 10, got 10"),
        ("local", 10, -1, 3, "one of the video's 10"),
        ("local", 0, 0, 3, "one of the video's 0"),
        ("local", 10, 0, -1, "from 0 on"),
    ],
)
def test_bad_references(rule, num_frames, target, count, complaint):
    with pytest.raises(ValueError, match=complaint):
        reference_frames(rule, num_frames, target, count)


# Sparse and dense


@MANY
@given(num_frames=st.integers(1, 3000), num_sparse=st.integers(2, 64), data=st.data())
def test_sparse_and_dense_frames(num_frames, num_sparse, data):
    num_dense = data.draw(st.integers(1, num_sparse - 1))
    choice = SparseDense(num_sparse, num_dense).choose(num_frames, "q", None)
    assert len(choice.references) == num_sparse
    assert list(choice.references) == sorted(choice.references)
    assert choice.references[0] >= 0
    assert choice.references[-1] < num_frames
    times = [choice.references.count(frame) for frame in set(choice.references)]
    assert max(times) - min(times) <= 1
    if num_frames <= num_sparse:
        assert set(choice.references) == set(range(num_frames))
    assert len(set(choice.dense)) == len(choice.dense) == num_dense
    assert list(choice.dense) == sorted(choice.dense)
    assert choice.dense[0] >= 0
    assert choice.dense[-1] < num_sparse
    assert choice.dense_frames == tuple(choice.references[position] for position in choice.dense)
    assert choice.target in choice.dense_frames


def test_videolisa_as_published():
    assert dense_positions(32, 4) == (3, 10, 18, 26)
    choice = SAMPLERS["sparse_dense"]().choose(64, "the goat", None)
    assert choice == FrameChoice(36, tuple(range(0, 64, 2)), (3, 10, 18, 26))
    assert choice.dense_frames == (6, 20, 36, 52)
    one = SparseDense().choose(1, "the goat", None)
    assert one == FrameChoice(0, (0,) * 32, (3, 10, 18, 26))


@pytest.mark.parametrize("options", [(32, 0), (32, 32), (4, 5), (1, 1), (0, 0)])
def test_impossible_dense_frames(options):
    with pytest.raises(ValueError, match="can be dense"):
        SparseDense(*options)


@pytest.mark.parametrize("numbers", [(0, 32), (5, 0)])
def test_impossible_sparse_frames(numbers):
    with pytest.raises(ValueError, match="need a video and a number"):
        sparse_indices(*numbers)
