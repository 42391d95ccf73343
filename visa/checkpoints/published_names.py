"""From the names under which a tensor was published to the part of our system that it belongs to.

All layouts come down to one: the merged model of Hugging Face, the training state that DeepSpeed's
zero_to_fp32 joins, in which LoRA's wrapper stands before every name and its factors beside the weights, and
what older versions of transformers left behind.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from visa.errors import InputError

# Wrappers' prefixes: of DeepSpeed or DistributedDataParallel, and of peft.
WRAPPERS = re.compile(r"^(?:module\.)?(?:base_model\.model\.)?")
LORA_FACTOR = re.compile(r"(.+)\.lora_([AB])(?:\.([^.]+))?\.weight")
# Saved by older versions, computed by newer ones: positions' angles, patch numbers, SAM's pixel statistics.
COMPUTED = re.compile(
    r"(?:.*\.)?(?:rotary_emb\.(?:inv_freq|cos_cached|sin_cached)|embeddings\.position_ids"
    r"|visual_model\.pixel_(?:mean|std))"
)
# Longest first: published prefix, our part, prefix in our part.
PARTS = (
    ("model.vision_tower.vision_tower.vision_model.", "tower", ""),
    ("model.vision_tower.vision_model.", "tower", ""),
    ("model.vision_tower.", "tower", ""),
    ("model.mm_projector.", "projector", ""),
    ("model.text_hidden_fcs.0.", "seg_head", ""),
    ("model.visual_model.", "sam", ""),
    ("model.", "language", "model."),
    ("lm_head.", "language", "lm_head."),
)
# A CLIP file of the hub has a text encoder too.
CLIP_PREFIX = "vision_model."
CLIP_OTHER = ("text_model.", "visual_projection.", "text_projection.", "logit_scale")


@dataclass(frozen=True)
class Source:
    """Where a tensor of ours is stored: its name, and those of LoRA's factors A and B where it has any."""

    stored: str
    lora: tuple[str, str] | None = None


@dataclass(frozen=True)
class Named:
    """What a checkpoint holds, in our names.

    parts: for each part ("language", "tower", "projector", "seg_head", "sam") its sources by our names.
    unknown: stored names that belong to no part.
    computed: stored names of what is computed nowadays and needs no reading.
    """

    parts: Mapping[str, Mapping[str, Source]]
    unknown: tuple[str, ...]
    computed: tuple[str, ...]

    @property
    def has_lora(self) -> bool:
        return any(source.lora for part in self.parts.values() for source in part.values())


def name_published(stored: Iterable[str]) -> Named:
    """Sort the tensors of a published checkpoint of VISA, Chat-UniVi, VideoLISA or LLaVA-Phi-3.

    Raises:
        InputError: one tensor is stored twice, or a second LoRA adapter lies beside the first.
    """
    sources, factors, computed = {}, {}, []
    for name in stored:
        plain = WRAPPERS.sub("", name)
        if COMPUTED.fullmatch(plain):
            computed.append(name)
        elif match := LORA_FACTOR.fullmatch(plain):
            pair = factors.setdefault(f"{match[1]}.weight", {})
            if match[2] in pair:
                raise InputError(
                    f"two LoRA adapters for {match[1]} ({pair[match[2]]} and {name}); expected one"
                )
            pair[match[2]] = name
        else:
            plain = plain.replace(".base_layer.", ".")
            if plain in sources:
                raise InputError(f"one tensor is stored twice, as {sources[plain].stored} and {name}")
            sources[plain] = Source(name)

    unknown = []
    for plain, pair in factors.items():
        if plain in sources and pair.keys() == {"A", "B"}:
            sources[plain] = Source(sources[plain].stored, (pair["A"], pair["B"]))
        else:
            unknown.extend(pair.values())

    parts: dict[str, dict[str, Source]] = {}
    for plain, source in sources.items():
        for prefix, part, own in PARTS:
            if plain.startswith(prefix):
                parts.setdefault(part, {})[own + plain.removeprefix(prefix)] = source
                break
        else:
            unknown.append(source.stored)
    return Named(parts, tuple(unknown), tuple(computed))


def name_clip(stored: Iterable[str]) -> Named:
    """Sort the tensors of a CLIP model or of its image encoder alone."""
    stored = list(stored)
    computed = tuple(name for name in stored if COMPUTED.fullmatch(name) or name.startswith(CLIP_OTHER))
    tower = {name.removeprefix(CLIP_PREFIX): Source(name) for name in stored if name not in computed}
    return Named({"tower": tower}, (), computed)


def name_sam(stored: Iterable[str]) -> Named:
    """Sort the tensors of SAM's own file, such as ``sam_vit_h_4b8939.pth``."""
    stored = list(stored)
    computed = tuple(name for name in stored if name in ("pixel_mean", "pixel_std"))
    return Named({"sam": {name: Source(name) for name in stored if name not in computed}}, (), computed)
