"""Frame samplers: where they look, in videos of any length, and that only the text-guided one asks."""

import inspect
import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visa.sampling import (
    SAMPLERS,
    FirstFrame,
    MiddleFrame,
    ModelScorer,
    Sampler,
    TextGuided,
    UniformFrame,
    choose_frames,
    uniform_indices,
)
from visa.sampling.references import REFERENCE_RULES, reference_frames

PLAIN = [FirstFrame, MiddleFrame, UniformFrame]
MANY = settings(max_examples=100, deadline=None, derandomize=True)


def never(frames, question):
    raise AssertionError("a plain sampler asked the MLLM")


def scorer_of(scores):
    """Scores frames from a mapping and writes down what it was asked."""
    asked = []

    def scorer(frames, question):
        asked.append((tuple(frames), question))
        return [scores[index] for index in frames]

    return scorer, asked


@MANY
@given(num_frames=st.integers(1, 5000), count=st.integers(1, 200))
def test_uniform_indices_are_the_middles_of_equal_stretches(num_frames, count):
    indices = uniform_indices(num_frames, count)
    assert len(indices) == min(count, num_frames)
    assert indices[0] >= 0
    assert indices[-1] < num_frames
    gaps = {after - before for before, after in itertools.pairwise(indices)}
    assert all(gap > 0 for gap in gaps)
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    count = len(indices)
    for k, index in enumerate(indices):
        middle = (2 * k + 1) * num_frames  # of the stretch, in units of 1 / (2 * count) frames
        assert index * 2 * count <= middle < (index + 1) * 2 * count


def test_uniform_indices_by_hand():
    assert uniform_indices(10, 1) == (5,)
    assert uniform_indices(8, 4) == (1, 3, 5, 7)
    assert uniform_indices(50, 4) == (6, 18, 31, 43)
    assert uniform_indices(3, 9) == (0, 1, 2)


@pytest.mark.parametrize(("num_frames", "count"), [(0, 4), (4, 0), (-1, 1)])
def test_uniform_indices_of_nothing_is_an_error(num_frames, count):
    with pytest.raises(ValueError, match="at least one frame and one index"):
        uniform_indices(num_frames, count)


class Oracle:
    """A scorer of frames and of the video in one: every frame is as likely, the video always says 30%."""

    name = "oracle"
    video = SimpleNamespace(name="clip")

    def __call__(self, frames, question):
        return [0.5] * len(frames)

    def generate(self, question, number=0):
        return "30%"


@pytest.fixture(scope="module")
def samplers(tmp_path_factory):
    """Makes the sampler of a name; the replayed one knows the question "q" about "clip"."""
    path = tmp_path_factory.mktemp("replay") / "meta_llamavid.json"
    expressions = {"0": {"exp": "q", "tp": 0.3}}
    path.write_text(json.dumps({"videos": {"clip": {"expressions": expressions}}}))
    needed = {"replayed_percent": {"path": path}, "percent_guided": {"cache": None}}
    return lambda name, **options: SAMPLERS[name](**needed.get(name, {}), **options)


def test_every_sampler_is_the_one_its_name_says():
    assert [kind.__name__ for kind in SAMPLERS.values()] == [
        "".join(part.capitalize() for part in name.split("_"))
        + ("Frame" if name in ("first", "middle", "uniform") else "")
        for name in SAMPLERS
    ]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("keyframes", "sparse_dense")])
@MANY
@given(
    num_frames=st.integers(1, 300),
    num_references=st.integers(0, 12),
    rule=st.sampled_from([*REFERENCE_RULES]),
)
def test_every_sampler_keeps_the_protocol(samplers, name, num_frames, num_references, rule):
    options = {} if name == "text_guided" else {"references": rule}
    num_references = max(1, num_references) if name == "text_guided" else num_references
    sampler = samplers(name, num_references=num_references, **options)
    assert (
        list(inspect.signature(sampler.choose).parameters)
        == list(inspect.signature(Sampler.choose).parameters)[1:]
    )
    choice = sampler.choose(num_frames, "q", Oracle())
    assert 0 <= choice.target < num_frames
    assert sorted(set(choice.references)) == list(choice.references), "in order of time, without repetition"
    assert choice.dense == choice.dense_frames == ()
    if name == "text_guided":
        candidates = uniform_indices(num_frames, sampler.num_candidates)
        assert set(choice.references) <= set(candidates)
        assert len(choice.references) == min(num_references, len(candidates))
    else:
        assert choice.references == reference_frames(rule, num_frames, choice.target, num_references)
    assert sampler.choose(num_frames, "q", Oracle()) == choice


@pytest.mark.parametrize("name", ["first", "middle", "uniform"])
@pytest.mark.parametrize(
    "options",
    [
        {"references": "nearest"},
        {"num_references": -1},
        {"num_references": 2.5},
        {"references": "local", "num_references": True},
    ],
)
def test_options_are_checked_when_a_sampler_is_made(name, options):
    with pytest.raises(ValueError, match="must be"):
        SAMPLERS[name](**options)


@MANY
@given(question=st.text(max_size=40), num_frames=st.integers(1, 300))
def test_the_uniform_sampler_takes_any_question(question, num_frames):
    question = question.encode(errors="replace").decode()
    assert 0 <= UniformFrame().choose(num_frames, question, never).target < num_frames


@pytest.mark.parametrize("sampler", PLAIN)
@pytest.mark.parametrize("num_frames", [1, 2, 51])
def test_plain_samplers_do_not_ask(sampler, num_frames):
    sampler().choose(num_frames, "the goat", never)


def test_first_and_middle_frames():
    assert [FirstFrame().choose(count, "q", never).target for count in (1, 2, 7, 50)] == [0, 0, 0, 0]
    assert [MiddleFrame().choose(count, "q", never).target for count in (1, 2, 7, 50)] == [0, 1, 3, 25]


def test_uniform_frame_is_repeatable_and_visits_all_frames_alike():
    targets = [UniformFrame().choose(5, f"question {k}", never).target for k in range(500)]
    assert targets == [UniformFrame().choose(5, f"question {k}", never).target for k in range(500)]
    assert all(70 <= targets.count(frame) <= 130 for frame in range(5))
    # A fixed value, so that neither Python's hash seed nor the number of references has a say.
    assert UniformFrame(9).choose(1000, "the goat", never).target == 744


def test_text_guided_takes_the_surest_frame():
    scores = dict.fromkeys(range(80), 0.1) | {15: 0.7, 65: 0.9}
    scorer, asked = scorer_of(scores)
    choice = TextGuided(num_references=3, num_candidates=8).choose(80, "which one could fly?", scorer)
    assert choice.target == 65
    assert choice.references == (15, 45, 65), "candidates, which have been encoded already"
    assert asked == [(uniform_indices(80, 8), "which one could fly?")]


def test_text_guided_takes_the_tie_nearest_to_the_middle():
    candidates = uniform_indices(80, 8)  # 5, 15, … 75; the middle lies between 35 and 45
    scores = dict.fromkeys(candidates, 0.2) | {5: 0.91, 25: 0.9, 75: 0.9}
    assert TextGuided().choose(80, "q", scorer_of(scores)[0]).target == 25
    assert TextGuided(tolerance=0.0).choose(80, "q", scorer_of(scores)[0]).target == 5
    # One frame just beyond the tolerance is not as good, however near to the middle.
    assert TextGuided().choose(80, "q", scorer_of(scores | {35: 0.88})[0]).target == 25


@MANY
@given(
    num_frames=st.integers(1, 200),
    values=st.lists(st.floats(0, 1), min_size=8, max_size=8),
    tolerance=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
)
def test_no_better_candidate_is_left_by_the_text_guided_sampler(num_frames, values, tolerance):
    candidates = uniform_indices(num_frames, 8)
    scores = dict(zip(candidates, values, strict=False))
    target = TextGuided(tolerance=tolerance).choose(num_frames, "q", scorer_of(scores)[0]).target
    assert scores[target] >= max(scores.values()) - tolerance
    middle = (num_frames - 1) / 2
    for index, score in scores.items():
        if score >= max(scores.values()) - tolerance:
            assert abs(target - middle) <= abs(index - middle)


def test_a_scorer_that_forgets_a_frame_is_noticed():
    with pytest.raises(ValueError, match="zip"):
        TextGuided().choose(80, "q", lambda frames, question: [0.5] * (len(frames) - 1))


def test_choosing_tells_the_frames_that_it_asks_about():
    scores = {index: 0.9 if index == 30 else 0.1 for index in range(80)}
    plain, asked = scorer_of(scores)
    ours = ModelScorer("ours", None, lambda *_: "", plain)
    sampler = TextGuided(num_candidates=4)
    for scorer, steps in ((ours, [(done, 4) for done in range(5)]), (plain, [(1, 1)])):
        told = []
        choice = choose_frames(sampler, 80, "q", scorer, lambda *step, told=told: told.append(step))
        assert choice == sampler.choose(80, "q", plain)
        assert told == [(0, 1), *steps]
    assert [len(frames) for frames, _ in asked] == [1, 1, 1, 1, 4, 4, 4]
    told = []
    assert choose_frames(FirstFrame(2), 80, "q", None, lambda *step: told.append(step)).target == 0
    assert told == [(0, 1), (1, 1)]
