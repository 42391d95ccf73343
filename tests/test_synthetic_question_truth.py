"""What questions say of colours, movements, places and relations is so in the scene's own numbers.

The checks here read the questions' words afresh; they do not use the truth values from which the questions
were made.
"""

import re

import numpy as np
from hypothesis import given, settings

from dataset.synthetic.questions_scenery import DOINGS, mention
from dataset.synthetic.scene import COLOURS
from tests.question_scenes import PREPOSITIONS, bearing, scenes, turns_of


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
