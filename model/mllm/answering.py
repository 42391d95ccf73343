"""Answers behind frames that were read once: the answer is given or written, and each [SEG] points.

What `ReasoningModel` and `GroundedBackbone` share: LISA's [SEG] (Lai et al. 2023, arXiv 2308.00692, section
3.2), whatever language model says it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from model.mllm.decoding import Decoding
from model.seg_head import SegHead

SEG_STATES = ("predicting", "at_token")


@dataclass(frozen=True)
class Reading:
    """Frames that the language model has read.

    cache: its keys and values. length: how many tokens these hold between answers. offset: what the position
    of a token behind them is more than its number; not 0 where frames take fewer positions than tokens.
    """

    cache: DynamicCache
    length: int
    offset: int = 0


@dataclass(frozen=True)
class SegAnswer:
    """An answer and what it points at.

    ids: int64 [n], the answer without the token that ended it.
    embeddings: float [K, 256], SAM's prompts, one for each [SEG] of the answer; none: nothing was found.
    probs: float32 [K], probability [0, 1] that the model itself gives to [SEG] in each of their places.
    """

    ids: Tensor
    embeddings: Tensor
    probs: Tensor

    @property
    def found(self) -> bool:
        """Whether the answer holds a [SEG]."""
        return len(self.embeddings) > 0


class AnswersBehindFrames(nn.Module):
    """A language model with a [SEG] head that goes on behind a `Reading`.

    seg_head: states to SAM's prompts. seg_token_id: the id of [SEG]. seg_state: which hidden state feeds the
    [SEG] head, see `TokenLayout.seg_states`.
    """

    seg_head: SegHead
    seg_token_id: int
    seg_state: str

    # Each model's own

    @property
    def device(self) -> torch.device:
        """Where the language model's inputs have to be."""
        raise NotImplementedError

    @property
    def room(self) -> int:
        """Positions that the language model knows."""
        raise NotImplementedError

    def words(self, ids: Tensor) -> Tensor:
        """Embeddings [..., D] of token ids, [SEG] among them."""
        raise NotImplementedError

    def logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits [..., V] of hidden states [..., D]."""
        raise NotImplementedError

    def decode(self, reading: Reading, embeds: Tensor) -> Tensor:
        """Hidden states [q, D] of embeddings [1, q, D] behind what the reading's cache holds."""
        raise NotImplementedError

    # The same for all

    def go_on(self, reading: Reading, embeds: Tensor) -> Tensor:
        """`decode`, as far as the language model knows positions; the cache grows by the embeddings.

        Raises:
            ValueError: more positions than it knows.
        """
        length = reading.cache.get_seq_length() + embeds.shape[1]
        if length > self.room:
            raise ValueError(
                f"the conversation takes {length} positions and the language model knows {self.room}; ask "
                "shorter or show fewer frames"
            )
        return self.decode(reading, embeds)

    @torch.inference_mode()
    def forced(self, reading: Reading, question_ids: Tensor, answer_ids: Tensor) -> SegAnswer:
        """The papers' protocol: the answer is given, and its [SEG] points.

        Args:
            question_ids: int64 [q], what follows the frames, up to the answer; at least one token.
            answer_ids: int64 [n].

        Raises:
            ValueError: no question token, or more positions than the language model knows.
        """
        begin = _question_length(question_ids)
        ids = torch.cat([question_ids, answer_ids]).to(self.device)
        with _behind(reading):
            states = self.go_on(reading, self.words(ids[None]))
        segs = begin + (ids[begin:] == self.seg_token_id).nonzero()[:, 0]
        before = states[segs - 1]
        return SegAnswer(
            ids=ids[begin:],
            embeddings=self.seg_head(before if self.seg_state == "predicting" else states[segs]),
            probs=self._seg_probs(before),
        )

    @torch.inference_mode()
    def generate(
        self,
        reading: Reading,
        question_ids: Tensor,
        decoding: Decoding,
        generator: torch.Generator | None = None,
    ) -> SegAnswer:
        """The model writes its own answer.

        Args:
            question_ids: int64 [q], what follows the frames, up to the answer; at least one token.
            decoding: how it is written. It also ends where the language model knows no more positions.
            generator: where drawn tokens come from.

        Raises:
            ValueError: no question token, or more positions than the language model knows.
        """
        length = reading.length + _question_length(question_ids)
        limit = min(decoding.max_new_tokens, self.room - length)
        ids, said = question_ids.to(self.device), []
        before, after = [], []  # the states around each [SEG]
        with _behind(reading):
            while True:
                state = self.go_on(reading, self.words(ids[None]))[-1]
                if said and said[-1] == self.seg_token_id:
                    after.append(state)
                if len(said) >= limit:
                    break
                token = decoding.choose(self.logits(state), generator)
                if token in decoding.stop_ids:
                    break
                if token == self.seg_token_id:
                    before.append(state)
                said.append(token)
                ids = torch.tensor([token], device=self.device)
        before, after = (torch.stack(states) if states else state[None][:0] for states in (before, after))
        return SegAnswer(
            ids=torch.tensor(said, dtype=torch.long, device=self.device),
            embeddings=self.seg_head(before if self.seg_state == "predicting" else after),
            probs=self._seg_probs(before),
        )

    def _seg_probs(self, states: Tensor) -> Tensor:
        """What [SEG] has as the next token, float32 [K], by the states before it [K, D]."""
        return self.logits(states).float().softmax(-1)[:, self.seg_token_id]


@contextmanager
def _behind(reading: Reading) -> Iterator[None]:
    """What goes on behind a reading; its cache is cut back to the frames afterwards."""
    try:
        yield
    finally:
        # A negative number of positions to take away means the same in all versions of transformers.
        if surplus := reading.cache.get_seq_length() - reading.length:
            reading.cache.crop(-surplus)


def _question_length(question_ids: Tensor) -> int:
    if not len(question_ids):
        raise ValueError("an answer needs at least one token between it and the frames, got none")
    return len(question_ids)
