"""What the published systems have in common: frames and a conversation in, an answer and its [SEG] out.

Vision tower → projector → causal LM → [SEG] head, and SAM beside them: the design of LISA (Lai et al. 2023,
arXiv 2308.00692, section 3.2), which VISA and VideoLISA took over. How frames become tokens is where they
differ, and stands in their own classes. Training and answering use the same embedding (`splicing`), the same
decoder and the same head; losses stand outside.

Questions about the same frames are answered behind one `Reading`: the text up to the last frame and all
visual tokens are in the language model's cache once, and every question begins where they end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from model.clip_tower import ClipTower
from model.mllm.decoding import Decoding
from model.mllm.splicing import IMAGE_TOKEN, SplicedBatch, Visual, embed, splice
from model.seg_head import SegHead, states_at

SEG_STATES = ("predicting", "at_token")


@dataclass(frozen=True)
class Reading:
    """Frames that the language model has read: its cache, and how many positions it holds between answers."""

    cache: DynamicCache
    length: int


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


class ReasoningModel(nn.Module):
    """Vision tower, projector, language model, [SEG] head and SAM.

    Args:
        language: a causal LM of transformers, with or without peft adapters or quantised weights.
        tower: the vision tower.
        projector: the tower's features [..., C] to the LM's width [..., D].
        visual_model: SAM (`model.sam`), for `SamSegmenter(model.visual_model)`; inside because published
            checkpoints hold it. None where it is held outside or nobody draws masks.
        seg_token_id: the id of [SEG].
        seg_state: which hidden state feeds the [SEG] head: "predicting" (LISA, VISA, VideoLISA) or
            "at_token"; see `TokenLayout.seg_states`.
        keep_padding: how rows of a batch are padded; see `splice`.

    Raises:
        ValueError: another ``seg_state``.
    """

    def __init__(
        self,
        language: PreTrainedModel,
        tower: ClipTower,
        projector: nn.Module,
        visual_model: nn.Module | None,
        *,
        seg_token_id: int,
        seg_state: str = "predicting",
        keep_padding: bool = True,
    ):
        super().__init__()
        if seg_state not in SEG_STATES:
            raise ValueError(f"seg_state must be {' or '.join(map(repr, SEG_STATES))}, not {seg_state!r}")
        self.language, self.tower, self.projector = language, tower, projector
        self.visual_model = visual_model
        self.seg_token_id, self.seg_state, self.keep_padding = seg_token_id, seg_state, keep_padding
        self.seg_head = SegHead(language.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the language model's inputs have to be."""
        return self.language.get_input_embeddings().weight.device

    def splice(
        self,
        input_ids: Tensor | Sequence[Tensor],
        visual_counts: Sequence[Sequence[Visual]],
        *,
        labels: Tensor | Sequence[Tensor] | None = None,
        attention_mask: Tensor | None = None,
    ) -> SplicedBatch:
        """Make room for visual tokens as this model wants it; see `model.mllm.splicing.splice`."""
        return splice(
            input_ids,
            visual_counts,
            labels=labels,
            attention_mask=attention_mask,
            seg_token_id=self.seg_token_id,
            keep_padding=self.keep_padding,
        )

    def forward(self, batch: SplicedBatch, visual_tokens: Sequence[Tensor]) -> Tensor:
        """Last hidden states (after the final norm), teacher-forced.

        Args:
            batch: B sequences of L positions.
            visual_tokens: for each sequence float [n, D] in the order of its visual positions.

        Returns:
            float [B, L, D]; meaningless where ``batch.attention_mask`` is False.
        """
        embeds = embed(batch, self.language.get_input_embeddings(), visual_tokens)
        mask = None if bool(batch.attention_mask.all()) else batch.attention_mask
        decoder = self.language.get_decoder()
        return decoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state

    def logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits [..., V] of hidden states [..., D]."""
        return self.language.get_output_embeddings()(states)

    def seg_embeddings(self, hidden: Tensor, batch: SplicedBatch) -> list[Tensor]:
        """SAM's prompt embeddings of the [SEG] tokens of a batch.

        Args:
            hidden: float [B, L, D], as `forward` returns it for this batch.

        Returns:
            For each of the B sequences float [K, 256]; K may be 0.
        """
        return [self.seg_head(states) for states in states_at(hidden, batch.seg_positions(self.seg_state))]

    @staticmethod
    def split_behind_frames(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """A conversation int64 [l] as what is read once, up to the last placeholder, and the rest.

        Raises:
            ValueError: no placeholder.
        """
        places = (input_ids == IMAGE_TOKEN).nonzero()
        if not len(places):
            raise ValueError("the conversation shows no frame: it has no image placeholder")
        end = int(places[-1]) + 1
        return input_ids[:end], input_ids[end:]

    @torch.inference_mode()
    def read(self, input_ids: Tensor, visual_counts: Sequence[Visual], visual_tokens: Tensor) -> Reading:
        """Put text and frames into the language model's cache.

        Args:
            input_ids: int64 [l] with placeholders, the first part of `split_behind_frames`.
            visual_counts: what each placeholder stands for; see `splice`.
            visual_tokens: float [n, D], those of all placeholders in order.

        Raises:
            ValueError: no token at all, or more positions than the language model knows.
        """
        if not len(input_ids):
            raise ValueError("reading needs at least one token, got none")
        batch = self.splice([input_ids.to(self.device)], [visual_counts])
        embeds = embed(batch, self.language.get_input_embeddings(), [visual_tokens])
        # Not told of a window, the cache keeps all keys (the mask hides those behind it), so that it can be
        # cut back to the frames after a question.
        reading = Reading(DynamicCache(), embeds.shape[1])
        self._go_on(reading.cache, embeds)
        return reading

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
        with self._behind(reading) as cache:
            states = self._go_on(cache, self.language.get_input_embeddings()(ids[None]))
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
        limit = min(decoding.max_new_tokens, self.language.config.max_position_embeddings - length)
        words = self.language.get_input_embeddings()
        ids, said = question_ids.to(self.device), []
        before, after = [], []  # the states around each [SEG]
        with self._behind(reading) as cache:
            while True:
                state = self._go_on(cache, words(ids[None]))[-1]
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

    def _go_on(self, cache: DynamicCache, embeds: Tensor) -> Tensor:
        """Hidden states [q, D] of embeddings [1, q, D] behind what the cache holds, which grows by them."""
        length = cache.get_seq_length() + embeds.shape[1]
        room = self.language.config.max_position_embeddings
        if length > room:
            raise ValueError(
                f"the conversation takes {length} positions and the language model knows {room}; ask shorter "
                "or show fewer frames"
            )
        decoder = self.language.get_decoder()
        return decoder(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state[0]

    @contextmanager
    def _behind(self, reading: Reading) -> Iterator[DynamicCache]:
        """The reading's cache, cut back to the frames afterwards."""
        try:
            yield reading.cache
        finally:
            # A negative number of positions to take away means the same in all versions of transformers.
            if surplus := reading.cache.get_seq_length() - reading.length:
                reading.cache.crop(-surplus)


def _question_length(question_ids: Tensor) -> int:
    if not len(question_ids):
        raise ValueError("an answer needs at least one token between it and the frames, got none")
    return len(question_ids)
