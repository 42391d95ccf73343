"""The words that synthetic questions are made of: plurals, articles, verbs, definitions, people."""

import pytest

from dataset.synthetic import lexicon_gloss, people, questions_wording

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
