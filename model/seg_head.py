"""The [SEG] head: the language model's state at a [SEG] becomes what SAM is asked.

Lai et al. 2023, "LISA" (arXiv 2308.00692), section 3.2: the two-layer perceptron that VISA and VideoLISA took
over, ``text_hidden_fcs.0`` in their published weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.prompt import EmbeddingPrompt


class SegHead(nn.Sequential):
    """Hidden states [..., D] to prompt embeddings [..., 256], in the head's own dtype, on its device.

    Args:
        width: D, of the language model.
        out_width: of SAM's prompts.

    Its parameters are ``0.weight``, ``0.bias``, ``2.weight``, ``2.bias``, as in the published ``Sequential``.
    """

    def __init__(self, width: int, out_width: int = 256):
        super().__init__(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, out_width))

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states.to(self[0].weight))


def states_at(hidden: Tensor, positions: Sequence[Sequence[int]]) -> list[Tensor]:
    """Rows of the hidden states, without a copy of the others.

    Args:
        hidden: float [B, L, D].
        positions: for each of the B sequences K positions, any number of them.

    Returns:
        For each sequence float [K, D].
    """
    return [
        row[torch.tensor(list(places), dtype=torch.long, device=row.device)]
        for row, places in zip(hidden, positions, strict=True)
    ]


def as_prompt(embeddings: Tensor) -> EmbeddingPrompt:
    """Prompt embeddings [N, 256] of N objects as SAM is asked them, one token for each object."""
    return EmbeddingPrompt(embeddings[:, None])
