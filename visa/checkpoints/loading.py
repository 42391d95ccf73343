"""A published checkpoint becomes a model of ours: found, told apart, accounted for, weighed, and read in."""

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import PreTrainedTokenizerBase

from model.chat_univi.merging import IMAGE_STAGES, Stage
from model.chat_univi.visa import VisaModel, build_visa
from model.llava_phi3.videolisa import VideoLisaModel, build_videolisa
from model.sam.build import Sam
from model.xmem import XMem, load_xmem
from visa.checkpoints.accounting import account, expected_shapes
from visa.checkpoints.configuration import (
    PublishedConfig,
    describe,
    find_system,
    locate_tower,
    read_json,
    system_of_names,
)
from visa.checkpoints.filling import fill, settle
from visa.checkpoints.location import locate
from visa.checkpoints.lora import find_alpha
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.placement import device_of, dtype_of, estimate, layer_map, part_devices, sizes, spread
from visa.checkpoints.published_names import Named, Source, name_clip, name_published, name_sam
from visa.checkpoints.quantisation import prepare
from visa.checkpoints.sam_shapes import build_sam_like
from visa.checkpoints.tensor_files import TensorFiles
from visa.checkpoints.tokenizer import load_tokenizer
from visa.errors import InputError
from visa.public_files import cache_folder

PublishedModel = VisaModel | VideoLisaModel


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint, its weights not yet read.

    where: folder or file. named: its tensors in our names. config: what it describes.
    files: where they are read.
    """

    where: Path
    named: Named
    config: PublishedConfig
    files: TensorFiles

    @property
    def trained(self) -> bool:
        """Whether it has a [SEG] head: VISA and VideoLISA do, Chat-UniVi and LLaVA-Phi-3 do not."""
        return "seg_head" in self.named.parts


@dataclass(frozen=True)
class Loaded:
    """A loaded system: the model in evaluation mode without gradients, SAM in it as ``visual_model``.

    tokenizer: with [SEG], padding on the right.
    """

    model: PublishedModel
    tokenizer: PreTrainedTokenizerBase
    config: PublishedConfig


def open_checkpoint(
    where: str | Path, fields: Mapping[str, Any] | None = None, tower: str | Path | None = None
) -> Checkpoint:
    """Find a checkpoint and read what it is.

    Args:
        where: folder, file or repository of VISA, Chat-UniVi, VideoLISA or LLaVA-Phi-3.
        fields: stands in for a missing config.json: a preset's ``config``.
        tower: as in LoadOptions.

    Raises:
        InputError: no such checkpoint, another architecture, or damaged files. DownloadError.
    """
    path = locate(where)
    own = (path if path.is_dir() else path.parent) / "config.json"
    given = read_json(own) if own.is_file() else fields
    if own.is_file():
        find_system(given, path)  # before its weights, which may be anything
    files = TensorFiles(path)
    named = name_published(files.shapes)
    if given is None:
        raise InputError(
            f"{path} has no config.json; name the preset it belongs to, or copy the file beside it"
        )
    if not own.is_file():
        system, width = system_of_names(named, files.shapes, path)
        expected = find_system(given, "the preset")
        if (system, width) != (expected, given.get("hidden_size")):
            raise InputError(
                f"{path} is a {system} of width {width}; the preset describes a {expected} of width "
                f"{given.get('hidden_size')}"
            )
    return Checkpoint(path, named, describe(given, named, files.shapes, path, tower), files)


def part_modules(model: PublishedModel) -> dict[str, nn.Module]:
    """The parts of a published model; their own names are the published ones behind `PARTS`' prefixes."""
    parts = {
        "language": model.language,
        "tower": model.tower.vision,
        "projector": model.projector,
        "seg_head": model.seg_head,
    }
    return parts if model.visual_model is None else {**parts, "sam": model.visual_model}


def load_published(
    checkpoint: Checkpoint,
    options: LoadOptions,
    *,
    name: str = "the model",
    seg_state: str = "predicting",
    base: str | Path | None = None,
    noise: float = 0.0,
) -> Loaded:
    """Load a published system.

    Args:
        checkpoint: of `open_checkpoint`.
        options: how and where.
        name: what to call it when its memory is told, on stderr.
        seg_state: as for the models.
        base: of the tokenizer, where the checkpoint has none.
        noise: of Chat-UniVi's merging.

    Raises:
        InputError: keys missing or unexpected, a tokenizer that does not fit, or not enough memory.
    """
    config = checkpoint.config
    alpha = find_alpha(checkpoint.where, options.lora_alpha) if checkpoint.named.has_lora else None
    tokenizer, seg_token_id = load_tokenizer(
        config.system, checkpoint.where, config.language.vocab_size, trained=checkpoint.trained, base=base
    )
    plan = plan_load(checkpoint, options, seg_token_id=seg_token_id, seg_state=seg_state, noise=noise)
    parts = part_modules(plan.model)

    others = sum(size for part, size in sizes(parts, options).items() if part != "language")
    layers = layer_map(parts["language"], others, options)
    devices = part_devices(options, layers)
    need = estimate(name, parts, options, devices, layers)
    print(f"visa: {need}", file=sys.stderr)
    if options.check_memory:
        need.check()
    if options.bits:
        prepare(parts["language"], options.bits, options.torch_dtype)
    for part, module in parts.items():
        where = device_of(part, devices, layers)
        if part not in plan.sources:
            _start(module, options.torch_dtype, devices[part])
            continue
        fill(
            module,
            plan.sources[part],
            plan.files[part],
            device=where,
            dtype=lambda tensor, part=part: dtype_of(part, tensor, options),
            alpha=alpha,
            label=part if part in ("language", "sam") else None,
        )
        settle(module, where)
    spread(plan.model.language, plan.model.tower, devices, layers)
    return Loaded(plan.model.eval().requires_grad_(False), tokenizer, config)


@dataclass(frozen=True)
class LoadPlan:
    """A model still empty, and for each of its tensors where it will come from.

    model: its parameters on the meta device. sources: by part and name. files: by part.
    """

    model: PublishedModel
    sources: Mapping[str, Mapping[str, Source]]
    files: Mapping[str, TensorFiles]


def plan_load(
    checkpoint: Checkpoint,
    options: LoadOptions,
    *,
    seg_token_id: int,
    seg_state: str = "predicting",
    noise: float = 0.0,
) -> LoadPlan:
    """Build the model without weights and account for every tensor; no weight is read yet.

    Raises:
        InputError: tensors missing or unexpected, or a part that the checkpoint has not.
    """
    if not checkpoint.trained and not options.untrained:
        raise InputError(
            f"{checkpoint.where} has no [SEG] head (model.text_hidden_fcs): it is a base model that was not "
            "trained to segment; take VISA or VideoLISA, or train from it"
        )
    origins = _origins(checkpoint, options)
    with init_empty_weights(include_buffers=False):
        model = _build(checkpoint.config, origins, options, seg_token_id, seg_state, noise)
    parts = part_modules(model)
    sources, files = {}, {}
    for origin in origins:
        expected = expected_shapes({part: parts[part] for part in origin.parts})
        sources |= account(origin.named, origin.files.shapes, expected, origin.files.where)
        files |= dict.fromkeys(origin.parts, origin.files)
    return LoadPlan(model, sources, files)


def load_sam(where: str | Path, *, dtype: str = "float32", device: str | torch.device = "cpu") -> Sam:
    """SAM with a ViT from its own weight file, such as ``sam_vit_h_4b8939.pth``, of any size.

    Raises:
        InputError: another network's weights, or a damaged file.
    """
    options = LoadOptions(dtype=dtype, device=device)
    files = TensorFiles(locate(where))
    named = name_sam(files.shapes)
    with init_empty_weights(include_buffers=False):
        sam = build_sam_like(files.shapes, files.where)
    sources = account(named, files.shapes, expected_shapes({"sam": sam}), files.where)["sam"]
    on_device = device_of("sam", part_devices(options), None)
    fill(sam, sources, files, device=on_device, dtype=lambda tensor: dtype_of("sam", tensor, options))
    settle(sam, on_device)
    return sam.eval()


def read_xmem(where: str | Path, folder: Path) -> XMem:
    """XMem from ``XMem.pth``, looked for in the checkpoint's folder, as a path, and in the cache folder.

    Raises:
        InputError: it is not there, damaged, or another network.
    """
    places = [folder / where, Path(where).expanduser(), cache_folder() / Path(where).name]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{where} is not there; fetch https://github.com/hkchengrex/XMem/releases/download/v1.0/XMem.pth "
            f"and put it at {places[0]} or {places[-1]}"
        )
    files = TensorFiles(found)
    try:
        return load_xmem({name: files.read(name) for name in files.shapes})
    except ValueError as error:
        raise InputError(f"{found}: {' '.join(str(error).split())[:300]}") from error


@dataclass(frozen=True)
class _Origin:
    """Files that give some of the parts."""

    files: TensorFiles
    named: Named
    parts: tuple[str, ...]


def _origins(checkpoint: Checkpoint, options: LoadOptions) -> list[_Origin]:
    """Where each part's weights are: in the checkpoint, or in files of their own where it has none.

    Raises:
        InputError: SAM's weights are nowhere.
    """
    own = [
        "language",
        "projector",
        *(part for part in ("seg_head", "sam", "tower") if part in checkpoint.named.parts),
    ]
    origins = [_Origin(checkpoint.files, checkpoint.named, tuple(own))]
    if "tower" not in own:
        files = TensorFiles(locate_tower(checkpoint.config))
        origins.append(_Origin(files, name_clip(files.shapes), ("tower",)))
    if "sam" not in own:
        if options.sam is None:
            raise InputError(
                f"{checkpoint.where} has no SAM in it (model.visual_model); give SAM's weights: "
                "sam='sam_vit_h_4b8939.pth'"
            )
        files = TensorFiles(locate(options.sam))
        origins.append(_Origin(files, name_sam(files.shapes), ("sam",)))
    return origins


def _build(
    config: PublishedConfig,
    origins: Sequence[_Origin],
    options: LoadOptions,
    seg_token_id: int,
    seg_state: str,
    noise: float,
) -> PublishedModel:
    """The empty model; SAM is as large as the weights for it."""
    origin = next(origin for origin in origins if "sam" in origin.parts)
    given = origin.named.parts["sam"]
    sam = build_sam_like(
        {name: origin.files.shapes[source.stored] for name, source in given.items()}, origin.files.where
    )
    language = copy.deepcopy(config.language)
    language._attn_implementation = options.attention
    language.dtype = options.torch_dtype
    shared = {"seg_token_id": seg_token_id, "seg_state": seg_state, "select_layer": config.tower_layer}
    if config.system == "videolisa":
        return build_videolisa(language, config.tower, sam, **shared)
    stages = [
        Stage(clusters, stage.neighbours)
        for clusters, stage in zip(config.clusters, IMAGE_STAGES, strict=True)
    ]
    return build_visa(language, config.tower, sam, stages=stages, noise=noise, **shared)


def _start(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Give an empty module initial weights."""
    module.to_empty(device=device).to(dtype)
    for layer in module.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
