"""Examples of cached scenes: what the target frame does not show is taught as a refusal, all else as is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dataset.sample import Turn
from dataset.synthetic.lexicon import default_lexicon
from dataset.synthetic.scene import Scene, SceneObject
from model.mllm.cells import FrameCells
from tests.tiny_mllm import random_cells, tiny_mllm
from visa.training import scene_examples
from visa.training.scene_cache import CachedScene
from visa.training.scene_examples import REFUSAL, SceneExamples
from visa.training.word_table import WordTable

DOG, TURTLE, BUS = range(3)
TURNS = (
    Turn("the dog", "It is the dog. [SEG]", "referring", "name", (DOG,)),
    Turn("the red bus", "It is the red bus. [SEG]", "referring", "colour", (BUS,)),
    Turn("dog and bus", "They are here. [SEG]", "referring", "several", (DOG, BUS)),
    Turn("which one is slow?", "The turtle is. [SEG]", "reasoning", "fact", (TURTLE,)),
    Turn("the one moving left", "It is the dog. [SEG]", "referring", "motion", (DOG,)),
    Turn("the last to enter", "It is the bus. [SEG]", "referring", "order", (BUS,)),
    Turn("the unicorn", "There is no unicorn.", "absent", "name"),
)


WORDS = WordTable.of(tiny_mllm())


def cells_in_half(seed):
    cells = random_cells(seed=seed)
    return FrameCells(
        cells.features.half(), cells.colour.half(), cells.kinds.half(), cells.class_indices.short(),
        cells.class_probs.half(), cells.points.half(),
    )  # fmt: skip


def scene_object(number, name, x):
    return SceneObject(
        id=number, name=name, category="animal" if name != "bus" else "vehicle", colour=None, size=0.05,
        centres=np.full((4, 2), x), visible=np.ones(4, bool), motion="still", enters=0, leaves=None,
    )  # fmt: skip


@pytest.fixture
def cached():
    """Four frames and the target, frame 2, which shows dog and turtle but not the bus."""
    masks = torch.zeros(3, 256, 256, dtype=torch.uint8)
    masks[DOG, 20:60, 20:80] = 255
    masks[TURTLE, 100:120, 150:200] = 255
    names = enumerate(("dog", "turtle", "bus"))
    objects = tuple(scene_object(k, name, 0.2 + 0.3 * k) for k, name in names)
    return CachedScene(
        frames=tuple(cells_in_half(seed) for seed in (0, 1, 2, 3, 2)),
        percents=(0, 33, 67, 100, 67),
        target=2,
        sam_features=torch.randn(256, 36, 64).half(),
        object_masks=masks,
        input_size=(576, 1024),
        scene=Scene(objects=objects, num_frames=4),
    )


@pytest.fixture
def examples(cached, tmp_path, monkeypatch):
    monkeypatch.setattr(scene_examples, "ask", lambda scene, rng, lexicon: list(TURNS))
    torch.save(cached, tmp_path / "0000000.pt")
    return SceneExamples(tmp_path, None, WORDS)


def taught(examples, cached):
    rng = np.random.default_rng(0)
    return {turn.question: lesson for turn, lesson in examples.turns(cached, rng)}


def test_what_the_target_frame_shows_is_taught_as_it_is(examples, cached):
    lessons = taught(examples, cached)
    assert lessons["the dog"].answer == "It is the dog. [SEG]"
    assert lessons["the dog"].meant == (DOG,)
    assert lessons["which one is slow?"].meant == (TURTLE,)
    assert len(lessons) == len(TURNS)


def test_what_the_target_frame_does_not_show_is_taught_as_a_refusal(examples, cached):
    lessons = taught(examples, cached)
    assert lessons["the red bus"].answer == REFUSAL
    assert lessons["the red bus"].meant == ()
    assert "[SEG]" not in REFUSAL
    assert REFUSAL.startswith("There"), "the first word by which the MLLM tells a refusal"


def test_of_several_objects_those_that_are_seen_are_taught(examples, cached):
    assert taught(examples, cached)["dog and bus"].meant == (DOG,)
    assert taught(examples, cached)["dog and bus"].answer == "They are here. [SEG]"


def test_what_is_absent_keeps_its_own_words(examples, cached):
    assert taught(examples, cached)["the unicorn"].answer == "There is no unicorn."
    assert taught(examples, cached)["the unicorn"].meant == ()


@pytest.mark.parametrize(("pixels", "is_seen"), [(7, False), (8, True)])
def test_half_a_cell_has_to_be_seen(examples, cached, pixels, is_seen):
    """A cell is 4 x 4 of the masks' pixels."""
    masks = cached.object_masks.clone()
    masks[BUS, 200, 100 : 100 + pixels] = 255
    lesson = taught(examples, replace(cached, object_masks=masks))["the red bus"]
    assert lesson.meant == ((BUS,) if is_seen else ())
    assert (lesson.answer == REFUSAL) != is_seen


def test_half_of_the_clips_are_shown_as_their_target_frame_alone(examples, cached):
    drawn = [examples.example(cached, np.random.default_rng(seed)) for seed in range(60)]
    alone = [example for example in drawn if len(example.frames) == 1]
    assert 18 <= len(alone) <= 42
    for example in alone:
        assert example.percents == (67,)
        asked = {turn.question for turn in example.turns}
        assert asked == {turn.question for turn in TURNS if turn.aspect not in ("motion", "order")}
    for example in drawn:
        assert torch.equal(example.frames[-1].features, cached.frames[-1].features.float())
        if len(example.frames) > 1:
            assert example.percents == (0, 33, 67, 100, 67)
            assert {turn.question for turn in example.turns} == {turn.question for turn in TURNS}


def test_an_example_has_at_most_so_many_turns_in_any_order(examples, cached, tmp_path):
    few = SceneExamples(tmp_path, None, WORDS, max_turns=2)
    drawn = [few.example(cached, np.random.default_rng(seed)).turns for seed in range(150)]
    assert any(turn.claimed for turns in drawn for turn in turns)
    drawn = [tuple(turn for turn in turns if not turn.claimed) for turns in drawn]
    assert all(len(turns) == len({turn.question for turn in turns}) == 2 for turns in drawn)
    assert {turns[0].question for turns in drawn} == {turn.question for turn in TURNS}


def test_an_example_is_in_the_types_that_training_computes_with(examples, cached):
    example = examples.example(cached, np.random.default_rng(0))
    for cells in example.frames:
        for name in ("features", "colour", "kinds", "class_probs"):
            assert getattr(cells, name).dtype == torch.float32
        assert cells.class_indices.dtype == torch.int64
    assert example.sam_features.dtype == torch.float32
    assert torch.equal(example.object_masks, cached.object_masks / 255)
    assert example.words is None
    on_grid = example.masks_on_grid()
    assert on_grid.shape == (3, 36, 64)
    assert on_grid[DOG].sum().item() == pytest.approx(40 * 60 / 16)
    assert on_grid[DOG, 5:15, 5:20].min() == 1


def test_draws_are_repeatable_visit_all_scenes_and_skip_those_without_a_question(
    examples, cached, tmp_path, monkeypatch
):
    for number, input_size in enumerate([(576, 1024), (500, 1024), (400, 1024)]):
        torch.save(replace(cached, input_size=input_size), tmp_path / f"{number:07d}.pt")
    several, rng = SceneExamples(tmp_path, None, WORDS), np.random.default_rng(1)
    assert {several.draw(rng).input_size for _ in range(30)} == {(576, 1024), (500, 1024), (400, 1024)}
    one, other = (several.draw(np.random.default_rng(5)) for _ in range(2))
    assert (one.turns, one.percents, one.input_size) == (other.turns, other.percents, other.input_size)
    silent = iter([[], [], list(TURNS)])
    monkeypatch.setattr(scene_examples, "ask", lambda scene, rng, lexicon: next(silent))
    assert several.draw(rng).turns
    assert next(silent, "empty") == "empty"


def test_an_empty_cache_is_told(tmp_path):
    with pytest.raises(ValueError, match="no cached scene in .*; build the cache first"):
        SceneExamples(tmp_path, None, WORDS)


def test_with_the_real_questions_nothing_hidden_is_taught_as_found(cached, tmp_path):
    torch.save(cached, tmp_path / "0000000.pt")
    examples = SceneExamples(tmp_path, default_lexicon())
    lessons = [pair for seed in range(12) for pair in examples.turns(cached, np.random.default_rng(seed))]
    hidden = [lesson for turn, lesson in lessons if turn.object_ids == (BUS,)]
    seen = [(turn, lesson) for turn, lesson in lessons if turn.object_ids and BUS not in turn.object_ids]
    assert len(hidden) >= 3
    assert len(seen) >= 10
    assert all((lesson.answer, lesson.meant) == (REFUSAL, ()) for lesson in hidden)
    assert all((lesson.answer, lesson.meant) == (turn.answer, turn.object_ids) for turn, lesson in seen)
    assert all("[SEG]" in lesson.answer for _, lesson in lessons if lesson.meant)
    assert all("[SEG]" not in lesson.answer for _, lesson in lessons if not lesson.meant)


def test_the_share_of_drawn_examples_with_hidden_features_is_as_asked(examples, cached, tmp_path):
    """Hidden are the tower's features and points alone: words, colours, kinds and masks stay."""
    shown = cached.frames[-1]
    for share, least, most in ((0.0, 0, 0), (0.5, 18, 42), (1.0, 60, 60)):
        source = SceneExamples(tmp_path, None, WORDS, hidden_features=share)
        drawn = [source.draw(np.random.default_rng(seed)) for seed in range(60)]
        hidden = [e for e in drawn if not torch.equal(e.frames[-1].features, shown.features.float())]
        assert least <= len(hidden) <= most
        for example in hidden:
            assert example.frames[-1].features.shape == shown.features.shape
            assert not torch.equal(example.frames[-1].points, shown.points.float())
            assert torch.allclose(example.frames[-1].points.norm(dim=-1), torch.ones(4, 6), atol=1e-5)
            assert torch.equal(example.frames[-1].colour, shown.colour.float())
            assert torch.equal(example.frames[-1].class_probs, shown.class_probs.float())


@pytest.mark.parametrize("nameless", [0.0, 1.0])
def test_names_of_what_is_shown_are_left_out_of_as_many_examples_as_asked(
    examples, cached, tmp_path, nameless
):
    """What training never says is left out of all of them."""
    shown = replace(cached.scene.objects[DOG], name="goat")
    scene = Scene(objects=(shown, *cached.scene.objects[1:]), num_frames=4)
    torch.save(replace(cached, scene=scene), tmp_path / "0000000.pt")
    words = replace(WORDS, names=("goat", "falcon", *WORDS.names[2:]))
    source = SceneExamples(tmp_path, None, words, hidden_features=0.0, nameless=nameless)
    barred = [1, 0] if nameless else [1]
    for seed in range(5):
        example = source.draw(np.random.default_rng(seed))
        for cells, told in zip(example.frames, example.words, strict=True):
            assert torch.allclose(told, words.cell_words(cells, barred), atol=1e-5)
