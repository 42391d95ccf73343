"""A SteerSeg preset becomes a ready segmenter: its backbone, soft prompts, SAM and tracker."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from model.backbones.backbone import Backbone
from model.backbones.embedded import EmbeddedBackbone
from model.sam import SamSegmenter
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import STREAMS, SoftPrompt
from visa.backbone_loading import find_backbone, load_backbone
from visa.checkpoints.presets import options_of
from visa.errors import InputError
from visa.preset_files import find_preset
from visa.propagation import ClipPropagator
from visa.reasoning.steerseg import SteerSegReasoner
from visa.sam_loading import build_propagator, build_segmenter
from visa.sampling import build_sampler
from visa.segmenter import Segmenter
from visa.steerseg.attention import Looking
from visa.steerseg.glue_mark import glue_mark
from visa.steerseg.settings import STEPS, read_settings
from visa.xmem_propagation import Propagator

_log = logging.getLogger(__name__)

EMBEDDED = "embedded"
Parts = tuple[Backbone, SamSegmenter, ClipPropagator]


def build_steerseg(
    name: str,
    preset: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    *,
    soft_prompts: str | Path | bool = True,
    attributes: bool | None = None,
    **options: Any,
) -> Segmenter:
    """The system that a SteerSeg preset describes.

    Args:
        name: of the preset. preset: its fields. folder: of its file.
        device: where to run.
        soft_prompts: a folder with ``frame.safetensors`` and ``video.safetensors``, or one of them, in place
            of the preset's; False steers nothing.
        attributes: whether the model is asked for attributes, in place of the preset's.
        options: fields of `visa.checkpoints.options.LoadOptions`, in place of the preset's ``load``; none for
            the embedded backbone.

    Raises:
        InputError: an unknown option or setting, a soft prompt for another backbone, or parts that cannot be
            used. DownloadError.
    """
    reason, sample = preset["reason"], preset["sample"]
    sections = {step: reason[step] for step in STEPS}
    if attributes is not None:
        sections["attributes"] = {**sections["attributes"], "ask": attributes}
    settings = read_settings(sections)
    rollout, sampler = RolloutSettings(**reason["rollout"]), build_sampler(sample)
    if reason["backbone"] == EMBEDDED:
        parts = _embedded(name, preset, device, options)
    else:
        parts = _published(name, preset, folder, device, options)
    backbone, sam, propagator = parts
    looking = Looking(
        backbone=backbone,
        rollout=rollout,
        soft_prompts=read_prompts(soft_prompts, reason["soft_prompts"], folder, backbone),
        max_tokens=reason["max_tokens"],
    )
    reasoner = SteerSegReasoner(name, looking, sam, for_keyframes(propagator), settings)
    return Segmenter(reasoner, propagator, sampler)


def _embedded(
    name: str, preset: Mapping[str, Any], device: torch.device, options: Mapping[str, Any]
) -> Parts:
    """The MLLM, SAM and tracker of the embedded system, each as it stands there."""
    from visa.loading import embedded_networks

    if options:
        raise InputError(f"{name} has no load option {', '.join(options)}; its backbone is the embedded one")
    for stage in ("segment", "propagate"):
        if preset[stage] != EMBEDDED:
            raise InputError(f"{name}: with the embedded backbone {stage} is {EMBEDDED}, not {preset[stage]}")
    path = find_preset(EMBEDDED)
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    mllm, sam, _ = embedded_networks(whole, path.parent, device)
    backbone = EmbeddedBackbone(mllm, glue_mark(EMBEDDED))
    return backbone, sam, build_propagator(whole["propagate"], path.parent, sam)


def _published(
    name: str, preset: Mapping[str, Any], folder: Path, device: torch.device, options: Mapping[str, Any]
) -> Parts:
    """A vision-language model of the hub; SAM and tracker as the preset names them."""
    loading = options_of(preset, device, **options)
    # What is small and may be missing comes before what is large.
    where = find_backbone(preset["reason"]["backbone"], folder)
    sam = build_segmenter(preset["segment"], folder, device)
    propagator = build_propagator(preset["propagate"], folder, sam)
    return load_backbone(where, loading, name=name), sam, propagator


def read_prompts(
    asked: str | Path | bool, known: str | None, folder: Path, backbone: Backbone
) -> dict[str, SoftPrompt]:
    """The soft prompts of both streams, as far as there are some, on the backbone's device.

    That some were trained on other weights than the backbone's is logged as a warning.

    Args:
        asked: a folder; True for the preset's, False for none.
        known: the preset's folder, seen from its file, which may not be there yet; None: there is none.

    Raises:
        InputError: the folder asked for holds no soft prompt. ValueError: one that is for another backbone,
            width or stream, or damaged.
    """
    if asked is False or (asked is True and known is None):
        return {}
    where = folder / known if asked is True else Path(asked).expanduser()
    paths = {stream: where / f"{stream}.safetensors" for stream in STREAMS}
    there = {stream: path for stream, path in paths.items() if path.is_file()}
    if not there and asked is not True:
        raise InputError(
            f"{where} holds no soft prompt: expected {' or '.join(p.name for p in paths.values())}"
        )
    prompts = {
        stream: SoftPrompt.load(path, backbone=backbone.family, width=backbone.width, stream=stream)
        for stream, path in there.items()
    }
    present = backbone.weights_mark
    stale = [
        stream
        for stream, prompt in prompts.items()
        if None not in (prompt.weights, present) and prompt.weights != present
    ]
    if stale:
        _log.warning(
            "%s: trained on other weights of the %s model than those loaded, the soft prompts may steer it "
            "amiss; train them again (train_ds.py --config train/steerseg-embedded)",
            " and ".join(str(paths[stream]) for stream in stale),
            backbone.family,
        )
    return {stream: prompt.to(backbone.device).requires_grad_(False) for stream, prompt in prompts.items()}


def for_keyframes(propagator: ClipPropagator) -> ClipPropagator:
    """The tracker as it follows things over keyframes: XMem memorises each, for they lie far apart."""
    if not isinstance(propagator, Propagator):
        return propagator
    config = replace(propagator.config, mem_every=1)
    return Propagator(propagator.network, config, propagator.encoder, propagator.autocast)
