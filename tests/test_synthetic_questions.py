"""Questions about synthetic scenes: what they mean, how they are answered, and which there are.

The checks here read the questions' words afresh; they do not use the truth values from which the questions
were made.
"""

import re
from collections import Counter

import numpy as np
from hypothesis import given, settings

from dataset.synthetic.lexicon import default_lexicon, is_held_out
from dataset.synthetic.questions import ask_where
from tests.question_scenes import NAMES, TRAINED, bearing, make_scene, scenes, turns_of


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_turns_mean_things_of_the_scene_and_say_so_in_the_answer(seed):
    scene, turns = turns_of(seed)
    by_id = {thing.id: thing for thing in scene.objects}
    for turn in turns:
        assert turn.question.isprintable()
        assert turn.question.isascii()
        assert 3 <= len(turn.question) <= 200
        assert not re.search(r"\ba [aeio]\w|\ban [bcdfgjklmnpqrstvwxyz]\w|  |\{|\}", turn.question), (
            turn.question
        )
        if turn.kind == "absent":
            assert "[SEG]" not in turn.answer
            assert turn.answer.startswith("There ")
            continue
        assert set(turn.object_ids) <= set(by_id)
        assert len(set(turn.object_ids)) == len(turn.object_ids)
        assert turn.answer.endswith(". [SEG]")
        assert turn.answer.count("[SEG]") == 1
        assert len(turn.answer.split()) <= 12
        if len(turn.object_ids) == 1:
            assert by_id[turn.object_ids[0]].name in turn.answer


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_names_pick_out_exactly_what_is_meant(seed):
    scene, turns = turns_of(seed)
    for turn in turns:
        if turn.kind == "referring" and turn.aspect == "name":
            (target,) = (thing for thing in scene.objects if thing.id == turn.object_ids[0])
            others = [thing for thing in scene.objects if thing is not target]
            assert all(target.name != other.name for other in others), turn.question
            assert all(target.name not in other.parts for other in others), turn.question


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_reasoning_gives_no_name_away_and_its_facts_hold_for_the_target_alone(seed):
    scene, turns = turns_of(seed)
    lexicon = default_lexicon()
    phrases = {phrase.lower(): fact for fact in lexicon.facts for phrase in fact.phrases}
    for turn in turns:
        if turn.kind != "reasoning":
            continue
        for number in turn.object_ids:
            for word in scene.objects[number].name.split():
                if len(word) > 3:
                    assert not re.search(rf"\b{word}s?\b", turn.question.lower()), turn.question
        told = [fact for phrase, fact in phrases.items() if phrase in turn.question.lower()]
        # A dictionary's definition may hold a fact's words by chance ("… with eight legs").
        if len(told) == 1 and len(turn.object_ids) == 1 and turn.aspect != "description":
            for thing in scene.objects:
                expected = thing.id in turn.object_ids
                assert told[0].holds(lexicon.concept(thing.name, thing.category)) is expected, turn.question


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_what_is_absent_is_not_there(seed):
    scene, turns = turns_of(seed)
    lexicon = default_lexicon()
    phrases = {phrase.lower(): fact for fact in lexicon.facts for phrase in fact.phrases}
    for turn in turns:
        if turn.kind != "absent":
            continue
        assert turn.object_ids == ()
        named = re.fullmatch(r"There (?:is|are) no (.*) in the video\.", turn.answer)
        if named:
            assert named[1] not in {thing.name for thing in scene.objects} | {
                thing.phrase for thing in scene.objects
            }
            if turn.aspect in ("name", "kind", "synonym"):
                assert not bearing(named[1], scene), turn.question
        for phrase, fact in phrases.items():
            if phrase in turn.question.lower() and turn.aspect == fact.aspect:
                assert all(
                    fact.holds(lexicon.concept(thing.name, thing.category)) is False
                    for thing in scene.objects
                )


@settings(max_examples=12, deadline=None)
@given(scenes)
def test_same_seed_same_questions(seed):
    assert turns_of(seed)[1] == turns_of(seed)[1]


def test_kinds_have_their_shares_and_all_aspects_occur():
    kinds, aspects = Counter(), Counter()
    for seed in range(130):
        for turn in turns_of(seed)[1]:
            kinds[turn.kind] += 1
            aspects[turn.kind, turn.aspect] += 1
    total = sum(kinds.values())
    assert total > 700
    assert 0.20 < kinds["absent"] / total < 0.30
    assert 0.34 < kinds["referring"] / total < 0.46
    assert 0.30 < kinds["reasoning"] / total < 0.42
    referring = "name synonym kind colour size position relation motion order several compound".split()
    reasoning = (
        "ability habit place use material food part nature description comparison next order several".split()
    )
    for aspect in referring:
        assert aspects["referring", aspect] > 1, aspect
    for aspect in reasoning:
        assert aspects["reasoning", aspect] > 1, aspect
    for aspect in (
        "name",
        "kind",
        "colour",
        "motion",
        "relation",
        "compound",
        "use",
        "ability",
        "description",
    ):
        assert aspects["absent", aspect] > 1, aspect


def test_held_out_names_are_never_said_in_training():
    held_out = sorted(name for name, _ in NAMES if is_held_out(name))
    assert len(held_out) >= 4
    assert len(TRAINED) >= 30
    lexicon = default_lexicon()
    for seed in range(80):
        for turn in turns_of(seed)[1]:
            said = re.search(r"(?:the|no) ([a-z ]+?)(?: in the video)?\.", turn.answer)
            if said and said[1] in lexicon:
                assert not is_held_out(said[1]), turn.answer
            if turn.kind == "referring" or turn.aspect in ("name", "synonym"):
                for name in held_out:
                    assert not re.search(rf"\b{name}\b", turn.question.lower()), turn.question


def test_held_out_scenes_are_asked_for_held_out_things():
    held_out = [pair for pair in NAMES if is_held_out(pair[0])]
    said = Counter()
    for seed in range(40):
        for turn in turns_of(seed, held_out)[1]:
            said[turn.kind] += any(re.search(rf"\b{name}\b", turn.question.lower()) for name, _ in held_out)
    assert said["referring"] > 5


def test_where_to_look_is_answered_with_a_percentage_of_the_visible_stretch():
    count = 0
    for seed in range(60):
        scene = make_scene(seed)
        for turn in ask_where(scene, np.random.default_rng(seed)):
            share = int(re.fullmatch(r"(\d+)%", turn.answer)[1]) / 100
            frame = round(share * (scene.num_frames - 1))
            visible = scene.objects[turn.object_ids[0]].visible
            assert visible[max(0, frame - 2) : frame + 3].any()
            count += 1
    assert count > 60
