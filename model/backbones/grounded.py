"""A backbone that says [SEG]: VISA's design on any vision-language model of transformers.

[SEG] has an embedding and a row of the output layer of its own beside the model's, so that the rest of the
vocabulary stays as it is, and nothing of it need be trained or stored. The state at a [SEG], or before it,
becomes SAM's prompt (Lai et al. 2023, arXiv 2308.00692, section 3.2; Yan et al. 2024, arXiv 2407.11325).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from model.backbones.backbone import Packed
from model.backbones.overwriting import overwritten
from model.backbones.transformers_backbone import TransformersBackbone
from model.mllm.answering import SEG_STATES, AnswersBehindFrames, Reading
from model.seg_head import SegHead


class GroundedBackbone(AnswersBehindFrames):
    """Backbone, [SEG] head and SAM.

    Args:
        backbone: its tokenizer knows [SEG].
        visual_model: SAM (`model.sam`), for `SamSegmenter(model.visual_model)`.
        seg_state: see `TokenLayout.seg_states`.

    Raises:
        ValueError: another ``seg_state``, or a tokenizer without [SEG].
    """

    def __init__(
        self, backbone: TransformersBackbone, visual_model: nn.Module, seg_state: str = "predicting"
    ):
        super().__init__()
        if seg_state not in SEG_STATES:
            raise ValueError(f"seg_state must be {' or '.join(map(repr, SEG_STATES))}, not {seg_state!r}")
        if backbone.seg_token_id is None:
            raise ValueError("the backbone's tokenizer has no [SEG]")
        self.backbone, self.visual_model, self.seg_state = backbone, visual_model, seg_state
        self.seg_token_id = backbone.seg_token_id
        self.seg_head = SegHead(backbone.width)
        # Both begin as the mean of all words, where a new word stands among them.
        tables = (backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings())
        means = [table.weight.detach().float().mean(0) for table in tables]
        self.seg_embedding, self.seg_output = (nn.Parameter(mean) for mean in means)

    @property
    def device(self) -> torch.device:
        """See `AnswersBehindFrames`."""
        return self.backbone.device

    @property
    def room(self) -> int:
        """See `AnswersBehindFrames`."""
        return self.backbone.model.config.get_text_config().max_position_embeddings

    def words(self, ids: Tensor) -> Tensor:
        """See `AnswersBehindFrames`."""
        is_seg = ids == self.seg_token_id
        words = self.backbone.model.get_input_embeddings()(ids.masked_fill(is_seg, 0))
        return torch.where(is_seg[..., None], self.seg_embedding.to(words), words)

    def logits(self, states: Tensor) -> Tensor:
        """See `AnswersBehindFrames`."""
        words = self.backbone.logits(states)
        seg = (states @ self.seg_output.to(states))[..., None]
        if self.seg_token_id < words.shape[-1]:
            column = torch.tensor([self.seg_token_id], device=words.device)
            return words.index_copy(-1, column, seg)
        unknown = words.new_full((*words.shape[:-1], self.seg_token_id - words.shape[-1]), -torch.inf)
        return torch.cat([words, unknown, seg], dim=-1)

    def decode(self, reading: Reading, embeds: Tensor) -> Tensor:
        """See `AnswersBehindFrames`."""
        start = reading.cache.get_seq_length() + reading.offset
        positions = torch.arange(start, start + embeds.shape[1], device=embeds.device)
        return self.backbone.language_model(
            inputs_embeds=embeds,
            position_ids=positions[None],
            past_key_values=reading.cache,
            use_cache=True,
        ).last_hidden_state[0]

    def forward(self, packed: Packed) -> Tensor:
        """Last hidden states float [L, D] of a conversation with its answers."""
        ids = packed.inputs["input_ids"]
        segs = (ids[0] == self.seg_token_id).nonzero()[:, 0]
        # The table may have no row for [SEG].
        packed = replace(
            packed, inputs={**packed.inputs, "input_ids": ids.masked_fill(ids == self.seg_token_id, 0)}
        )
        vectors = self.seg_embedding.expand(len(segs), -1)
        with overwritten(self.backbone.language_model, packed.length, segs, vectors):
            return self.backbone(packed).hidden[0]

    def seg_embeddings(self, hidden: Tensor, packed: Packed) -> Tensor:
        """SAM's prompts float [K, 256] of the K [SEG] of a conversation whose states are [L, D]."""
        turns = range(len(packed.layout.turns))
        places = [p for turn in turns for p in packed.layout.seg_states(turn, self.seg_state)]
        return self.seg_head(hidden[torch.tensor(places, dtype=torch.long, device=hidden.device)])

    def split_behind_frames(self, packed: Packed) -> int:
        """First position behind the last visual token: what is before it does not depend on the words."""
        config, ids = self.backbone.model.config, packed.inputs["input_ids"][0]
        kinds = {getattr(config, name, None) for name in ("image_token_id", "video_token_id")} - {None}
        visual = torch.isin(ids, torch.tensor(sorted(kinds), device=ids.device))
        return int(visual.nonzero()[-1]) + 1

    @torch.inference_mode()
    def read(self, packed: Packed) -> Reading:
        """Put a conversation into the language model's cache, up to the last visual token."""
        length = self.split_behind_frames(packed)
        shown = {
            **packed.inputs,
            **self.backbone.token_inputs(packed.inputs["input_ids"][:, :length]),
        }
        # Not told of a window, the cache keeps all keys, so that it can be cut back to the frames.
        cache = DynamicCache()
        self.backbone.core(**shown, past_key_values=cache, use_cache=True)
        return Reading(cache, length, self.backbone.position_of(packed, length) - length)
