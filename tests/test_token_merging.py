"""Density-peaks merging against a plain reading of its definition, and what must hold for any tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.chat_univi.events import find_events, merge_video
from model.chat_univi.merging import IMAGE_STAGES, TIE_NOISE, Stage, cluster, merge, merge_stages


def plainly(tokens: np.ndarray, clusters: int, k: int) -> list[int]:
    """The clusters of float64 tokens [N, C], loop by loop."""
    count, channels = tokens.shape
    distance = [[math.dist(a, b) / math.sqrt(channels) for b in tokens] for a in tokens]
    density = [math.exp(-sum(sorted(d * d for d in row)[:k]) / k) for row in distance]
    score = []
    for i in range(count):
        denser = [distance[i][j] for j in range(count) if density[j] > density[i]]
        score.append(density[i] * (min(denser) if denser else max(map(max, distance))))
    centres = sorted(range(count), key=lambda i: -score[i])[:clusters]
    return [
        centres.index(i) if i in centres else min(range(clusters), key=lambda c: distance[i][centres[c]])
        for i in range(count)
    ]


shapes = st.tuples(st.integers(1, 3), st.integers(5, 40), st.integers(1, 6), st.integers(0, 10_000))


def random_tokens(batch: int, count: int, channels: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, channels, generator=generator, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(shapes, st.data())
def test_clusters_are_those_of_the_definition(shape, data):
    tokens = random_tokens(*shape)
    # With one or two neighbours, the token itself among them, next neighbours are equally dense: ties.
    stage = Stage(data.draw(st.integers(5, shape[1])), data.draw(st.integers(3, 5)))
    found = cluster(tokens, stage)
    for row, clusters in zip(tokens, found, strict=True):
        assert clusters.tolist() == plainly(row.numpy(), stage.clusters, stage.k)


@settings(max_examples=60, deadline=None)
@given(shapes, st.data())
def test_merging_holds_for_any_tokens(shape, data):
    batch, count = shape[:2]
    tokens = random_tokens(*shape).float()
    # Some tokens the same: ties in distance and density.
    repeated = data.draw(st.lists(st.integers(0, count - 1), max_size=count))
    tokens[:, repeated] = tokens[:, :1].clone()
    stage = Stage(data.draw(st.integers(1, count)), 1)
    found = cluster(tokens, stage)
    sizes = torch.nn.functional.one_hot(found, stage.clusters).sum(1)
    assert (sizes > 0).all()  # no cluster is empty
    assert torch.equal(found, cluster(tokens, stage))  # the same again
    for row in range(batch):  # every set on its own
        assert torch.equal(found[row], cluster(tokens[row : row + 1], stage)[0])
    merged = merge(tokens, found, stage.clusters)
    # Clusters hold all that was there: their means times their sizes are the sum of the tokens.
    torch.testing.assert_close((merged * sizes[..., None]).sum(1), tokens.sum(1), atol=1e-4, rtol=1e-4)


def test_the_order_of_the_tokens_does_not_matter():
    tokens = random_tokens(1, 256, 8, 5)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(6))
    straight, shuffled = merge_stages(tokens), merge_stages(tokens[:, order])
    torch.testing.assert_close(straight.tokens, shuffled.tokens)
    assert torch.equal(straight.clusters[0][:, order], shuffled.clusters[0])
    assert straight.tokens.shape == (1, 112, 8)
    assert torch.equal(straight.tokens[:, :64], straight.levels[0])


def test_tokens_that_are_all_the_same_are_merged_too():
    merged = merge_stages(torch.ones(2, 256, 4))
    assert torch.allclose(merged.tokens, torch.ones(2, 112, 4), atol=1e-5)


def test_half_precision_clusters_as_its_values_do():
    tokens = random_tokens(2, 256, 16, 1).to(torch.bfloat16)
    half, full = merge_stages(tokens), merge_stages(tokens.float())
    assert half.tokens.dtype == torch.bfloat16
    assert torch.equal(half.clusters[0], full.clusters[0])
    assert torch.equal(half.levels[0], full.levels[0].to(torch.bfloat16))


def test_noise_breaks_ties_and_is_repeatable():
    tokens = torch.eye(16)[None]  # all alike far apart
    stage = Stage(4, 3)

    def noisy(seed: int) -> torch.Tensor:
        return cluster(tokens, stage, TIE_NOISE, torch.Generator().manual_seed(seed))

    assert torch.equal(noisy(0), noisy(0))
    assert any(not torch.equal(noisy(0), noisy(seed)) for seed in range(1, 4))
    clear = random_tokens(1, 64, 8, 3)
    assert torch.equal(cluster(clear, stage, TIE_NOISE), cluster(clear, stage))


def test_neighbours_where_clusters_are_few():
    assert [stage.k for stage in IMAGE_STAGES] == [5, 3, 3]
    assert [Stage(clusters, 5).k for clusters in range(1, 8)] == [1, 1, 1, 2, 5, 5, 5]


def test_frames_become_events():
    for frames in (1, 2, 16, 17, 33, 50):
        generator = torch.Generator().manual_seed(frames)
        patches = torch.randn(frames, 8, 4, generator=generator)
        events = find_events(patches)
        assert sorted(set(events.tolist())) == list(range(math.ceil(frames / 16)))


def test_frames_that_look_alike_are_one_event():
    generator = torch.Generator().manual_seed(0)
    looks = 5 * torch.randn(6, 1, 16, generator=generator)
    shot = torch.arange(96) // 16
    patches = looks[shot] + 2 * torch.randn(96, 100, 16, generator=generator)
    events = find_events(patches)
    assert len({(int(a), int(b)) for a, b in zip(events, shot, strict=True)}) == 6
    stages = (Stage(8, 5), Stage(4, 3))
    video = merge_video(patches, stages)
    assert video.tokens.shape == (6 * 12, 16)
    # Events come in the order of time, however their clusters are numbered.
    for number in range(6):
        torch.testing.assert_close(
            video.merged[number].levels[0].mean(1)[0], looks[number, 0], atol=0.5, rtol=0
        )


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="N >= 64"):
        merge_stages(torch.zeros(1, 63, 4))
    with pytest.raises(ValueError, match=r"\[B, N, C\]"):
        cluster(torch.zeros(63, 4), Stage(2, 2))
    with pytest.raises(ValueError, match="at least one cluster"):
        Stage(0, 1)
