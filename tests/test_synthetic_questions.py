"""Questions about synthetic scenes: true of exactly what they mean, and honest about names and words.

The checks here read the questions' words afresh and compare them with the scene's numbers; they do not use
the truth values from which the questions were made.
"""

import gzip
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.synthetic import lexicon_gloss, people, questions_wording
from dataset.synthetic.lexicon import default_lexicon, is_held_out
from dataset.synthetic.questions import ask, ask_where
from dataset.synthetic.questions_scenery import DOINGS, mention
from dataset.synthetic.scene import COLOURS, MOTIONS, Scene, SceneObject
from dataset.synthetic.text_questions import KINDS, draw

SPRITES = {
    "animal": "dog cat horse cow tiger rabbit elephant monkey goat camel fox zebra bear mouse koala",
    "bird": "bird duck owl penguin rooster eagle flamingo parrot swan",
    "vehicle": "car bus truck bicycle motorcycle taxi tractor train",
    "boat": "sailboat canoe ferry",
    "fruit": "apple banana strawberry pear lemon watermelon grapes",
    "food": "pizza hamburger bread cheese",
    "tool": "hammer axe shovel ladder screwdriver",
    "clothing": "hat shirt shoe scarf jeans",
    "musical instrument": "guitar violin trumpet drum",
    "insect": "ant butterfly bee spider snail",
    "person": "man woman boy girl firefighter teacher astronaut",
    "device": "laptop camera telephone television",
}
NAMES = [(name, category) for category, names in SPRITES.items() for name in names.split()]
NAMES += [
    ("man surfing", "person"),
    ("woman dancing", "person"),
    ("cup of coffee", "drink"),
    ("hot dog", "food"),
]
TRAINED = [pair for pair in NAMES if not is_held_out(pair[0])]
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def make_scene(seed: int, names: list[tuple[str, str]] = TRAINED) -> Scene:
    """A random scene of one to five things, some of a kind, some compound, coming and going."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(10, 30))
    objects: list[SceneObject] = []
    for _ in range(int(rng.integers(1, 6))):
        name, category = names[rng.integers(len(names))]
        motion = MOTIONS[rng.integers(len(MOTIONS))] if rng.random() < 0.6 else "still"
        step = np.array(STEPS.get(motion, (0, 0))) * rng.uniform(0.01, 0.04)
        centres = rng.uniform(0.1, 0.9, 2) + np.arange(length)[:, None] * step
        visible = ((centres > 0) & (centres < 1)).all(axis=1)
        if rng.random() < 0.3:
            visible[: rng.integers(1, length - 2)] = False
        if rng.random() < 0.3:
            visible[rng.integers(2, length) :] = False
        if visible.sum() < 2:
            continue
        centres[~visible] = np.nan
        seen = np.flatnonzero(visible)
        parts, phrase = (), ""
        if category in ("animal", "person") and rng.random() < 0.25:
            other = names[rng.integers(len(names))][0]
            parts, phrase = (name, other), f"{name} riding {questions_wording.with_article(other)}"
        objects.append(
            SceneObject(
                id=len(objects),
                name=name,
                category=category,
                colour=None if rng.random() < 0.2 else COLOURS[rng.integers(len(COLOURS))],
                size=float(rng.uniform(0.005, 0.3)),
                centres=centres,
                visible=visible,
                motion=motion,
                enters=int(seen[0]),
                leaves=None if seen[-1] == length - 1 else int(seen[-1]) + 1,
                parts=parts,
                phrase=phrase,
                keywords=tuple(name.split()),
                depth=len(objects),
                speed=float(np.linalg.norm(step)),
            )
        )
    return Scene(tuple(objects), length)


def turns_of(seed: int, names: list[tuple[str, str]] = TRAINED, num_turns: int = 8):
    scene = make_scene(seed, names)
    return scene, ask(scene, np.random.default_rng(seed), default_lexicon(), num_turns)


def bearing(noun: str, scene: Scene) -> list[SceneObject]:
    """The things that a question's noun may mean: by name or dictionary; all things for "thing", "one" …"""
    if noun in ("thing", "object", "one"):
        return list(scene.objects)
    lexicon = default_lexicon()
    return [
        thing
        for thing in scene.objects
        if noun in (thing.name, thing.phrase)
        or noun in lexicon.concept(thing.name, thing.category).calls | set(lexicon.concept(thing.name).names)
    ]


PREPOSITIONS = "on|along|over|across|in|by|near|beside|behind|in front of|next to|against"
scenes = st.integers(min_value=0, max_value=10**6)


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
def test_colours_are_those_of_the_scene(seed):
    scene, turns = turns_of(seed)
    for turn in turns:
        match = re.search(
            rf"\b(?:the )?({'|'.join(COLOURS)}) ([a-z ]+?)"
            rf"(?: (?:{'|'.join(DOINGS)}|{PREPOSITIONS}) .*|[.?]|$)",
            turn.question.lower(),
        )
        # "Which thing is brown in front of the trees" has no noun behind its colour.
        if turn.aspect != "colour" or match is None or re.match(rf"(?:{PREPOSITIONS})\b", match[2]):
            continue
        colour = match[1]
        fitting = [thing.id for thing in bearing(match[2], scene) if thing.colour in (colour, None)]
        assert sorted(turn.object_ids) == fitting, turn.question


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_surroundings_say_nothing_of_what_is_there(seed):
    phrase = mention(np.random.default_rng(seed), doing=seed % 2 == 0)
    assert re.fullmatch(rf"(?:(?:{'|'.join(DOINGS)}) )?(?:{PREPOSITIONS}) the [a-z-]+(?: [a-z-]+)?", phrase)
    assert not set(phrase.split()) & set(COLOURS)


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_movements_are_those_of_the_scene(seed):
    scene, turns = turns_of(seed)
    words = {
        "left": r"moving left|to the left\b|right to left",
        "right": r"moving right|to the right\b|left to right",
        "up": r"moving up|upwards|goes up|rises",
        "down": r"moving down|downwards|goes down|sinks",
        "growing": r"closer|bigger",
        "still": r"still|does not move|in its place",
    }
    for turn in turns:
        if turn.kind != "referring" or turn.aspect != "motion":
            continue
        for motion, pattern in words.items():
            if re.search(pattern, turn.question):
                meant = [thing for thing in scene.objects if thing.id in turn.object_ids]
                assert all(thing.motion == motion for thing in meant), turn.question


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_places_and_events_are_those_of_the_scene(seed):
    scene, turns = turns_of(seed)
    side = {
        "left": (0, 1),
        "right": (0, -1),
        "top": (1, 1),
        "bottom": (1, -1),
        "highest": (1, 1),
        "lowest": (1, -1),
    }
    checked = {
        "appears first": "enters",
        "first to appear": "enters",
        "leaves first": "leaves",
        "leave": "leaves",
    }
    for turn in turns:
        if turn.kind != "referring" or len(turn.object_ids) != 1:
            continue
        target = scene.objects[turn.object_ids[0]]
        if turn.aspect == "position":
            for word, (axis, sign) in side.items():
                if re.search(rf"\b{word}\b", turn.question) and "middle" not in turn.question:
                    rivals = [
                        other for other in scene.objects if other.name == target.name and other is not target
                    ]
                    place = sign * np.nanmean(target.centres[:, axis])
                    for other in rivals:
                        both = target.visible & other.visible
                        assert both.any()
                        difference = sign * (target.centres[both, axis] - other.centres[both, axis])
                        assert difference.mean() < 0, (turn.question, place)
        elif turn.aspect == "order":
            for words, field in checked.items():
                if re.search(rf"\b{words}\b", turn.question):
                    values = [
                        getattr(thing, field) if getattr(thing, field) is not None else 10**6
                        for thing in scene.objects
                    ]
                    assert values[target.id] == min(values), turn.question
                    assert values.count(min(values)) == 1, turn.question


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_relations_hold_against_the_named_landmark(seed):
    scene, turns = turns_of(seed)
    sides = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    for turn in turns:
        match = re.search(
            r"(left of|right of|above|below) the ([a-z ]+?)(?: in th.*| through.*|[.?]|$)",
            turn.question.lower(),
        )
        if turn.kind != "referring" or turn.aspect != "relation" or match is None:
            continue
        landmarks = [thing for thing in scene.objects if thing.name == match[2]]
        assert len(landmarks) == 1, turn.question
        axis, sign = sides[match[1]]
        target, landmark = scene.objects[turn.object_ids[0]], landmarks[0]
        both = target.visible & landmark.visible
        assert (sign * (target.centres[both, axis] - landmark.centres[both, axis])).mean() > 0.1, (
            turn.question
        )


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


PLURALS = {
    "goat": "goats",
    "mouse": "mice",
    "sheep": "sheep",
    "man surfing": "men surfing",
    "bus": "buses",
    "cherry": "cherries",
    "scissors": "scissors",
    "piece of clothing": "pieces of clothing",
    "knife": "knives",
    "bowl of rice": "bowls of rice",
    "glass": "glasses",
    "octopus": "octopuses",
}


@pytest.mark.parametrize(("one", "many"), PLURALS.items())
def test_plurals(one, many):
    assert questions_wording.plural(one) == many


def test_articles_and_verbs():
    said = [
        questions_wording.with_article(noun)
        for noun in ("owl", "unicorn", "hourglass", "goat", "scissors", "umbrella")
    ]
    assert said == ["an owl", "a unicorn", "an hourglass", "a goat", "scissors", "an umbrella"]
    assert questions_wording.plural_verb("is used to cut") == "are used to cut"
    assert questions_wording.plural_verb("lays eggs") == "lay eggs"
    assert questions_wording.plural_verb("can fly") == "can fly"


def test_definitions_become_descriptions_without_the_things_own_words():
    gloss = 'any of various large wading birds (family X) having a long neck; "the heron stood still"'
    assert lexicon_gloss.describe(gloss, ("heron",)) == ("one of the large wading birds having a long neck",)
    assert lexicon_gloss.describe("a boat that is moved by sails", ("sailboat",)) == ()
    assert lexicon_gloss.leaks("who skis down a slope", ("skier",))
    assert not lexicon_gloss.leaks("a large wading bird", ("heron",))


def test_people_are_read_with_what_they_do():
    surfing = people.read("woman surfing")
    assert (surfing.who, surfing.activity, surfing.role) == ("woman", "surfing", "surfer")
    assert people.read("bald man").who == "man"
    assert people.read("goat") is None
    assert people.read("man") is None


def test_every_fact_holds_for_something_and_every_measure_has_a_holder():
    lexicon = default_lexicon()
    concepts = [lexicon.concept(name) for name in lexicon.names]
    concepts += [lexicon.concept(name, category) for name, category in NAMES]
    concepts += [lexicon.concept("superhero", "character")]
    concepts += [lexicon.concept(f"man {activity}") for activity in people.ROLES]
    for fact in lexicon.facts:
        assert any(fact.holds(concept) for concept in concepts), fact
        assert not fact.holders & (fact.exceptions | fact.doubtful), fact
    assert lexicon.concept("goat").measure("weight") < lexicon.concept("elephant").measure("weight")
    assert lexicon.concept("spoon").measure("speed") is None


def test_lexicon_is_small_and_keeps_wordnets_notice():
    path = Path(lexicon_gloss.__file__).with_name("lexicon.tsv.gz")
    assert path.stat().st_size < 500_000
    with gzip.open(path, "rt") as lines:
        assert "Princeton University" in "".join(next(lines) for _ in range(25))
    assert len(default_lexicon().names) > 7000


@settings(max_examples=25, deadline=None)
@given(scenes, st.sampled_from([False, True]))
def test_text_questions_fit_what_they_are_about(seed, held_out):
    lexicon = default_lexicon()
    made = draw(np.random.default_rng(seed), lexicon, held_out)
    assert made.question == draw(np.random.default_rng(seed), lexicon, held_out).question
    assert is_held_out(made.about) == held_out
    assert made.question.isprintable()
    assert len(made.question) <= 180
    assert made.fits(lexicon.concept(made.about)) is True
    if made.kind in ("fact", "description"):
        assert not re.search(rf"\b{re.escape(made.about)}\b", made.question.lower())


def test_text_questions_tell_what_fits_from_what_does_not():
    lexicon = default_lexicon()
    others = [lexicon.concept(name) for name in lexicon.names[::40]]
    rng = np.random.default_rng(0)
    verdicts = {kind: [] for kind in KINDS}
    for _ in range(60):
        made = draw(rng, lexicon)
        verdicts[made.kind] += [made.fits(other) for other in others]
    for kind, found in verdicts.items():
        assert found.count(False) > 5 * found.count(None), kind
    assert verdicts["fact"].count(True) > 20
    assert verdicts["kind"].count(True) > 20
