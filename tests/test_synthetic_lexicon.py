"""The lexicon behind synthetic questions, and the questions in words alone that are drawn from it."""

import gzip
import re
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.synthetic import lexicon_gloss, people
from dataset.synthetic.lexicon import default_lexicon, is_held_out
from dataset.synthetic.text_questions import KINDS, draw
from tests.question_scenes import NAMES, scenes


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
