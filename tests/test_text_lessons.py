"""Lessons without a picture: what is asked of the model, and that it learns from them."""

import numpy as np
import pytest
import torch

from dataset.synthetic.lexicon import default_lexicon
from tests.tiny_mllm import CLASS_NAMES
from tests.tiny_training import tiny_trainable
from visa.training.text_lessons import TextLessons, lesson_loss


@pytest.fixture(scope="module")
def lexicon():
    return default_lexicon()


def test_judgements_come_from_the_dictionary(lexicon):
    lessons = TextLessons(CLASS_NAMES, lexicon)
    goat = next(
        made
        for made in (lessons.draw(np.random.default_rng(seed)) for seed in range(4000))
        if made.kind == "kind" and made.fits(lexicon.concept("goat")) and "animal" in made.question
    )
    fits, known = lessons.judge([goat])
    assert fits.shape == known.shape == (1, len(CLASS_NAMES))
    assert fits[0, :4].tolist() == [True, True, False, False], CLASS_NAMES[:4]
    assert known[0, :4].all()


def test_a_broader_class_fits_what_the_tower_has_no_word_for(lexicon):
    """The dictionary alone cannot tell whether a person is a dancer; the tower calls dancers persons."""
    lessons = TextLessons(("person", "bird", "goat"), lexicon)
    person, bird = (lexicon.concept(name) for name in ("person", "bird"))
    drawn = [
        made for made in map(lessons.draw, map(np.random.default_rng, range(600))) if made.kind == "name"
    ]
    asked = [lexicon.concept(made.about) for made in drawn]
    people = [made for made, known in zip(drawn, asked, strict=True) if person.synset in known.ancestors]
    birds = [made for made, known in zip(drawn, asked, strict=True) if bird.synset in known.ancestors]
    somebody = next(made for made in people if made.fits(person) is None)
    some_bird = next(made for made in birds if made.fits(bird) is None)
    fits, known = lessons.judge([somebody, some_bird])
    assert known.all()
    assert fits.tolist() == [[True, False, False], [False, True, False]]


def test_a_lesson_is_repeatable_and_reaches_the_head_and_the_adapters(lexicon):
    mllm = tiny_trainable()
    lessons = TextLessons(CLASS_NAMES, lexicon, turns=3)
    loss, again = (lesson_loss(mllm, lessons.lesson(np.random.default_rng(0))) for _ in range(2))
    assert loss.item() == again.item()
    loss.backward()
    for name in ("query.0.weight", "query_words.weight", "key_words.weight", "bias"):
        assert mllm.head.get_parameter(name).grad.any(), name
    adapters = [value for name, value in mllm.named_parameters() if "lora_B" in name]
    assert any(value.grad is not None and value.grad.any() for value in adapters)


def test_lessons_are_learnt(lexicon):
    mllm = tiny_trainable(seed=1)
    lessons = TextLessons(CLASS_NAMES, lexicon, turns=6)
    trained = [value for value in mllm.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=3e-3)
    losses = []
    for step in range(120):
        loss = lesson_loss(mllm, lessons.lesson(np.random.default_rng(step % 4)))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
