"""`visa.load`: a preset's name, a preset file or a folder becomes a ready Segmenter."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from model.mllm.mllm import MLLM, RefusalPolicy
from model.sam import Sam, SamSegmenter
from visa.embedded_mllm import PublicParts, build_mllm, load_glue, merge_lora
from visa.errors import InputError
from visa.mask_drawing import MaskDrawing
from visa.preset_files import find_preset, is_checkpoint
from visa.reasoning.embedded import EmbeddedReasoner
from visa.sam_loading import build_propagator, build_segmenter
from visa.sampling import build_sampler
from visa.second_look import SecondLook
from visa.segmenter import Segmenter

STAGES = ("segment", "reason", "sample", "propagate")


def with_decoder(sam: Sam, mask_decoder: nn.Module) -> Sam:
    """The same SAM, its encoders shared, with another mask decoder."""
    twin = copy.copy(sam)
    twin._modules = {**sam._modules, "mask_decoder": mask_decoder}
    return twin


def load(
    model: str | Path = "embedded", *, device: str | torch.device | None = None, **options: Any
) -> Segmenter:
    """Load a system, fetching its public parts into the cache the first time.

    Args:
        model: a preset's name, a preset file, a folder of weights with ``preset.yaml``, or a published
            checkpoint: its folder, its file, or its repository on the Hugging Face hub.
        device: where to run; by default the GPU if there is one.
        options: of the published systems: ``answer`` ("forced" or "generate"), ``xmem`` (a path),
            ``scorer`` (a model, named as here: the one that is asked where to look), and the fields of
            `visa.checkpoints.options.LoadOptions`: dtype, bits, attention, device_map and others. Those of
            SteerSeg stand with `visa.steerseg.loading.build_steerseg`, such as ``soft_prompts`` (a folder).

    Raises:
        InputError: no such preset or option, or weights that cannot be used. DownloadError: a public part
            cannot be had.
    """
    if not isinstance(model, str | os.PathLike):
        raise InputError(
            f"a model is named by a str or a Path, such as 'embedded' or a folder; got {type(model).__name__}"
        )
    path, where = _find(model)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        preset = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if missing := [stage for stage in STAGES if stage not in preset]:
            raise InputError(f"{path} describes no system: it lacks {', '.join(missing)}")
        if "checkpoint" in preset:
            from visa.published_loading import build_published

            return build_published(path.stem, preset, path.parent, device, where=where, **options)
        if "backbone" in preset:
            from visa.grounded.loading import build_grounded

            return build_grounded(path.stem, preset, path.parent, device, **options)
        if is_steerseg(preset):
            from visa.steerseg.loading import build_steerseg

            return build_steerseg(path.stem, preset, path.parent, device, **options)
        if options:
            raise InputError(
                f"{path.stem} takes no load options, got {', '.join(options)}; published systems take some"
            )
        return _build(preset, path.parent, device)
    except InputError:
        raise
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {getattr(error, 'problem', None) or error}") from error
    except KeyError as error:
        raise InputError(f"{path} does not say, or says something unknown for, {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} names {error.filename}, which is not there") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error


def build_look(mllm: MLLM, refusal: RefusalPolicy) -> SecondLook | None:
    """The look at what was drawn, if it counts anything."""
    return SecondLook(mllm.tower.pictures, mllm.names) if refusal.look_weight else None


def is_steerseg(preset: dict) -> bool:
    """Whether a preset describes a SteerSeg system."""
    return isinstance(preset["reason"], dict) and preset["reason"].get("system") == "steerseg"


def _find(model: str | Path) -> tuple[Path, str | Path | None]:
    """The preset file meant, and the published checkpoint if one was named in its place."""
    try:
        return find_preset(model), None
    except InputError:
        from visa.checkpoints.presets import preset_of

        if not is_checkpoint(model):
            raise
    return find_preset(preset_of(model)), model


def _build(preset: dict, folder: Path, device: torch.device) -> Segmenter:
    """The system that a preset describes; its files lie in ``folder``."""
    segment, reason, sample, propagate = (preset[stage] for stage in STAGES)
    mllm, sam, tuned = embedded_networks(preset, folder, device)
    refusal = RefusalPolicy(**reason["refusal"])
    reasoner = EmbeddedReasoner(
        mllm=mllm,
        sam=sam,
        drawing=MaskDrawing(sam, tuned, **segment["drawing"]),
        refusal=refusal,
        look=build_look(mllm, refusal),
    )
    return Segmenter(reasoner, build_propagator(propagate, folder, sam), build_sampler(sample))


def embedded_networks(
    preset: dict, folder: Path, device: torch.device
) -> tuple[MLLM, SamSegmenter, SamSegmenter]:
    """The embedded MLLM, SAM as published, and the same SAM with the decoder that was tuned for the MLLM."""
    segment, reason = preset["segment"], preset["reason"]
    sam = build_segmenter(segment, folder, device)
    if not isinstance(sam, SamSegmenter):
        raise InputError("the glue of this system was trained on MobileSAM: segment must name sam, not sam2")
    network = sam.sam
    mllm = build_mllm(PublicParts.of(reason, folder), reason["area"], device)
    # SAM as published draws for the tracker and proposes candidates; only a copy of its decoder is ours.
    tuned = with_decoder(network, copy.deepcopy(network.mask_decoder))
    load_glue(folder / reason["glue"], mllm, tuned.mask_decoder)
    merge_lora(mllm)
    for part in (network, tuned, mllm):
        part.eval().requires_grad_(False).to(device)
    return mllm, sam, SamSegmenter(tuned, pad_input=segment["pad_input"])
