"""The segmenter of a published system: its preset, its checkpoint, XMem, and the options given on load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from visa.carried_masks import Carrying
from visa.checkpoints.location import locate
from visa.checkpoints.presets import load_preset, options_of
from visa.errors import InputError
from visa.loading import load
from visa.preset_files import is_checkpoint
from visa.reasoning.pointing import AnswerSettings
from visa.reasoning.published import PublishedReasoner
from visa.reasoning.videolisa import VideoLisaReasoner
from visa.reasoning.visa import VisaReasoner
from visa.sampling import build_sampler
from visa.segmenter import Segmenter

REASONERS: dict[str, type[PublishedReasoner]] = {"visa": VisaReasoner, "videolisa": VideoLisaReasoner}


def find_checkpoint(preset: Mapping[str, Any], folder: Path) -> Path | None:
    """Where a preset's checkpoint lies: as it says, seen from its folder, or in this folder; None: nowhere.

    Raises:
        InputError: what it names is not there. DownloadError.
    """
    if preset["checkpoint"] is not None:
        return locate(preset["checkpoint"], folder)
    return folder if is_checkpoint(folder) else None


def build_published(
    name: str,
    preset: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    *,
    where: str | Path | None = None,
    answer: str | None = None,
    xmem: str | Path | None = None,
    sam2: str | Path | None = None,
    scorer: str | Path | None = None,
    **options: Any,
) -> Segmenter:
    """The system that a published system's preset describes.

    Args:
        name: of the preset. preset: its fields. folder: of its file.
        device: where to run.
        where: the checkpoint, in place of the preset's.
        answer: "forced" or "generate", in place of the preset's.
        xmem: XMem's weights, in place of the preset's.
        sam2: SAM 2's, which then carries the masks in XMem's place.
        scorer: whom the sampler asks in place of this system: a model, as `visa.load` takes it.
        options: fields of `visa.checkpoints.options.LoadOptions`, in place of the preset's.

    Raises:
        InputError: an unknown system, option or setting; no checkpoint, or one that cannot be used.
        DownloadError.
    """
    segment, reason, sample, propagate = (
        preset[stage] for stage in ("segment", "reason", "sample", "propagate")
    )
    system = reason["system"]
    if system not in REASONERS:
        raise InputError(f"reason.system must be {' or '.join(REASONERS)}, not {system!r}")
    carrying = Carrying.of(propagate, segment["frames"], xmem=xmem, sam2=sam2)
    settings = AnswerSettings(
        answer=answer or reason["answer"],
        forced_answer=reason["forced_answer"],
        max_new_tokens=reason.get("max_new_tokens", AnswerSettings.max_new_tokens),
        frames=carrying.frames,
        threshold=segment["threshold"],
    )
    scorer = scorer or sample.get("scorer")
    sampler = build_sampler(sample)
    dtype = options_of(preset, device, **options).torch_dtype

    # What is small and may be missing comes before what is large.
    where = locate(where) if where is not None else find_checkpoint(preset, folder)
    propagator = None
    if where is not None:
        beside = where if where.is_dir() else where.parent
        propagator = carrying.propagator(propagate, folder, beside, device, dtype)
    guide = None if scorer is None else load(scorer, device=device)
    loaded = load_preset(name, preset, where=where, device=device, **options)
    reasoner = REASONERS[system](name, loaded.model, loaded.tokenizer, settings)
    return Segmenter(reasoner, propagator, sampler, guide)
