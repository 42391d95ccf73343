"""A whole run of training soft prompts: one stream after the other, each a small file in the end.

python train_ds.py --config train/steerseg data.folder=/data/rvos
python train_ds.py --config train/steerseg-embedded data.folder=... data.held_out=...
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from dataset.errors import DatasetError
from model.backbones.embedded import EmbeddedBackbone
from model.steering.checkpointing import checkpoint_layers
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPlace, SoftPrompt, Stream
from visa.errors import InputError
from visa.training.engine.driver import put_weights
from visa.training.engine.ranks import Ranks, join_ranks, leave_ranks
from visa.training.engine.settings import plain
from visa.training.engine.stage import Outcome, run_stage
from visa.training.engine.task import trained_parameters
from visa.training.steering.batches import SteeringBatches, open_steering_reader
from visa.training.steering.settings import STREAMS, SteeringSettings
from visa.training.steering.sources import HeldOut, ItemSources
from visa.training.steering.step import SteeringStep
from visa.training.steering.validation import score_steering

Build = Callable[[SteeringSettings, torch.device], Any]
# Rows of an embedding matrix that are ordinary words: behind bytes and control tokens, frequent ones first.
FIRST_WORD, NUM_WORDS = 256, 20000


def train_steering(
    settings: SteeringSettings, device: str | None = None, build: Build | None = None
) -> Outcome:
    """Train the prompts of all streams that are not done yet.

    Args:
        device: "cpu" or "cuda"; by default the GPU if there is one.
        build: makes the backbone, by default `build_backbone`.

    Raises:
        InputError: settings, data, weights or checkpoints are not as they should be.
        TrainingError, DataError: the run cannot go on.
    """
    ranks = join_ranks(device)
    try:
        return _train(settings, ranks, build or build_backbone)
    except DatasetError as error:
        raise InputError(str(error)) from error
    finally:
        leave_ranks()


def _train(settings: SteeringSettings, ranks: Ranks, build: Build) -> Outcome:
    for stream in settings.streams:
        settings.run_settings(stream).accumulation(ranks.count)  # refused before anything is loaded
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    if ranks.is_first:
        resolved = yaml.safe_dump(plain(settings), sort_keys=False)
        (out / "settings.yaml").write_text(resolved, encoding="utf-8")
    backbone = build(settings, ranks.device)
    sources = ItemSources(settings, backbone, ranks)
    if settings.backbone.gradient_checkpointing:  # from here on it writes no more, which takes a cache
        checkpoint_layers(backbone.language_model)
    for stream in settings.streams:
        if not train_stream(settings, stream, backbone, sources, out / f"{stream}.safetensors", ranks):
            return Outcome(False)
    return Outcome(True, out if ranks.is_first else None)


def train_stream(
    settings: SteeringSettings, stream: Stream, backbone: Any, sources: ItemSources, done: Path, ranks: Ranks
) -> bool:
    """Train one stream's prompt; the best by its validation, or the last, is written to ``done``.

    Returns:
        False if SIGTERM came.
    """
    run = settings.run_settings(stream)
    prompt = new_prompt(settings, stream, backbone)
    rollout = rollout_settings(settings, backbone)
    step = SteeringStep(
        backbone, prompt.to(ranks.device), rollout, settings.stream(stream).max_tokens or None
    )
    if ranks.is_first:
        total = sum(parameter.numel() for parameter in backbone.language_model.parameters())
        print(
            f"{stream} stream: {prompt.vectors.numel():,} numbers learn, "
            f"the language model's {total:,} do not",
            flush=True,
        )
    batches = SteeringBatches(sources.items(stream), run.batch.videos, (settings.seed, STREAMS.index(stream)))
    held_out = sources.held_out(stream)
    if held_out and ranks.is_first:
        print(f"{stream} stream, at the start: {_told(step, held_out)}", flush=True)
    reader = open_steering_reader(batches, settings.reading, ranks)
    try:
        end = run_stage(
            step,
            reader,
            run,
            ranks,
            validate=(lambda *_: score_steering(step, held_out, ranks)) if held_out else None,
        )
    finally:
        reader.close()
    if end.finished and ranks.is_first:
        put_weights(trained_parameters(step), end.state())
        prompt.save(done)
        if held_out:
            print(f"{stream} stream, in the end: {_told(step, held_out)}", flush=True)
    ranks.wait()
    return end.finished


def _told(step: SteeringStep, items: HeldOut) -> str:
    score = score_steering(step, items, Ranks(0, 1, step.model.prompt.vectors.device))
    return ", ".join(f"{name} {value:.3f}" for name, value in score.figures.items()) + f" ({score.maps} maps)"


def rollout_settings(settings: SteeringSettings, backbone: Any) -> RolloutSettings:
    """How attention is rolled out.

    Raises:
        InputError: a value out of its range, or a layer that the model does not have.
    """
    try:
        rollout = RolloutSettings(**settings.rollout.rollout())
        rollout.layers(backbone.num_layers)
    except ValueError as error:
        raise InputError(f"rollout: {error}") from error
    return rollout


def new_prompt(settings: SteeringSettings, stream: Stream, backbone: Any) -> SoftPrompt:
    """A stream's prompt at its start, the same on all ranks and in every start."""
    table = backbone.language_model.get_input_embeddings().weight
    words = table[min(FIRST_WORD, len(table) // 2) :][:NUM_WORDS]
    generator = torch.Generator().manual_seed(settings.seed * len(STREAMS) + STREAMS.index(stream))
    place = SoftPlace(settings.prompt.n, settings.prompt.position)
    mark = backbone.weights_mark
    return SoftPrompt.from_words(words, place, backbone.family, stream, weights=mark, generator=generator)


def build_backbone(settings: SteeringSettings, device: torch.device) -> Any:
    """The frozen model that the settings name.

    Raises:
        InputError: there is no such model, or it is of another kind than the data is for.
    """
    wanted = settings.backbone
    if settings.data.source == "scenes":
        from visa.loading import load
        from visa.reasoning.embedded import EmbeddedReasoner
        from visa.steerseg.glue_mark import glue_mark

        reasoner = load(wanted.start, device=device).reasoner
        if not isinstance(reasoner, EmbeddedReasoner):
            raise InputError(
                f"scenes are for the embedded system, not for {wanted.start}: "
                "give backbone.start=embedded or a folder of its kind"
            )
        return EmbeddedBackbone(reasoner.mllm, glue_mark(wanted.start))
    from visa.backbone_loading import load_backbone
    from visa.checkpoints.options import LoadOptions

    options = LoadOptions(dtype=wanted.precision, device=str(device), attention=wanted.attention)
    return load_backbone(wanted.start, options)
