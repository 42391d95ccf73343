"""Phi-3 as VideoLISA's checkpoints mean it.

Abdin et al. 2024, "Phi-3 Technical Report" (arXiv 2404.14219); the network is that of transformers.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from transformers import Phi3Config

# Values of a published config.json that Phi3Config takes without having fields of their names.
ROTARY = ("rope_theta", "rope_scaling")


def phi3_config(published: Mapping[str, Any]) -> Phi3Config:
    """The configuration for the language model of a checkpoint.

    The window is where versions differ. Phi-3 was published when ``sliding_window: 2047`` let a token see
    itself and 2047 keys before it, in eager attention and in flash attention alike; transformers 5 counts the
    token itself among the 2047. A video's 2336 tokens are longer than that, so one key more or less moves
    every state behind it. Here the window counts as published, whatever the attention implementation.

    Args:
        published: a checkpoint's ``config.json``; what is not about the language model is passed over.
    """
    known = {field.name for field in fields(Phi3Config)} | set(ROTARY)
    given = {name: value for name, value in published.items() if name in known and name != "sliding_window"}
    window = published.get("sliding_window")
    return Phi3Config(**given, sliding_window=None if window is None else window + 1)
