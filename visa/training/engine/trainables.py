"""Which weights of a published system are trained, and the table that says so.

LoRA (Hu et al. 2021, arXiv 2106.09685) on the language model, through peft; words, head, [SEG] head and SAM's
mask decoder in full; the rest frozen: LISA's choice (Lai et al. 2023, arXiv 2308.00692, section 3.3), which
VISA and VideoLISA kept.
"""

import warnings
from collections.abc import Mapping

from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import PreTrainedModel

from model.mllm.reasoning_model import ReasoningModel
from visa.errors import InputError
from visa.training.engine.settings import TrainedSettings

# Parts as settings and table call them, and how their parameters' names begin; the first that fits counts.
PARTS = {
    "embeddings": ("language.model.embed_tokens.",),
    "lm_head": ("language.lm_head.",),
    "language": ("language.",),
    "vision_tower": ("tower.",),
    "projector": ("projector.",),
    "seg_head": ("seg_head.",),
    "image_encoder": ("visual_model.image_encoder.",),
    "prompt_encoder": ("visual_model.prompt_encoder.",),
    "mask_decoder": ("visual_model.mask_decoder.",),
}
LORA = ".lora_"


def part_of(name: str, parts: Mapping[str, tuple[str, ...]] = PARTS) -> str:
    """The part that a parameter, by default of a ReasoningModel, belongs to."""
    return next(part for part, beginnings in parts.items() if name.startswith(beginnings))


def choose_trained(model: ReasoningModel, trained: TrainedSettings) -> tuple[str, ...]:
    """Put LoRA on the language model and mark what is trained; everything else is frozen.

    Returns:
        The names of the trained parameters.

    Raises:
        InputError: an unknown part, or LoRA finds no layer of the given names.
    """
    if strange := sorted(set(trained.in_full) - PARTS.keys()):
        raise InputError(f"trained.in_full: there is no part {strange[0]!r}; parts are {', '.join(PARTS)}")
    model.requires_grad_(False)
    if trained.lora_rank:
        _add_lora(model.language, trained)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(LORA in name or part_of(name) in trained.in_full)
    return tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def lora_layers(language: nn.Module, trained: TrainedSettings) -> list[str]:
    """The linear layers that LoRA goes on.

    Raises:
        InputError: there is none.
    """
    layers = [name for name, module in language.named_modules() if isinstance(module, nn.Linear)]
    if trained.lora_match == "exact":
        chosen = [name for name in layers if name.rpartition(".")[2] in trained.lora_targets]
    else:
        chosen = [name for name in layers if any(target in name for target in trained.lora_targets)]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in layers})
        raise InputError(
            f"trained.lora_targets: no layer is called {' or '.join(trained.lora_targets)}; the language "
            f"model's are {', '.join(known)}"
        )
    return chosen


def _add_lora(language: nn.Module, trained: TrainedSettings) -> None:
    config = LoraConfig(
        r=trained.lora_rank,
        lora_alpha=trained.lora_alpha,
        lora_dropout=trained.lora_dropout,
        bias="none",
        target_modules=lora_layers(language, trained),
    )
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers has since given up.
        warnings.simplefilter("ignore")
        inject_adapter_in_model(config, language)


def checkpoint_activations(language: PreTrainedModel) -> None:
    """Have the language model compute its activations again in the backward pass in place of keeping them."""
    # transformers 5 has a new name for it.
    name = "activation_checkpointing_enable"
    enable = getattr(language, name, None) or language.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def parameter_table(model: nn.Module, parts: Mapping[str, tuple[str, ...]] = PARTS) -> str:
    """Each part of a model with what happens to it and how many parameters it has, a line each."""
    counts: dict[tuple[str, str], int] = {}
    for name, parameter in model.named_parameters():
        state = "LoRA" if LORA in name else "trained" if parameter.requires_grad else "frozen"
        row = ("language LoRA" if state == "LoRA" else part_of(name, parts), state)
        counts[row] = counts.get(row, 0) + parameter.numel()
    order = list(parts)
    rows = sorted(counts.items(), key=lambda item: order.index(item[0][0].partition(" ")[0]))
    lines = [f"{part:<16} {state:<8} {count:>16,}" for (part, state), count in rows]
    learnt = sum(count for (_, state), count in counts.items() if state != "frozen")
    lines.append(f"{'in all':<16} {'':<8} {sum(counts.values()):>16,}, {learnt:,} of them trained")
    return "\n".join(lines)
