"""Finds the adapter of a vision-language model by its configuration's ``model_type``.

One file here per family, called as its ``model_type`` is; `model.backbones.transformers_backbone` says what
it takes to add one.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from transformers import PreTrainedModel

from model.backbones.transformers_backbone import TransformersBackbone


def family_names() -> list[str]:
    """The families that there are adapters for."""
    return sorted(module.name for module in iter_modules(__path__))


def backbone_for(
    model: PreTrainedModel, tokenizer_or_processor: Any, **settings: Any
) -> TransformersBackbone:
    """The backbone that a model of transformers is.

    Args:
        model: a ``...ForConditionalGeneration``.
        tokenizer_or_processor: its tokenizer, or the processor that holds it; a processor's settings of
            pixels are taken over.
        settings: fields of ``preprocessor_config.json``, where there is only a tokenizer.

    Raises:
        ValueError: a family without an adapter, or a tokenizer of another model.
    """
    name = model.config.model_type
    if name not in family_names():
        raise ValueError(f"there is no adapter for a {name}: expected one of {', '.join(family_names())}")
    tokenizer = getattr(tokenizer_or_processor, "tokenizer", tokenizer_or_processor)
    images = getattr(tokenizer_or_processor, "image_processor", None)
    known = {} if images is None else images.to_dict()
    adapter = import_module(f"{__name__}.{name}").Adapter
    return adapter(model, tokenizer, {**known, **settings})
