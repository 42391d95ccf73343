"""What the published systems have in common: frames and a conversation in, an answer and its [SEG] out.

Vision tower → projector → causal LM → [SEG] head, and SAM beside them: the design of LISA (Lai et al. 2023,
arXiv 2308.00692, section 3.2), which VISA and VideoLISA took over. How frames become tokens is where they
differ, and stands in their own classes. Training and answering use the same embedding (`splicing`), the same
decoder and the same head; losses stand outside.

Questions about the same frames are answered behind one `Reading`: the text up to the last frame and all
visual tokens are in the language model's cache once, and every question begins where they end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from model.clip_tower import ClipTower
from model.mllm.answering import SEG_STATES, AnswersBehindFrames, Reading
from model.mllm.splicing import IMAGE_TOKEN, SplicedBatch, Visual, embed, splice
from model.seg_head import SegHead, states_at


class ReasoningModel(AnswersBehindFrames):
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
        self.go_on(reading, embeds)
        return reading

    @property
    def room(self) -> int:
        """See `AnswersBehindFrames`."""
        return self.language.config.max_position_embeddings

    def words(self, ids: Tensor) -> Tensor:
        """See `AnswersBehindFrames`."""
        return self.language.get_input_embeddings()(ids)

    def decode(self, reading: Reading, embeds: Tensor) -> Tensor:
        """See `AnswersBehindFrames`."""
        decoder = self.language.get_decoder()
        return decoder(inputs_embeds=embeds, past_key_values=reading.cache, use_cache=True).last_hidden_state[
            0
        ]
