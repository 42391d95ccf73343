"""How an answer is written: which token comes next, and when it ends."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import TopPLogitsWarper


@dataclass(frozen=True)
class Decoding:
    """Token by token, without looking ahead.

    stop_ids: tokens that end the answer. max_new_tokens: it ends there at the latest.
    temperature: 0 takes the likeliest token; above 0 tokens are drawn at random, the more evenly the higher.
    top_p: they are drawn from the likeliest ones that together have this probability.
    """

    stop_ids: Collection[int]
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0

    def choose(self, logits: Tensor, generator: torch.Generator | None = None) -> int:
        """The next token.

        Args:
            logits: float [V].
            generator: where drawn tokens come from.
        """
        if not self.temperature:
            return int(logits.argmax())
        logits = logits.float() / self.temperature
        if self.top_p < 1:
            logits = TopPLogitsWarper(self.top_p)(None, logits[None])[0]
        probs = logits.softmax(-1)
        if generator is not None:  # a model may lie on several devices
            probs = probs.to(generator.device)
        return int(probs.multinomial(1, generator=generator))
