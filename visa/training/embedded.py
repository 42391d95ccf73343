"""The whole recipe of the embedded system: scenes, words, pictures, tracker.

    python train_ds.py --config train/embedded

Stages that are done are kept in the run's folder and not done again; one that was broken off goes on from its
last checkpoint.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError

from dataset.synthetic.lexicon import default_lexicon
from dataset.synthetic.library import PUBLIC_FILES, open_library
from model.mllm.mllm import MLLM
from model.sam import SamSegmenter, build_sam, fastest_encoder_dtype
from visa.downloads import fetch
from visa.embedded_mllm import PublicParts, build_mllm, load_glue, save_glue
from visa.errors import InputError
from visa.loading import find_preset
from visa.training.embedded_settings import EmbeddedSettings, GlueRunSettings
from visa.training.engine.driver import put_weights
from visa.training.engine.ranks import Ranks, join_ranks, leave_ranks
from visa.training.engine.settings import plain
from visa.training.engine.stage import Outcome, run_stage
from visa.training.engine.task import trained_parameters
from visa.training.engine.trainables import parameter_table
from visa.training.glue import PARTS, GlueStep
from visa.training.glue_batches import GlueBatches, open_glue_reader
from visa.training.glue_validation import GlueScore, validate_glue
from visa.training.scene_cache import build_cache, scene_path
from visa.training.scene_examples import SceneExamples
from visa.training.text_lessons import TextLessons
from visa.training.tracker import TrackerRecipe, train_tracker
from visa.training.tracker_clips import cache_clips
from visa.training.word_maps import WordMaps
from visa.training.word_table import WordTable

GLUE, TRACKER = "glue.safetensors", "tracker.safetensors"
Build = Callable[[torch.device], tuple[MLLM, SamSegmenter]]


def train_embedded(
    settings: EmbeddedSettings, device: str | None = None, build: Build | None = None
) -> Outcome:
    """Run all stages that are not done yet; the run's folder is in the end one that `visa.load` takes.

    Args:
        device: "cpu" or "cuda"; by default the GPU if there is one.
        build: makes the system that is trained, by default `build_untrained`.

    Raises:
        InputError: settings, checkpoints or scenes are not as they should be.
        TrainingError: the run cannot go on.
    """
    ranks = join_ranks(device)
    try:
        return _train(settings, ranks, build or build_untrained)
    finally:
        leave_ranks()


def _train(settings: EmbeddedSettings, ranks: Ranks, build: Build) -> Outcome:
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    if ranks.is_first:
        resolved = yaml.safe_dump(plain(settings), sort_keys=False)
        (out / "settings.yaml").write_text(resolved, encoding="utf-8")
    glue = Path(settings.start) if settings.start else None
    if glue and not glue.is_file():
        raise InputError(f"start: there is no file {glue}")
    if settings.needs_scenes:
        film(settings, ranks, build)
    for name, stage in settings.stages.items():
        if not stage.steps:
            continue
        run, done = settings.run_settings(name, content(glue), ranks.count), out / f"{name}.safetensors"
        if done.exists():
            check_done(run)
        elif not train_glue(run, settings, glue, done, ranks, build):
            return Outcome(False)
        glue = done
    if ranks.is_first:
        shutil.copyfile(glue, out / GLUE)
        if not (out / TRACKER).exists():
            make_tracker(settings, out / TRACKER, ranks.device, build)
        make_loadable(out)
    return Outcome(True, out if ranks.is_first else None)


def content(path: Path | None) -> str:
    """Says what is in a file, wherever it lies; "" for none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""


def check_done(run: GlueRunSettings) -> None:
    """A stage that is done must have been done with the same settings.

    Raises:
        InputError: it was not.
    """
    record = Path(run.out) / "settings.yaml"
    there = yaml.safe_load(record.read_text(encoding="utf-8")) if record.is_file() else {}
    ours = yaml.safe_load(yaml.safe_dump(plain(run)))
    changed = [
        f"{section} was {there.get(section)}, is {ours[section]}"
        for section in ("seed", "model", "data", "trained", "loss", "optimiser")
        if there.get(section) != ours[section]
    ]
    if changed:
        raise InputError(f"{run.out} has other settings: {changed[0]}; give another folder by out=...")


def train_glue(
    run: GlueRunSettings,
    settings: EmbeddedSettings,
    start: Path | None,
    done: Path,
    ranks: Ranks,
    build: Build,
) -> bool:
    """Train one stage, all ranks together.

    Args:
        start: the glue that it begins with; None: fresh weights. done: the glue that comes of it.

    Returns:
        False if SIGTERM came.
    """
    # New weights are to be the same on all ranks and in every start.
    torch.manual_seed(settings.seed)
    mllm, sam = build(ranks.device)
    if run.model.precision == "fp32":
        mllm.float()
    if start:
        try:
            load_glue(start, mllm, sam.sam.mask_decoder)
        except (ValueError, SafetensorError) as error:
            raise InputError(f"start: {start} cannot be gone on from: {error}") from error
    step = GlueStep(mllm, sam, run)
    if ranks.is_first:
        print(parameter_table(step.model, PARTS), flush=True)
    lexicon, words = default_lexicon(), WordTable.of(mllm)
    scenes = held_out = None
    if run.data.word_share < 1:
        hidden, nameless = run.data.hidden_features, run.data.nameless
        scenes = SceneExamples(
            settings.scene_folder, lexicon, words, hidden_features=hidden, nameless=nameless
        )
        held_out = SceneExamples(settings.held_out_folder, lexicon, words) if run.validation.every else None
    batches = GlueBatches(
        WordMaps(words, mllm.feature_dim, lexicon),
        scenes,
        TextLessons(words.class_names, lexicon),
        size=run.batch.videos,
        word_share=run.data.word_share,
        seed=(run.seed, list(settings.stages).index(run.data.stage)),
    )

    def validate(*_: object) -> GlueScore:
        told = run.validation
        return GlueScore(
            validate_glue(mllm, sam, held_out, scenes=told.scenes, draw_masks=told.masks, ranks=ranks)
        )

    reader = open_glue_reader(batches, settings.reading, ranks)
    try:
        end = run_stage(step, reader, run, ranks, validate=validate if held_out else None)
    finally:
        reader.close()
    if end.finished and ranks.is_first:
        put_weights(trained_parameters(step), end.state(settings.keep))
        unfinished = done.with_name(f".{done.name}.part")
        save_glue(unfinished, mllm, sam.sam.mask_decoder)
        unfinished.rename(done)
    ranks.wait()
    return end.finished


def film(settings: EmbeddedSettings, ranks: Ranks, build: Build) -> None:
    """Make the scenes that are asked for and not there yet, each rank some of them."""
    wanted = [
        (settings.held_out_folder, settings.scenes.held_out, "held-out"),
        (settings.scene_folder, settings.scenes.count, "train"),
    ]
    missing = [
        (folder, [seed for seed in range(count) if not scene_path(folder, seed).exists()], split)
        for folder, count, split in wanted
    ]
    # No rank begins before all have seen what is missing, and so each knows its share of it.
    ranks.wait()
    if any(seeds for _, seeds, _ in missing):
        mllm, sam = build(ranks.device)
        assets = open_library([fetch(name) for name in PUBLIC_FILES])
        for folder, seeds, split in missing:
            build_cache(folder, seeds[ranks.rank :: ranks.count], split, assets, mllm.tower, sam)
    ranks.wait()


def make_tracker(settings: EmbeddedSettings, path: Path, device: torch.device, build: Build) -> None:
    """Train the small XMem, or take the shipped one."""
    wanted = settings.tracker
    if not wanted.steps:
        preset = find_preset("embedded")
        shipped = yaml.safe_load(preset.read_text(encoding="utf-8"))["propagate"]["tracker"]
        shutil.copyfile(preset.parent / shipped, path)
        return
    _, sam = build(device)
    assets = open_library([fetch(name) for name in PUBLIC_FILES])
    clips, unfinished = path.parent / "clips", path.with_name("tracker.partial.safetensors")
    cache_clips(clips, range(wanted.clips), assets, sam.sam)
    train_tracker(
        clips, unfinished, TrackerRecipe(steps=wanted.steps, seed=settings.seed), path.parent / "tracker.json"
    )
    unfinished.rename(path)


def make_loadable(out: Path) -> None:
    """Complete a run's folder to one that `visa.load` takes: preset and small files beside the weights."""
    path = find_preset("embedded")
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    reason = preset["reason"]
    for name in ("semantic", "classes", "names"):
        small = path.parent / reason[name]
        shutil.copyfile(small, out / small.name)
        reason[name] = small.name
    for section, name in ((reason, "glue"), (preset["propagate"], "tracker")):
        section[name] = Path(section[name]).name
    (out / "preset.yaml").write_text(yaml.safe_dump(preset, sort_keys=False), encoding="utf-8")


def build_untrained(device: torch.device) -> tuple[MLLM, SamSegmenter]:
    """The embedded system's MLLM and SAM with fresh glue, from the public parts its preset names."""
    path = find_preset("embedded")
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    reason, segment = preset["reason"], preset["segment"]
    network = build_sam(segment["sam"], fetch(segment["weights"]))
    network.image_encoder.requires_grad_(False)
    network.prompt_encoder.requires_grad_(False)
    sam = SamSegmenter(network.to(device), pad_input=False, encoder_dtype=fastest_encoder_dtype(device))
    mllm = build_mllm(PublicParts.of(reason, path.parent), reason["area"], device)
    return mllm.to(device), sam
