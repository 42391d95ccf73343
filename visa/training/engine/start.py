"""What a run starts from: a checkpoint in any published layout, [SEG] in its vocabulary, SAM beside it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedTokenizerBase

from model.mllm.reasoning_model import ReasoningModel
from visa.checkpoints.configuration import PublishedConfig, read_json
from visa.checkpoints.loading import load_published
from visa.checkpoints.location import locate
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.presets import open_preset, preset_of
from visa.errors import InputError
from visa.training.engine.ranks import Ranks
from visa.training.engine.settings import ModelSettings
from visa.training.engine.tiny_system import SPECIAL, write_tiny
from visa.training.recipe import PRESETS

TINY = "tiny-"


@dataclass(frozen=True)
class Start:
    """A system about to be trained.

    model: without gradients, in evaluation mode. config: as it was found.
    preset: of `visa.load`, that fits it.
    fields: of its config.json, or those that the preset has in its place.
    """

    model: ReasoningModel
    tokenizer: PreTrainedTokenizerBase
    config: PublishedConfig
    preset: dict[str, Any]
    fields: dict[str, Any]

    @property
    def system(self) -> str:
        """ "visa" or "videolisa"."""
        return self.config.system


def find_start(settings: ModelSettings, out: Path, ranks: Ranks) -> Path:
    """The folder or file of ``model.start``; a miniature is written into the run's folder first.

    Raises:
        InputError: there is no such checkpoint, or no such miniature. DownloadError.
    """
    if not settings.start.startswith(TINY):
        return locate(settings.start)
    system, folder = settings.start.removeprefix(TINY), out / "start"
    if system not in SPECIAL:
        known = " or ".join(f"{TINY}{name}" for name in SPECIAL)
        raise InputError(f"model.start: there is no miniature {settings.start!r}; expected {known}")
    if ranks.is_first and not (folder / "config.json").is_file():
        write_tiny(folder, system)
    ranks.wait()
    return folder


def build_start(settings: ModelSettings, where: Path, device: str) -> Start:
    """Load what is trained from, in the run's precision.

    Args:
        where: of `find_start`.

    Raises:
        InputError: the checkpoint, its tokenizer, its tower or SAM are not as they should be.
    """
    name = preset_of(where)
    preset = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    checkpoint = open_preset(name, preset, where, tower=settings.tower)
    options = LoadOptions(
        dtype=settings.precision,
        device=device,
        attention=settings.attention,
        tower=settings.tower,
        sam=settings.sam,
        untrained=True,
        lora_alpha=(preset.get("load") or {}).get("lora_alpha"),
    )
    loaded = load_published(
        checkpoint,
        options,
        name=settings.start,
        seg_state=preset["reason"]["seg_state"],
        base=settings.base or preset.get("base"),
        noise=settings.merging_noise,
    )
    words = len(loaded.tokenizer)
    if not checkpoint.trained and loaded.model.language.config.vocab_size != words:
        # As released: a row for [SEG], and none for words that the tokenizer does not have.
        loaded.model.language.resize_token_embeddings(words, mean_resizing=False)
        print(f"visa: the vocabulary of {settings.start} now has {words} words", file=sys.stderr)
    fields = _fields(where, preset)
    return Start(loaded.model, loaded.tokenizer, loaded.config, preset, fields)


def _fields(where: Path, preset: dict[str, Any]) -> dict[str, Any]:
    path = (where if where.is_dir() else where.parent) / "config.json"
    return read_json(path) if path.is_file() else dict(preset["config"])
