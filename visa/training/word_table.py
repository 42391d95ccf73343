"""Words as the language model knows them, on the CPU: what faked frames and lessons are drawn from.

Examples are drawn by processes of their own, which must not touch a model that sits on a GPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from model.mllm.mllm import MLLM
from model.mllm.words import CellWords


@dataclass(frozen=True)
class WordTable:
    """Embeddings of words.

    rows: float [V, D], of the language model's tokens. tokens: the ids of some words.
    class_names: of the vision tower's classes.
    cell_words: what cells look like, in these words.
    names: what CLIP's points are called, in the order of ``cell_words.names``.
    """

    rows: torch.Tensor
    tokens: Callable[[str], Sequence[int]]
    class_names: tuple[str, ...]
    cell_words: CellWords
    names: tuple[str, ...]
    _known: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, mllm: MLLM) -> "WordTable":
        """The words of a model; a table that is on the CPU already is not copied."""
        rows = mllm.language.get_input_embeddings().weight.detach().cpu()
        embeddings = (mllm.class_embeddings, mllm.name_places, mllm.name_embeddings)
        words = CellWords(*(value.cpu() for value in embeddings))
        return cls(rows, mllm.packer.words, mllm.class_names, words, mllm.names.names)

    def embedding(self, name: str) -> torch.Tensor:
        """Mean embedding float [D] of a name's words."""
        if name not in self._known:
            self._known[name] = self.rows[torch.tensor(self.tokens(f" {name}"))].float().mean(0)
        return self._known[name]
