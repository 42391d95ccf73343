"""The percentage mark of a video: asked, parsed, kept, replayed; and draws that all ranks make alike."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.balanced_draws import balanced_draws
from visa.errors import InputError
from visa.questions import clean_question
from visa.sampling import (
    AtPercent,
    FirstFrame,
    ModelScorer,
    PercentGuided,
    ReplayedPercent,
    TextGuided,
    VideoScorer,
    uniform_indices,
)
from visa.sampling.answer_cache import AnswerCache, AnswerKey
from visa.sampling.percent import frame_at, mean_percent, parse_percent, percent_question
from visa.sampling.replayed_percent import expression_percents
from visa.sampling.video_content import content_hash
from visa.video import Video


def a_video(num_frames: int = 20, seed: int = 0, name: str = "clip") -> Video:
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, 6, 8, 3), dtype=np.uint8)
    return Video.from_frames(frames, name=name)


class Parrot:
    """Says its answers in turn and writes down what it was asked."""

    def __init__(self, video: Video, answers: list[str], name: str = "parrot"):
        self.name, self.video, self.answers, self.asked = name, video, answers, []

    def generate(self, question: str, number: int = 0) -> str:
        self.asked.append(question)
        return self.answers[len(self.asked) - 1]


@pytest.fixture
def cache(tmp_path) -> AnswerCache:
    return AnswerCache(tmp_path / "answers")


# Reading answers


@given(st.integers(0, 10), st.booleans())
def test_every_mark_is_read(tens, last):
    answer = f"I would check the {'last ' if last else ''}{10 * tens}%."
    assert parse_percent(answer) == pytest.approx(1 - tens / 10 if last else tens / 10)


@given(st.lists(st.text(alphabet="last 0123456789%", max_size=12), max_size=10))
def test_any_answers_make_a_fraction(answers):
    assert 0 <= mean_percent(answers) <= 1


@settings(max_examples=200)
@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1))
def test_frames_grow_with_the_fraction(num_frames, one, other):
    first, second = sorted([one, other])
    assert 0 <= frame_at(num_frames, first) <= frame_at(num_frames, second) < num_frames
    assert frame_at(num_frames, 0) == 0
    assert frame_at(num_frames, 1) == num_frames - 1


@pytest.mark.parametrize(("num_frames", "fraction"), [(0, 0.5), (5, 1.01), (5, -0.1), (5, float("nan"))])
def test_no_frame_at(num_frames, fraction):
    with pytest.raises(ValueError, match="fraction from 0 to 1"):
        frame_at(num_frames, fraction)


def test_one_question_mark_is_left_out():
    assert percent_question("who {wins}??").startswith("If I want to find 'who {wins}?', which")


# Asking


def test_answers_are_averaged(cache):
    parrot = Parrot(a_video(), ["20%", "no idea", "last 10%", "40%"])
    choice = PercentGuided(num_references=4, references="local", num_answers=4, cache=cache).choose(
        20, "the dog?", parrot
    )
    assert choice.target == 10  # (0.2 + 0.9 + 0.4) / 3 of 20 frames
    assert choice.references == (8, 9, 10, 11)
    assert parrot.asked == [percent_question("the dog?")] * 4


def test_nobody_could_say(cache):
    parrot = Parrot(a_video(), ["", "the middle", "55%"])
    assert PercentGuided(num_answers=3, cache=cache).choose(20, "q", parrot).target == 10


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_short_videos(cache, num_frames):
    parrot = Parrot(a_video(num_frames), ["100%"])
    choice = PercentGuided(num_answers=1, cache=cache).choose(num_frames, "q", parrot)
    assert choice.target == num_frames - 1
    assert choice.references == tuple(range(num_frames)), "shorter than the number of references"


def test_the_same_question_is_asked_once(cache):
    sampler = PercentGuided(num_answers=2, cache=cache)
    first = sampler.choose(20, "q", Parrot(a_video(name="one"), ["10%", "30%"]))
    silent = Parrot(a_video(name="the same under another name"), [])
    assert sampler.choose(20, "q", silent) == first
    more = Parrot(a_video(), ["80%"])
    assert PercentGuided(num_answers=3, cache=cache).choose(20, "q", more).target == 8, (
        "only the third is new"
    )
    assert len(more.asked) == 1
    assert sampler.choose(20, "q", silent) == first, "of three answers kept, the first two"


@pytest.mark.parametrize("change", ["video", "question", "scorer"])
def test_another_video_question_or_scorer_is_asked_anew(cache, change):
    sampler = PercentGuided(num_answers=1, cache=cache)
    sampler.choose(20, "q", Parrot(a_video(), ["10%"]))
    name = "cockatoo" if change == "scorer" else "parrot"
    other = Parrot(a_video(seed=change == "video"), ["90%"], name)
    assert sampler.choose(20, "r" if change == "question" else "q", other).target == 18
    assert other.asked


def test_answers_given_before_a_failure_are_kept(cache):
    with pytest.raises(IndexError):
        PercentGuided(num_answers=3, cache=cache).choose(20, "q", Parrot(a_video(), ["10%", "20%"]))
    rest = Parrot(a_video(), ["30%"])
    assert PercentGuided(num_answers=3, cache=cache).choose(20, "q", rest).target == 4


def test_without_a_cache_every_answer_is_new(cache):
    sampler = PercentGuided(num_answers=1, cache=None)
    assert sampler.choose(20, "q", Parrot(a_video(), ["10%"])).target == 2
    assert sampler.choose(20, "q", Parrot(a_video(), ["50%"])).target == 10


def test_any_model_of_ours_can_be_the_scorer(cache):
    asked = []

    def answer(frames, question, number):
        asked.append((frames, question, number))
        return "The answer is 70%."

    scorer = ModelScorer("ours", a_video(), answer, lambda frames, question: [f / 100 for f in frames], 5)
    assert isinstance(scorer, VideoScorer)
    assert PercentGuided(num_answers=2, cache=cache).choose(20, "the dog", scorer).target == 14
    assert asked == [(uniform_indices(20, 5), percent_question("the dog"), number) for number in (0, 1)]
    assert TextGuided(tolerance=0.0).choose(20, "the dog", scorer).target == uniform_indices(20, 8)[-1]


@pytest.mark.parametrize("scorer", [None, lambda frames, question: [0.5] * len(frames)])
def test_a_scorer_of_frames_is_not_enough(scorer):
    with pytest.raises(ValueError, match="asks a video MLLM.*choose another sampler"):
        PercentGuided().choose(20, "q", scorer)


def test_answers_are_words(cache):
    with pytest.raises(ValueError, match="parrot must answer in words, got float"):
        PercentGuided(cache=cache).choose(20, "q", Parrot(a_video(), [0.5]))


@pytest.mark.parametrize("options", [{"num_answers": 0}, {"num_answers": 2.0}, {"references": "x"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="must be"):
        PercentGuided(**options)


# Keeping answers


KEY = AnswerKey("0" * 64, "which?\n\ud800", "name/with:slashes")


def test_the_default_folder_is_in_the_projects_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VISA_CACHE", str(tmp_path))
    AnswerCache().write(KEY, ["10%"])
    assert AnswerCache().read(KEY) == ["10%"]
    (file,) = tmp_path.rglob("*.*")
    assert file.parent == tmp_path / "answers"
    assert json.loads(file.read_text())["scorer"] == "name/with:slashes"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"answers": [1]}', '{"answers": "10%"}', '{"answers": ["10%"]}', "\udcff"],
)
def test_a_damaged_file_counts_as_none(cache, content):
    cache.write(KEY, ["10%"])
    cache.path(KEY).write_bytes(content.encode(errors="surrogateescape"))
    assert cache.read(KEY) == []
    cache.write(KEY, ["20%"])
    assert cache.read(KEY) == ["20%"]


def test_a_failed_write_leaves_the_old_answers_and_no_part(cache, monkeypatch):
    cache.write(KEY, ["10%"])

    def no_space(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(InputError, match="No space left on device; set VISA_CACHE"):
        cache.write(KEY, ["10%", "20%"])
    assert cache.read(KEY) == ["10%"]
    assert [path.suffix for path in cache.path(KEY).parent.iterdir()] == [".json"]


def test_content_is_what_the_frames_show():
    assert content_hash(a_video(name="one")) == content_hash(a_video(name="two"))
    frames = a_video().frames(range(20))
    frames[19, 5, 7, 2] ^= 1
    several = {content_hash(a_video()), content_hash(a_video(19)), content_hash(Video.from_frames(frames))}
    several.add(content_hash(Video.from_frames(a_video().frames(range(20)).reshape(20, 8, 6, 3))))
    assert len(several) == 4


# Replaying


def write_meta(path: Path, videos: dict[str, dict[str, tuple[str, object]]]) -> Path:
    content = {
        video: {"expressions": {number: {"exp": exp, "tp": tp} for number, (exp, tp) in expressions.items()}}
        for video, expressions in videos.items()
    }
    path.write_text(json.dumps({"videos": content}))
    return path


@pytest.fixture
def meta(tmp_path) -> Path:
    return write_meta(
        tmp_path / "meta_llamavid.json",
        {
            "UVO/all/clip": {
                "0": ("The  Dog?", 0.33),
                "1": ("the cat", 1.0),
                "2": ("the cat", 0.1),
                "3": ("[a] <b>", 0.6),
                "4": ("", 0.2),
            },
            "TAO/twin": {"0": ("the dog", 0.2), "1": ("the ant", 0.4)},
            "UVO/twin": {"0": ("the dog", 0.7), "1": ("the ant", 0.4)},
        },
    )


@pytest.mark.parametrize("name", ["clip", "UVO/all/clip"])
def test_published_marks_are_replayed(meta, name):
    scorer = Parrot(a_video(100, name=name), [])
    choice = ReplayedPercent(meta, references="strided", num_references=11).choose(100, "the dog?", scorer)
    assert choice == AtPercent(0.33).choose(100, "the dog?", None)
    assert choice.target == 33
    assert ReplayedPercent(meta).choose(100, "the cat", scorer).target == 99
    assert ReplayedPercent(meta).choose(100, clean_question("[a] <b>"), scorer).target == 60


def test_twins_are_told_apart_where_they_differ(meta):
    replayed = ReplayedPercent(meta)
    assert replayed.fraction("twin", "the ant") == 0.4
    assert replayed.fraction("UVO/twin", "the dog") == 0.7
    with pytest.raises(InputError, match="several videos 'twin'"):
        replayed.fraction("twin", "the dog")


def test_by_expression_id(meta):
    assert expression_percents(meta)["UVO/all/clip", "2"] == ("the cat", 0.1)


@pytest.mark.parametrize(
    ("video", "question", "complaint"),
    [
        ("other", "the dog", "holds no video 'other'"),
        ("clip", "the goat", "no tp for 'the goat' about 'clip'"),
    ],
)
def test_what_is_not_in_the_file(meta, video, question, complaint):
    with pytest.raises(InputError, match=complaint):
        ReplayedPercent(meta).choose(20, question, Parrot(a_video(name=video), []))


@pytest.mark.parametrize("tp", ["0.5", None, True, -0.1, 1.5, float("nan")])
def test_a_mark_must_be_a_fraction(tmp_path, tp):
    path = write_meta(tmp_path / "meta.json", {"v": {"7": ("q", tp)}})
    with pytest.raises(InputError, match="video 'v', expression '7': tp must be a fraction"):
        expression_percents(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "no file of expressions with tp"),
        ('{"videos": {"v": {}}}', "no file of expressions"),
        ('{"videos": {"v": {"expressions": {"0": {"tp": 0.5}}}}}', "no file of expressions"),
        ('{"videos": {"v": {"expressions": {"0": {"exp": "q"}}}}}', "holds no tp"),
    ],
)
def test_other_files(tmp_path, content, complaint):
    path = tmp_path / "meta.json"
    path.write_text(content)
    with pytest.raises(InputError, match=complaint):
        ReplayedPercent(path).choose(20, "q", Parrot(a_video(), []))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot read .*nowhere.json: No such file"):
        ReplayedPercent(tmp_path / "nowhere.json").choose(20, "q", Parrot(a_video(), []))


def test_replaying_needs_a_name(meta):
    with pytest.raises(ValueError, match="needs a scorer with a video"):
        ReplayedPercent(meta).choose(20, "q", None)


def test_a_mark_as_given():
    assert AtPercent(1.0, 3, "local").choose(10, "q", None).references == (7, 8, 9)
    assert AtPercent(0.0).choose(10, "q", None).target == FirstFrame().choose(10, "q", None).target
    with pytest.raises(ValueError, match="fraction from 0 to 1"):
        AtPercent(2.0)


# Draws


def test_a_period_holds_every_share():
    shares = (9, 3, 3, 1, 4, 12)
    drawn = balanced_draws(range(6), [share / 32 for share in shares], 512)
    assert drawn[:256] == drawn[256:]
    assert Counter(drawn[:256]) == {value: 8 * share for value, share in enumerate(shares)}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any), st.integers(0, 300))
def test_draws_are_repeatable_and_a_beginning_of_longer_ones(weights, length):
    probabilities = [weight / sum(weights) for weight in weights]
    values = [f"kind {k}" for k in range(len(weights))]
    drawn = balanced_draws(values, probabilities, length)
    assert len(drawn) == length
    assert drawn == balanced_draws(values, probabilities, 300)[:length]
    assert not [value for value in drawn if weights[values.index(value)] == 0]


@pytest.mark.parametrize(
    "arguments", [((), (), 3), ((1, 2), (1.0,), 3), ((1, 2), (0.5, 0.6), 3), ((1, 2), (1.5, -0.5), 3)]
)
def test_bad_draws(arguments):
    with pytest.raises(ValueError, match="probabilit"):
        balanced_draws(*arguments)
