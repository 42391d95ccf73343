"""The segmenter of a [SEG] system on a backbone: its preset, what was trained, SAM, and the tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken

from model.backbones.grounded import GroundedBackbone
from model.backbones.transformers_backbone import TransformersBackbone
from model.mllm.packing import SEG_TOKEN
from visa.backbone_loading import load_backbone
from visa.carried_masks import Carrying
from visa.checkpoints.loading import load_sam
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.presets import options_of
from visa.errors import InputError
from visa.grounded.weights import read_weights
from visa.loading import load
from visa.public_files import cache_folder
from visa.reasoning.backbone import BackboneReasoner, Showing
from visa.reasoning.pointing import AnswerSettings
from visa.sampling import build_sampler
from visa.segmenter import Segmenter

SAM_WEIGHTS = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth"


def build_grounded(
    name: str,
    preset: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    *,
    weights: str | Path | None = None,
    answer: str | None = None,
    xmem: str | Path | None = None,
    sam2: str | Path | None = None,
    scorer: str | Path | None = None,
    **options: Any,
) -> Segmenter:
    """The system that a preset with a ``backbone`` describes.

    Args:
        name: of the preset. preset: its fields. folder: of its file.
        device: where to run.
        weights: a folder that training wrote, in place of the preset's.
        answer: "forced" or "generate", in place of the preset's.
        xmem: XMem's weights, in place of the preset's. sam2: SAM 2's, which then carries the masks instead.
        scorer: whom the sampler asks in place of this system: a model, as `visa.load` takes it.
        options: fields of `visa.checkpoints.options.LoadOptions`, in place of the preset's.

    Raises:
        InputError: an unknown option or setting, no trained weights, or some that cannot be used.
        DownloadError.
    """
    segment, reason, sample, propagate = (
        preset[stage] for stage in ("segment", "reason", "sample", "propagate")
    )
    where = weights or preset["weights"]
    if where is None:
        raise InputError(
            f"{name} is not trained yet: {preset['backbone']} alone has no [SEG] head; train one with "
            f"train_ds.py --config train/{name} and load the folder that it writes, or give it as weights"
        )
    where = Path(weights).expanduser() if weights else folder / where
    carrying = Carrying.of(propagate, segment["frames"], xmem=xmem, sam2=sam2)
    settings = AnswerSettings(
        answer=answer or reason["answer"],
        forced_answer=reason["forced_answer"],
        max_new_tokens=reason.get("max_new_tokens", AnswerSettings.max_new_tokens),
        frames=carrying.frames,
        threshold=segment["threshold"],
    )
    showing = Showing(reason["stream"], reason["max_tokens"])
    sampler, scorer = build_sampler(sample), scorer or sample.get("scorer")
    chosen = options_of(preset, device, **options)
    # What is small and may be missing comes before what is large.
    propagator = carrying.propagator(propagate, folder, where, device, chosen.torch_dtype)
    guide = None if scorer is None else load(scorer, device=device)
    model = load_grounded(name, preset, folder, chosen)
    read_weights(where, model, merge=chosen.bits is None)
    model.eval().requires_grad_(False)
    return Segmenter(BackboneReasoner(name, model, settings, showing), propagator, sampler, guide)


def load_grounded(
    name: str, preset: Mapping[str, Any], folder: Path, options: LoadOptions
) -> GroundedBackbone:
    """Backbone and SAM of a preset, with [SEG] in the tokenizer and a [SEG] head not trained yet.

    Raises:
        InputError: SAM or the backbone are not there or cannot be used. DownloadError.
    """
    sam_path = find_sam(options.sam, folder)
    relative = folder / preset["backbone"]
    where = relative if relative.is_dir() else preset["backbone"]
    backbone = load_backbone(where, options, name=name, beside={"SAM": sam_path.stat().st_size})
    add_seg_token(backbone)
    sam = load_sam(sam_path, dtype=options.dtype, device=options.torch_device)
    model = GroundedBackbone(backbone, sam, preset["reason"]["seg_state"])
    # In float32: it is small and decides where a mask lies.
    model.seg_head.to(backbone.device)
    return model


def add_seg_token(backbone: TransformersBackbone) -> None:
    """Put [SEG] behind the words of a backbone's tokenizer, where it is not there yet."""
    if backbone.seg_token_id is None:
        backbone.tokenizer.add_tokens(
            AddedToken(SEG_TOKEN, normalized=False, special=True), special_tokens=True
        )


def find_sam(given: str | Path | None, folder: Path) -> Path:
    """SAM's weights, looked for in a preset's folder, as a path, and in the cache folder.

    Raises:
        InputError: they are not there, or none are named.
    """
    if given is None:
        raise InputError("load.sam must name SAM's weights, such as sam_vit_h_4b8939.pth")
    places = [folder / given, Path(given).expanduser(), cache_folder() / Path(given).name]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{given} is not there; fetch {SAM_WEIGHTS} and put it at {places[0]} or {places[-1]}"
        )
    return found
