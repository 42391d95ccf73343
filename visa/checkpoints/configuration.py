"""What a published checkpoint says about itself: which system it is, its sizes, its vision tower.

Read from ``config.json``; a training state that came without one takes the preset's ``config`` in its place.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CLIPVisionConfig, LlamaConfig, PretrainedConfig

from model.llava_phi3.language import phi3_config
from visa.checkpoints.location import locate
from visa.checkpoints.published_names import Named
from visa.checkpoints.tensor_files import Shape
from visa.errors import InputError

# model_type and the class names that config.json may give, of the base model and of the system made from it.
SYSTEMS = {
    "visa": ("ChatUniVi", "ChatUniViLlamaForCausalLM", "VISAForCausalLM"),
    "videolisa": (
        "llava_phi",
        "llava_phi3",
        "LlavaPhiForCausalLM",
        "LlavaPhi3ForCausalLM",
        "VideoLISAForCausalLM",
        "LISAForCausalLM",
    ),
}
# Fields of config.json that describe LLaMA; the rest belongs to the system or to old software.
LLAMA_FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *(
        "hidden_act",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
    ),
    *("attention_bias", "mlp_bias", "pad_token_id", "bos_token_id", "eos_token_id"),
)
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
PROJECTORS = {"visa": "linear", "videolisa": "mlp2x_gelu"}

_VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
# Their configurations, so that a checkpoint that holds its tower needs no second download.
TOWERS = {
    "openai/clip-vit-large-patch14": {**_VIT_L, "image_size": 224},
    "openai/clip-vit-large-patch14-336": {**_VIT_L, "image_size": 336},
}


@dataclass(frozen=True)
class PublishedConfig:
    """A published model, described.

    system: "visa" (Chat-UniVi too) or "videolisa" (LLaVA-Phi-3 too).
    language: LlamaConfig or Phi3Config; its vocabulary is that of the weights.
    tower: CLIP's configuration. tower_source: where its weights are if the checkpoint has none.
    tower_layer: which of its hidden states is used.
    projector: "linear" or "mlp2x_gelu".
    clusters: of Chat-UniVi's merging stages; None for VideoLISA.
    out_width: of the [SEG] head.
    """

    system: str
    language: PretrainedConfig
    tower: CLIPVisionConfig
    tower_source: str | Path
    tower_layer: int
    projector: str
    clusters: tuple[int, int, int] | None
    out_width: int


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file's fields.

    Raises:
        InputError: it is no JSON object.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path} holds {type(fields).__name__} where an object was expected")
    return fields


def find_system(fields: Mapping[str, Any], where: str | Path) -> str:
    """ "visa" or "videolisa", by config.json.

    Raises:
        InputError: it describes another architecture.
    """
    names = [fields.get("model_type"), *(fields.get("architectures") or [])]
    for system, known in SYSTEMS.items():
        if any(name in known for name in names):
            return system
    came = ", ".join(str(name) for name in names if name) or "nothing that says what it is"
    raise InputError(
        f"{where} is another architecture ({came}); expected Chat-UniVi or VISA (ChatUniVi), "
        "or LLaVA-Phi-3 or VideoLISA (llava_phi)"
    )


def system_of_names(named: Named, stored: Mapping[str, Shape], where: str | Path) -> tuple[str, int]:
    """The system and the language model's width D, by the weights alone.

    Raises:
        InputError: they are of neither system.
    """
    language = named.parts.get("language", {})
    embedding = language.get("model.embed_tokens.weight")
    fused = any(name.endswith(".qkv_proj.weight") for name in language)
    split = any(name.endswith(".q_proj.weight") for name in language)
    if embedding is None or fused == split or "projector" not in named.parts:
        raise InputError(
            f"{where} is another architecture: it has no config.json, and its tensors are not those of "
            "Chat-UniVi, VISA, LLaVA-Phi-3 or VideoLISA (a LLaMA or Phi-3 with mm_projector)"
        )
    return ("videolisa" if fused else "visa"), stored[embedding.stored][1]


def describe(
    fields: Mapping[str, Any],
    named: Named,
    stored: Mapping[str, Shape],
    where: Path,
    tower: str | Path | None = None,
) -> PublishedConfig:
    """Make our configurations from config.json's fields and the weights.

    Args:
        fields: of config.json. named, stored: the weights.
        where: the checkpoint's folder or file.
        tower: takes the place of the tower that config.json names.

    Raises:
        InputError: another architecture, a field missing or of no use, or an unknown tower.
    """
    system = find_system(fields, where)
    folder = where if where.is_dir() else where.parent
    embedding = named.parts.get("language", {}).get("model.embed_tokens.weight")
    if embedding is None:
        raise InputError(f"{where} does not fit this model: it lacks model.embed_tokens.weight")
    if absent := [name for name in SIZES if not isinstance(fields.get(name), int)]:
        raise InputError(f"the configuration of {where} does not give {', '.join(absent)} as numbers")
    language = _language_config(system, fields, stored[embedding.stored][0], where)
    projector = fields.get("mm_projector_type") or PROJECTORS[system]
    if projector != PROJECTORS[system]:
        raise InputError(
            f"the configuration of {where} names the projector {projector!r}; expected {PROJECTORS[system]!r}"
        )
    tower = tower or fields.get("mm_vision_tower") or fields.get("vision_tower") or ""
    tower_config, tower_source = find_tower(tower, folder)
    rates = next((one for one in map(fields.get, ("config", "model_config")) if isinstance(one, dict)), {})
    clusters = tuple(rates.get(f"spatial_cluster_rate{i}", default) for i, default in enumerate((64, 32, 16)))
    return PublishedConfig(
        system=system,
        language=language,
        tower=tower_config,
        tower_source=tower_source,
        tower_layer=fields.get("mm_vision_select_layer", -2),
        projector=projector,
        clusters=clusters if system == "visa" else None,
        out_width=fields.get("out_dim", 256),
    )


def _language_config(system: str, fields: Mapping[str, Any], rows: int, where: Path) -> PretrainedConfig:
    """LlamaConfig or Phi3Config, with as many words as the embedding has rows."""
    sizes = {**fields, "vocab_size": rows, "tie_word_embeddings": False}
    # Whatever the base model's were, they have to lie in the vocabulary.
    for token, default in (("pad_token_id", 0), ("bos_token_id", 1), ("eos_token_id", 2)):
        if not isinstance(sizes.get(token), int) or not 0 <= sizes[token] < rows:
            sizes[token] = default
    try:
        if system == "videolisa":
            return phi3_config({name: value for name, value in sizes.items() if value is not None})
        known = {name: sizes[name] for name in LLAMA_FIELDS if sizes.get(name) is not None}
        return LlamaConfig(vocab_size=rows, tie_word_embeddings=False, **known)
    except (TypeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the configuration of {where} describes no language model: {reason}") from error


def find_tower(tower: str | Path, folder: Path) -> tuple[CLIPVisionConfig, str | Path]:
    """A tower's configuration and where its weights are.

    Args:
        tower: one of TOWERS, a path (other people's path to a known tower counts as that tower), or a folder
            of a CLIP model.
        folder: the checkpoint's, in which a relative path is looked for first.

    Raises:
        InputError: an unknown tower, or a folder that holds no CLIP.
    """
    for path in (folder / str(tower), Path(str(tower)).expanduser()):
        if str(tower) and (path / "config.json").is_file():
            fields = read_json(path / "config.json")
            vision = fields.get("vision_config") or fields
            if fields.get("model_type") not in ("clip", "clip_vision_model"):
                raise InputError(
                    f"the vision tower {path} is {fields.get('model_type')!r}; expected a CLIP model"
                )
            return CLIPVisionConfig(
                **{name: value for name, value in vision.items() if name in _CLIP_FIELDS}
            ), path
    for known, sizes in TOWERS.items():
        if Path(str(tower)).name == Path(known).name:
            return CLIPVisionConfig(**sizes), known
    raise InputError(
        f"the checkpoint {folder} names the vision tower {str(tower)!r}, which is unknown; "
        f"expected {' or '.join(TOWERS)}, or the folder of a CLIP model"
    )


_CLIP_FIELDS = {*_VIT_L, "image_size", "num_channels", "layer_norm_eps"}


def locate_tower(config: PublishedConfig) -> Path:
    """The tower's own files, fetched where need be."""
    return locate(config.tower_source)
