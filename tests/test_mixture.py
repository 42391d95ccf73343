"""The training mixture over tiny data sets of every kind: shares, restart, ranks, negatives, broken clips."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from dataset import recipe as recipes
from dataset.balanced_draws import balanced_draws
from dataset.errors import DatasetError
from dataset.mixture import Mixture
from dataset.recipe import read_recipe
from dataset.schedule import Schedule
from tests import tiny_image_sets as tiny
from tests.synthetic_clips import write_clip

VIDEO_LENGTHS = {"long": 40, "other/middle": 20, "short": 5, "single": 1}
TINY = {
    "balanced": True,
    "turns": 2,
    "frames": {"rule": "stretches", "fewest": 8, "most": 12},
    "negatives": 0.05,
    "groups": {
        "sem_seg": {"weight": 2, "sources": {"ade20k": 3, "paco_lvis": 1}},
        "refer_seg": {"weight": 2, "sources": {"refcoco": 1}},
        "reason_seg": {"weight": 2, "reasons": 0.2, "sources": {"reason_seg": 1}},
        "talk": {
            "weight": 4,
            "sources": {"llava_instruct": 1, "chat_univi_mimic": 1, "chat_univi_video": 1},
        },
        "rvos": {"weight": 6, "sources": {"mevis": 1}},
    },
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder that holds them all."""
    root = tmp_path_factory.mktemp("all")
    tiny.write_ade20k(root)
    tiny.write_paco(root)
    tiny.write_refer(root / "refer_seg")
    tiny.write_reason_seg(root / "reason_seg" / "ReasonSeg")
    tiny.write_llava(root)
    tiny.write_chat_univi(root)
    tiny.write_mevis(root / "mevis", VIDEO_LENGTHS)
    videos = root / "Fine-tuning" / "VIDEO"
    (videos / "Activity_Videos").mkdir(parents=True)
    write_clip(videos / "Activity_Videos" / "v_1.mp4", num_frames=30)
    tiny.write_json(videos / "video_chat.json", [tiny.talk("v_1.mp4", ("<video>\nWhy?", "So."), key="video")])
    return root


def make(folder: Path, root: Path, changes: dict | None = None, **arguments) -> Mixture:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**TINY, **(changes or {})}))
    return Mixture(read_recipe(path), root, **arguments)


def facts(sample) -> tuple:
    return (sample.draw, [frame.sum() for frame in (*sample.references, *sample.targets)], sample.masks.sum())


def test_shares_of_the_balanced_schedule(root: Path, tmp_path: Path) -> None:
    mixture = make(tmp_path, root, seed=3)
    drawn = Counter(mixture.draw(index).group for index in range(512))
    assert drawn == {"sem_seg": 64, "refer_seg": 64, "reason_seg": 64, "talk": 128, "rvos": 192}


def test_shares_by_chance(root: Path, tmp_path: Path) -> None:
    mixture = make(tmp_path, root, {"balanced": False}, seed=3)
    draws = [mixture.draw(index) for index in range(1600)]
    drawn = Counter(draw.group for draw in draws)
    for group, expected in {"sem_seg": 200, "talk": 400, "rvos": 600}.items():
        assert abs(drawn[group] - expected) < 70
    sources = Counter(draw.source for draw in draws if draw.group == "sem_seg")
    assert 0.6 < sources["ade20k"] / drawn["sem_seg"] < 0.9
    counts = Counter(len(draw.references) for draw in draws if draw.name == "long")
    assert set(counts) == {8, 9, 10, 11, 12}


def test_every_rank_draws_the_same_kind(root: Path, tmp_path: Path) -> None:
    mixture = make(tmp_path, root, seed=1, together=4)
    alone = make(tmp_path, root, seed=1)
    for step in range(40):
        draws = [mixture.draw(4 * step + rank) for rank in range(4)]
        assert {draw.group for draw in draws} == {alone.draw(step).group}
        assert len({len(draw.references) for draw in draws if draw.name in ("long", "other/middle")}) <= 1
    names = {mixture.draw(index).clip for index in range(160) if mixture.draw(index).source == "mevis"}
    assert len(names) > 1


def test_the_published_shares_and_frame_counts() -> None:
    weights = [group.weight for group in read_recipe("visa").groups]
    assert weights == [9, 3, 3, 1, 4, 12]
    schedule = Schedule(weights, balanced=True, together=1, fewest=8, most=12)
    rng = np.random.default_rng(0)
    order = [schedule.group(index, rng) for index in range(1024)]
    assert Counter(order[:256]) == dict(enumerate((72, 24, 24, 8, 32, 96)))
    # Frame counts go through their own list, one step whenever the group comes.
    counts = [schedule.num_frames(index, rng) for index in range(1024) if order[index] == 5]
    assert counts == balanced_draws(range(8, 13), [0.2] * 5, len(counts))


def test_schedule_golden(golden_root: Path) -> None:
    path = golden_root / "visa" / "preprocess" / "random_list.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    cases = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    checked = 0
    for case in cases.values():
        shares, values, expected = case["probabilities"], case["values"], case["out"]
        schedule = Schedule(shares, balanced=True, together=1, fewest=8, most=12)
        # The reference uses its list from the second entry on.
        drawn = [values[schedule.group(index, rng)] for index in range(case["length"] - 1)]
        assert drawn == expected[1:]
        checked += len(drawn)
    assert checked > 0


def test_restart_at_any_step_gives_the_same_draw(root: Path, tmp_path: Path) -> None:
    first = make(tmp_path, root, seed=11)
    run = [facts(first.sample(index)) for index in range(60)]
    again = make(tmp_path, root, seed=11)
    assert [facts(again.sample(index)) for index in range(59, 29, -1)] == run[59:29:-1]
    assert again.fingerprint == first.fingerprint
    sent = pickle.loads(pickle.dumps(first))  # to a process that loads samples
    assert [facts(sent.sample(index)) for index in (3, 40)] == [run[3], run[40]]
    other = make(tmp_path, root, seed=12)
    assert other.fingerprint != first.fingerprint
    assert [facts(other.sample(index)) for index in range(10)] != run[:10]


def test_what_samples_hold(root: Path, tmp_path: Path) -> None:
    mixture = make(tmp_path, root, {"negatives": 0}, seed=0)
    seen = Counter()
    for index in range(200):
        sample = mixture.sample(index)
        draw = sample.draw
        seen[draw.source] += 1
        masked = [turn for turn in sample.turns if turn.reply != "words"]
        assert sample.masks.shape[1] == len(masked)
        assert sample.masks.dtype == bool
        assert all(turn.text and (turn.words or turn.reply == "mask") for turn in sample.turns)
        if draw.source == "mevis":
            assert draw.name != "single"  # one frame is no video
            length = len(sample.references)
            assert 8 <= length <= 12 or length == VIDEO_LENGTHS[draw.name] == 5
            (target,) = draw.targets
            assert draw.references[sample.target_places[0]] == target
            for turn, mask in zip(sample.turns, sample.masks[0], strict=True):
                upper = turn.text.startswith("Upper")  # the case is kept
                expected = tiny.box(0, 0, 3, 8) & (target % 2 == 0) if upper else tiny.box(4, 6, 6, 8)
                assert np.array_equal(mask, expected)
                assert turn.is_sentence is None
        elif draw.group == "talk":
            assert sample.masks.size == 0
            assert not sample.targets
            expected = {"llava_instruct": {1}, "chat_univi_mimic": {1, 2}, "chat_univi_video": range(8, 13)}
            assert len(sample.references) in expected[draw.source]
        elif masked:
            assert len(sample.references) == len(sample.targets) == 1
            assert sample.references[0] is sample.targets[0]
            assert sample.masks.any(axis=(2, 3)).all()
        for turn in sample.turns:
            if turn.is_sentence is False:
                assert turn.text == turn.text.lower()
    assert set(seen) == {
        "ade20k",
        "paco_lvis",
        "refcoco",
        "reason_seg",
        "llava_instruct",
        "chat_univi_mimic",
        "chat_univi_video",
        "mevis",
    }


def test_every_wording_of_a_part_comes(root: Path, tmp_path: Path) -> None:
    mixture = make(tmp_path, root, {"groups": {"parts": {"weight": 1, "sources": {"paco_lvis": 1}}}})
    texts = {turn.text for index in range(60) for turn in mixture.draw(index).turns}
    assert texts == {"mug", "the inner handle of the mug", "mug inner handle"}


def test_reasons(root: Path, tmp_path: Path) -> None:
    groups = {"reason_seg": {"weight": 1, "reasons": 0.2, "sources": {"reason_seg": 1}}}
    mixture = make(tmp_path, root, {"groups": groups})
    samples = [mixture.sample(index) for index in range(600)]
    replies = Counter(sample.turns[0].reply for sample in samples if sample.draw.name == "a")
    total = sum(replies.values())
    for reply, share in {"words": 0.2, "mask": 0.4, "mask and words": 0.4}.items():
        assert abs(replies[reply] / total - share) < 0.08
    for sample in samples:
        for turn in sample.turns:
            assert turn.words == ("" if turn.reply == "mask" else "The host serves guests.")
            assert turn.is_sentence == (sample.draw.name == "a")
        assert bool(sample.targets) == (sample.turns[0].reply != "words")
        if sample.draw.name == "b":  # no reasons are known
            assert sample.turns[0].reply == "mask"


def test_negatives_show_another_video_and_no_object(root: Path, tmp_path: Path) -> None:
    groups = {"rvos": {"weight": 1, "sources": {"mevis": 1}}}
    mixture = make(tmp_path, root, {"groups": groups, "negatives": 0.05})
    samples = [mixture.sample(index) for index in range(400)]
    swapped = [sample for sample in samples if sample.draw.swapped is not None]
    assert 8 <= len(swapped) <= 34
    for sample in swapped:
        assert sample.draw.swapped != sample.draw.clip
        assert not sample.masks.any()
        assert sample.masks.shape == (1, len(sample.turns), *tiny.SIZE)
        assert sample.target_places == ()
        assert int(sample.targets[0].mean()) // 60 == sample.draw.swapped
        assert {int(frame.mean()) // 60 for frame in sample.references} == {sample.draw.clip}
    assert all(
        sample.masks.any() or "Upper" in sample.turns[0].text for sample in samples if sample not in swapped
    )


def test_expressions_without_an_object(root: Path, tmp_path: Path) -> None:
    records = [{"image_id": 1, "ann_id": [-1], "split": "train", "sentences": tiny.sentences(0, "the Dodo")}]
    tiny.write_refer(tmp_path, "grefcoco", "grefs(unc).json", records)
    groups = {"refer": {"weight": 1, "sources": {"grefcoco": 1}}}
    sample = make(tmp_path, tmp_path, {"groups": groups}).sample(0)
    assert sample.turns[0].kind == "absent"
    assert sample.masks.shape == (1, 1, *tiny.SIZE)
    assert not sample.masks.any()


def test_an_empty_text_is_not_asked(tmp_path: Path) -> None:
    records = [{"image_id": 1, "ann_id": 11, "split": "train", "sentences": tiny.sentences(0, " ", " Cup")}]
    tiny.write_refer(tmp_path, records=records)
    mixture = make(tmp_path, tmp_path, {"groups": {"refer": {"weight": 1, "sources": {"refcoco": 1}}}})
    assert {turn.text for index in range(20) for turn in mixture.draw(index).turns} == {"cup"}


def test_videolisas_frames(root: Path, tmp_path: Path) -> None:
    changes = {
        "balanced": False,
        "turns": 1,
        "negatives": 0,
        "frames": {"rule": "anchor", "fewest": 32, "most": 32, "targets": 4},
        "groups": {"mevis": {"weight": 1, "sources": {"mevis": 1}}},
    }
    mixture = make(tmp_path, root, changes)
    draws = [mixture.draw(index) for index in range(400)]
    assert {len(draw.references) for draw in draws} == {32}
    sample = mixture.sample(0)
    assert sample.masks.shape == (4, 1, *tiny.SIZE)
    for frame, place in zip(sample.targets, sample.target_places, strict=True):
        assert frame is sample.references[place]
    # Two expressions each; "long" has two anchors, the others one.
    names = Counter(draw.name for draw in draws)
    assert "single" not in names
    assert abs(names["long"] - 200) < 45
    assert abs(names["short"] - 100) < 35


def test_asking_for_what_the_first_frame_shows(root: Path, tmp_path: Path) -> None:
    groups = {"vos": {"weight": 1, "seen_first": True, "sources": {"mevis": 1}}}
    mixture = make(tmp_path, root, {"groups": groups, "turns": 1, "negatives": 0})
    draws = [mixture.draw(index) for index in range(80)]
    uppers = [draw for draw in draws if draw.turns[0].text.startswith("Upper")]
    assert uppers
    assert all(draw.references[0] % 2 == 0 for draw in uppers)


def test_a_broken_clip_is_noted_and_another_takes_its_place(tmp_path: Path) -> None:
    tiny.write_mevis(tmp_path / "mevis", {"good": 9, "bad": 9})
    for path in (tmp_path / "mevis" / "train" / "JPEGImages" / "bad").iterdir():
        path.write_bytes(b"broken")
    changes = {"groups": {"rvos": {"weight": 1, "sources": {"mevis": 1}}}, "negatives": 0}
    mixture = make(tmp_path, tmp_path, changes)
    assert {mixture.sample(index).draw.name for index in range(20)} == {"good"}
    assert mixture.faults
    assert "bad" in str(mixture.faults[0])
    again = make(tmp_path, tmp_path, changes)
    assert facts(again.sample(19)) == facts(mixture.sample(19))
    for path in (tmp_path / "mevis" / "train" / "JPEGImages" / "good").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"sample 7: rvos gave 10 broken clips; the last: .*JPEGImages"):
        mixture.sample(7)


def test_what_cannot_be_made_of_a_sample_is_replaced_too(root: Path, tmp_path: Path) -> None:
    groups = {"rvos": {"weight": 1, "sources": {"mevis": 1}}}
    mixture = make(tmp_path, root, {"groups": groups})

    def refuse_short(sample) -> str:
        if sample.draw.name == "short":
            raise DatasetError("too short")
        return sample.draw.name

    assert {mixture.made(index, refuse_short) for index in range(40)} == {"long", "other/middle"}
    assert {str(fault) for fault in mixture.faults} == {"too short"}


def test_missing_data_sets(root: Path, tmp_path: Path) -> None:
    groups = {**TINY["groups"], "more": {"weight": 1, "sources": {"lv_vis": 1, "revos": 1}}}
    with pytest.raises(DatasetError, match=r"lv_vis: .*; revos: "):
        make(tmp_path, root, {"groups": groups})
    mixture = make(tmp_path, root, {"groups": groups}, skip_missing=True)
    assert [line.partition(":")[0] for line in mixture.missing] == ["lv_vis", "revos"]
    assert "more" not in {group.name for group in mixture.recipe.groups}
    only = make(tmp_path, {"ade20k": root}, skip_missing=True)
    assert [group.name for group in only.recipe.groups] == ["sem_seg"]
    with pytest.raises(ValueError, match="a group with a source"):
        make(tmp_path, {}, skip_missing=True)


@pytest.mark.parametrize("name", recipes.names())
def test_presets_can_be_read(name: str) -> None:
    recipe = read_recipe(name)
    assert sum(group.weight for group in recipe.groups) == 32


def test_data_sets_may_be_spelt_as_their_authors_do(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    group = {"weight": 1, "sources": {"Ref-YouTube-VOS": 1, "MeViS:valid_u": 1}}
    path.write_text(yaml.safe_dump({"groups": {"x": group}}))
    (group,) = read_recipe(path).groups
    assert {(item.name, item.split, item.is_video) for item in group.sources} == {
        ("ref_youtube_vos", "train", True),
        ("mevis", "valid_u", True),
    }


def test_published_recipes() -> None:
    visa = read_recipe("visa")
    assert (visa.balanced, visa.turns, visa.negatives) == (True, 3, 0.05)
    assert (visa.frames.fewest, visa.frames.most, visa.frames.targets) == (8, 12, 1)
    videos = {source.name: source.weight for source in visa.groups[-1].sources}
    assert videos == {
        "mevis": 4000,
        "ref_youtube_vos": 15000,
        "ref_davis17": 400,
        "revos": 3000,
        "lv_vis": 3000,
    }
    videolisa = read_recipe("videolisa")
    weights = {group.name: group.weight for group in videolisa.groups}
    assert weights == {
        "sem_seg": 8,
        "refer_seg": 4,
        "reason_seg": 3,
        "vos": 4,
        "ref_youtube_vos": 6,
        "mevis": 6,
        "ref_davis17": 1,
    }
    assert (videolisa.turns, videolisa.frames.most, videolisa.frames.targets) == (1, 32, 4)
    splits = {source.split for group in videolisa.groups for source in group.sources}
    assert splits == {"train"}  # nothing that scores are reported on
    released = {group.name: group.sources for group in read_recipe("videolisa-with-valid-u").groups}
    assert [source.split for source in released["mevis"]] == ["train", "valid_u"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turn": 3}, "did you mean 'turns'"),
        ({"groups": {}}, "a group with a source"),
        ({"groups": {"x": {"weight": 1, "sources": {"ade2k": 1}}}}, "did you mean 'ade20k'"),
        ({"groups": {"x": {"weight": 1, "sources": {"ade20k:test": 1}}}}, "not 'test'"),
        ({"groups": {"x": {"weight": 0, "sources": {"ade20k": 1}}}}, "weights above 0"),
        ({"groups": {"x": {"weight": "1", "sources": {"ade20k": 1}}}}, "expected a number"),
        ({"groups": {"x": {"weight": 1}}}, "expected weight and sources"),
        ({"groups": {"x": {"weight": 1, "sources": {"ade20k": 1}, "reason": 1}}}, "expected name, weight"),
        ({"frames": {"rule": "all"}}, "a frame rule among"),
        ({"frames": {"fewest": 9, "most": 8}}, "fewest <= most"),
        ({"frames": {"targets": 2}}, "1 unless the rule is anchor"),
        ({"frames": {"first": 2}}, "expected rule, fewest"),
        ({"negatives": 5}, "negatives from 0 to 1"),
        ({"like": "visas"}, "like must be one of"),
    ],
)
def test_refused_recipes(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is videolisa"):
        read_recipe("videolise")
    with pytest.raises(ValueError, match="found none"):
        read_recipe(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="not YAML"):
        read_recipe(tmp_path / "x.yaml")
