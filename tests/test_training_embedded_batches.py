"""Examples of the embedded system's training: they follow from seed and number alone, and broken scenes are
replaced, counted and named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset.errors import DatasetError
from tests.tiny_glue import tiny_batches, write_scenes
from tests.tiny_training import tiny_trainable
from visa.training.batches.faults import DataError
from visa.training.embedded_settings import ReadingSettings
from visa.training.engine.ranks import Ranks
from visa.training.glue_batches import GlueBatch, open_glue_reader
from visa.training.scene_cache import load_scene, scene_path
from visa.training.word_table import WordTable

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def batches(scenes):
    return tiny_batches(scenes, size=1)


def tells(batch: GlueBatch) -> list:
    """What a batch holds, comparable."""
    sums = [example.frames[-1].features.double().sum().item() for example in batch.examples]
    turns = [turn for example in batch.examples for turn in example.turns]
    return [batch.index, batch.names, sums, turns, batch.lesson.questions, batch.lesson.nothing.tolist()]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10**9), before=st.integers(0, 10**6))
def test_an_example_follows_from_its_number(batches, number, before):
    one = tells(batches[number].batch)
    batches[before]
    assert tells(batches[number].batch) == one


def test_another_seed_or_stage_has_other_examples(scenes):
    drawn = [tells(tiny_batches(scenes, seed=seed)[0].batch)[3:] for seed in ((0, 0), (0, 1), (1, 0))]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_filmed_and_faked_examples_come_in_their_shares(scenes):
    names = [tiny_batches(scenes, word_share=0.5)[start].batch.names for start in range(0, 40, 2)]
    faked = [name.startswith("faked frame of ") for pair in names for name in pair]
    assert 10 <= sum(faked) <= 30
    filmed = {name for pair in names for name in pair if name.startswith("scene ")}
    assert filmed == {"scene 0000000", "scene 0000001", "scene 0000002"}
    assert all(n.startswith("faked") for n in tiny_batches(None, word_share=0.0)[0].batch.names)


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_share_what_one_rank_would_read_and_go_on_where_it_stood(batches, workers):
    reading = ReadingSettings(workers=workers)
    alone = open_glue_reader(batches, reading, Ranks(0, 1, CPU))
    pair = [open_glue_reader(batches, reading, Ranks(rank, 2, CPU)) for rank in range(2)]
    try:
        expected = [tells(next(alone)) for _ in range(6)]
        assert [tells(next(pair[k % 2])) for k in range(4)] == expected[:4]
        assert pair[0].state_dict() == pair[1].state_dict() == {"samples": 4}
        alone.close()
        alone = open_glue_reader(batches, reading, Ranks(0, 1, CPU))
        alone.load_state_dict(pair[0].state_dict())
        assert [tells(next(alone)) for _ in range(2)] == expected[4:]
    finally:
        for reader in (alone, *pair):
            reader.close()


def test_a_broken_scene_is_replaced_counted_and_named(tmp_path, capsys):
    scenes = write_scenes(tmp_path)
    scene_path(scenes, 1).write_bytes(b"not a scene")
    reading = ReadingSettings(workers=0, broken_share=1.0)
    reader = open_glue_reader(tiny_batches(scenes, word_share=0.0), reading, Ranks(0, 1, CPU))
    names = [name for _ in range(6) for name in next(reader).names]
    assert set(names) == {"scene 0000000", "scene 0000002"}
    assert reader.num_broken > 0
    assert "0000001.pt is no cached scene" in next(iter(reader.broken))
    assert "skipped a broken sample" in capsys.readouterr().err


def test_nothing_but_broken_scenes_ends_the_run(tmp_path):
    scenes = write_scenes(tmp_path, count=1)
    scene_path(scenes, 0).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"0000000\.pt is no cached scene"):
        load_scene(scene_path(scenes, 0))
    reader = open_glue_reader(
        tiny_batches(scenes, word_share=0.0), ReadingSettings(workers=0), Ranks(0, 1, CPU)
    )
    with pytest.raises(DataError, match=r"more than 1\.00%.*anew; or raise reading\.broken_share"):
        next(reader)


def test_other_scenes_are_other_data(scenes, tmp_path):
    fingerprint = tiny_batches(scenes).fingerprint
    assert fingerprint == tiny_batches(scenes).fingerprint
    assert fingerprint != tiny_batches(write_scenes(tmp_path, count=2)).fingerprint


def test_words_are_embedded_as_the_model_does_it():
    mllm = tiny_trainable()
    table = WordTable.of(mllm)
    ids = torch.tensor(mllm.packer.words(" red goat"))
    assert torch.equal(table.embedding("red goat"), mllm.embed(ids).float().mean(0))
    assert torch.equal(table.cell_words.classes, mllm.class_embeddings)
    assert torch.equal(table.cell_words.names, mllm.name_embeddings)
    assert torch.equal(table.cell_words.places, mllm.name_places)
    assert table.names == mllm.names.names
    assert table.class_names == mllm.class_names
