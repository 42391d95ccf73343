"""The multi-frame MLLM: frames and a question in, an answer with [SEG] and its grounding out.

Vision tower → projector → causal LM of transformers → [SEG] head. `read` puts the frames into the LM's cache
once; `answer` then generates for each question behind it. `forward` is the teacher-forced path over packed
sequences, for training; both use the same embedding, the same packing and the same head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache

from model.mllm.cells import CellProjector, ClassifierTower, FrameCells, grid_for, pool_cells
from model.mllm.grounding import Grounding, GroundingHead
from model.mllm.packing import SEG_TOKEN, FrameSlot, PackedBatch, Packer
from model.mllm.words import CellWords
from model.name_table import NameTable
from model.steering.attention_rows import recorded_attention
from model.steering.rollout import RolloutSettings, rollout_row


@dataclass(frozen=True)
class TokenBudget:
    """How many visual tokens a target frame and a reference frame may take."""

    target: int = 50
    reference: int = 15


# Of SAM's grid: what is sure of one place is sure of about this many cells.
HOT_CELLS = 20


@dataclass(frozen=True)
class RefusalPolicy:
    """When to answer that nothing is there.

    bias: added to the logit of refusing; higher refuses more. language_share: what the LM's opinion counts
    beside the look at the frame; 1 is as trained, but a small LM goes by the sound of the question.
    second_look: once the answer points somewhere, the evidence it takes to believe it; None believes all.
    look_weight: what a look at the thing drawn counts beside the heat.
    """

    bias: float = 0.0
    language_share: float = 1.0
    second_look: float | None = None
    look_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.look_weight < 0 or (self.look_weight and self.second_look is None):
            raise ValueError("look_weight must be 0 or more, and counts only where second_look is given")

    def found_prob(self, first_prob: float, heat_logits: torch.Tensor, evidence: float = 0.0) -> float:
        """Probability [0, 1] that the thing is there, once the answer's heat is known.

        Args:
            first_prob: the answer's own, from before the heat.
            heat_logits: float [h, w]; its hottest places count, as a logit, beside the first look.
            evidence: logit of a look at the thing drawn.
        """
        if self.second_look is None:
            return first_prob
        heat = heat_logits.flatten()
        hottest = heat.topk(min(HOT_CELLS, len(heat))).values.mean()
        first = torch.tensor(first_prob, dtype=torch.float64).logit(eps=1e-6)
        return float((first + hottest + self.look_weight * evidence - self.second_look).sigmoid())


@dataclass(frozen=True)
class Reading:
    """Frames the LM has read: its cache, and the target frame's states for the [SEG] head.

    states: float [rows, cols, D]; cells: float [r, c, D] (projected); words: float [r, c, D].
    keys: float [r, c, key_dim], the [SEG] head's keys of the tower's cells.
    """

    cache: DynamicCache
    length: int
    states: torch.Tensor
    cells: torch.Tensor
    words: torch.Tensor
    keys: torch.Tensor


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    text: the words, [SEG] included. found: whether it holds a [SEG]. found_prob: probability [0, 1] of
    opening with anything but a refusal, the look at the frame and the policy included. seg_states: float
    [n, D] of its n [SEG] tokens. word_means: float [n, D].
    """

    text: str
    found: bool
    found_prob: float
    seg_states: torch.Tensor
    word_means: torch.Tensor


class MLLM(nn.Module):
    """Vision tower, projector, causal LM and [SEG] head.

    Args:
        language: a transformers causal LM (Llama family), with or without peft adapters.
        tokenizer: its tokenizer.
        tower: the vision tower.
        class_names: a name for each class of the tower's classifiers.
        names: what the tower's points are called.
        feature_dim: channels of the tower's cells.
        budget: visual tokens per frame.
        refusal: first word of every refusal the LM was taught.
    """

    def __init__(
        self,
        language: nn.Module,
        tokenizer,
        tower: ClassifierTower,
        class_names: Sequence[str],
        names: NameTable,
        feature_dim: int,
        budget: TokenBudget = TokenBudget(),
        refusal: str = "There",
    ):
        super().__init__()
        self.language, self.tower, self.tokenizer, self.budget = language, tower, tokenizer, budget
        table = language.get_input_embeddings().weight
        self.seg_token_id = table.shape[0]
        self.feature_dim, self.class_names = feature_dim, tuple(class_names)
        self.packer = Packer(tokenizer, self.seg_token_id)
        self.refusal_id = self.packer.words(refusal)[0]
        hidden_dim = table.shape[1]
        scale = table.detach().float().pow(2).mean().sqrt().item()
        for name, value in (
            ("class_embeddings", self.word_embeddings(class_names)),
            ("name_embeddings", self.word_embeddings(names.names)),
            ("name_places", names.places.float()),
        ):
            self.register_buffer(name, value, persistent=False)
        self.names = names
        self.projector = CellProjector(feature_dim, hidden_dim, names.places.shape[1], scale)
        self.seg_embedding = nn.Parameter(torch.randn(hidden_dim) * scale)
        self.seg_output = nn.Parameter(torch.randn(hidden_dim) * scale)
        self.head = GroundingHead(hidden_dim, hidden_dim)
        self.head.align_words(self.class_embeddings)

    @property
    def device(self) -> torch.device:
        return self.seg_embedding.device

    @property
    def cell_words(self) -> CellWords:
        """What cells look like, in the LM's words."""
        return CellWords(self.class_embeddings, self.name_places, self.name_embeddings)

    def slots(self, sizes: Sequence[tuple[int, int]], percents: Sequence[int]) -> list[FrameSlot]:
        """Token grids of frames of (height, width) ``sizes`` at ``percents`` of the video, target last."""
        budgets = [self.budget.reference] * (len(sizes) - 1) + [self.budget.target]
        return [
            FrameSlot(percent, *grid_for(*size, budget))
            for size, percent, budget in zip(sizes, percents, budgets, strict=True)
        ]

    def visual_tokens(
        self,
        frames: Sequence[FrameCells],
        slots: Sequence[FrameSlot],
        frame_words: Sequence[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Frames in the LLM's embedding space.

        Args:
            frame_words: words [r, c, D] of each frame in place of those that its cells look like.

        Returns:
            Visual tokens of all frames [n, D]; projected cells [r, c, D] and words [r, c, D] of the target
            frame.
        """
        tokens, spoken = [], self.cell_words
        for index, (cells, slot) in enumerate(zip(frames, slots, strict=True)):
            words = spoken(cells) if frame_words is None else frame_words[index]
            projected = self.projector(cells, words)
            tokens.append(pool_cells(projected, slot.rows, slot.cols).flatten(0, 1))
        return torch.cat(tokens), projected, words

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Word embeddings [..., D] of token ids, the [SEG] token's own included."""
        is_seg = ids == self.seg_token_id
        words = self.language.get_input_embeddings()(ids.masked_fill(is_seg, 0))
        return torch.where(is_seg[..., None], self.seg_embedding.to(words.dtype), words)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Vocabulary logits [..., V + 1] of hidden states [..., D]; the last one is [SEG]'s."""
        words = self.language.get_output_embeddings()(states)
        return torch.cat([words, states @ self.seg_output.to(states.dtype)[:, None]], dim=-1).float()

    def opening_logits(
        self, logits: torch.Tensor, presence_logits: torch.Tensor, language_share: float = 1.0
    ) -> torch.Tensor:
        """Logits of first answer tokens, refusing the less likely the surer the thing is there.

        Args:
            logits: float [N, V + 1], the LM's own. presence_logits: float [N].
            language_share: what the LM's own reluctance to refuse counts beside the presence; 1 in training.
        """
        refusal = functional.one_hot(torch.tensor(self.refusal_id, device=logits.device), logits.shape[-1])
        others = logits.masked_fill(refusal.bool(), -torch.inf).logsumexp(-1)
        reluctance = language_share * (others - logits[:, self.refusal_id]) + presence_logits
        return torch.where(refusal.bool(), (others - reluctance)[:, None], logits)

    @property
    def decoder(self) -> nn.Module:
        """The LM's trunk, under peft's wrapping or not."""
        model = getattr(self.language, "base_model", self.language)
        model = getattr(model, "model", model)
        return getattr(model, "model", model) if hasattr(model, "lm_head") else model

    def embedded(
        self,
        batch: PackedBatch,
        visual_tokens: Sequence[torch.Tensor],
        soft_prompt: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the LM's trunk reads, float [B, L, D]; see `forward`."""
        embeds = self.embed(batch.ids)
        embeds = embeds.masked_scatter(
            batch.visual[..., None], torch.cat(list(visual_tokens)).to(embeds.dtype)
        )
        room, given = int(batch.soft.sum()), 0 if soft_prompt is None else len(batch.ids) * len(soft_prompt)
        if room != given:
            raise ValueError(f"the sequences have room for {room} soft prompt tokens, not for {given}")
        if soft_prompt is not None:
            rows = soft_prompt.to(embeds.dtype).repeat(len(batch.ids), 1)
            embeds = embeds.masked_scatter(batch.soft[..., None], rows)
        return embeds

    def forward(
        self,
        batch: PackedBatch,
        visual_tokens: Sequence[torch.Tensor],
        *,
        soft_prompt: torch.Tensor | None = None,
        return_attention: RolloutSettings | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states (after the final norm) of packed sequences, teacher-forced.

        Args:
            batch: B sequences of L tokens.
            visual_tokens: for each sequence float [n, D] in the order of its visual positions.
            soft_prompt: float [n, D] where the sequences have room for one.
            return_attention: roll out attention so, of a single sequence (B = 1).

        Returns:
            float [B, L, D]; with ``return_attention`` also float32 [N, L]: what the last token before the
            answer of each of the sequence's N turns drew from each token.

        Raises:
            ValueError: the soft prompt is not as long as the room for it, or attention of several sequences.
        """
        embeds = self.embedded(batch, visual_tokens, soft_prompt)
        layers = return_attention.layers(len(self.decoder.layers)) if return_attention else ()
        with recorded_attention(self.decoder, layers) as attention:
            hidden = self.decoder(
                inputs_embeds=embeds,
                attention_mask=batch.visible,
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
        if return_attention is None:
            return hidden
        visual = batch.visual[0].nonzero()[:, 0]
        rows = []
        for turn in batch.layouts[0].turns:
            start = turn.answer[0] - 1
            own = batch.visible[0, 0, start].nonzero()[:, 0]
            rows.append(rollout_row(attention, start, visual, return_attention, own))
        return hidden, torch.stack(rows)

    @torch.inference_mode()
    def read(self, frames: Sequence[FrameCells], percents: Sequence[int]) -> Reading:
        """Put frames (references first, target last) and their times in percent into the LM's cache."""
        slots = self.slots([cells.colour.shape[:2] for cells in frames], percents)
        packed = self.packer.pack(slots, [("", None)])
        span = packed.layout.target
        tokens, cells, words = self.visual_tokens(frames, slots)
        embeds = self.embed(packed.ids[: span.stop].to(self.device))[None]
        visual = packed.visual[: span.stop].to(self.device)
        embeds[0, visual] = tokens.to(embeds.dtype)
        cache = DynamicCache(config=self.decoder.config)
        hidden = self.decoder(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state[
            0
        ]
        states = hidden[span.start : span.stop].float().unflatten(0, (span.rows, span.cols))
        keys = self.head.keys(states, cells.float(), words)
        return Reading(cache, span.stop, states, cells.float(), words, keys)

    @torch.inference_mode()
    def answer(
        self,
        reading: Reading,
        question: str,
        *,
        refusal: RefusalPolicy = RefusalPolicy(),
        max_new_tokens: int = 32,
    ) -> Answer:
        """Generate the answer to one question about the frames read, greedily.

        Args:
            refusal: when to refuse.
        """
        turn = self.packer.pack([FrameSlot(0, 1, 1)], [(question, None)])
        begin = turn.layout.target.stop
        ids = turn.ids[begin:].to(self.device)
        question_span = slice(
            turn.layout.turns[0].question[0] - begin, turn.layout.turns[0].question[1] - begin
        )
        word_sum = self.embed(ids[question_span]).float().sum(0)
        word_count = max(1, question_span.stop - question_span.start)
        embeds, said, states, means, found_prob = self.embed(ids)[None], [], [], [], 0.0
        try:
            while len(said) < max_new_tokens:
                state = self.decoder(
                    inputs_embeds=embeds, past_key_values=reading.cache, use_cache=True
                ).last_hidden_state[0, -1]
                logits = self.logits(state)
                if not said:
                    presence = self.head.presence_logits(
                        state[None].float(), (word_sum / word_count)[None], reading.keys
                    )
                    logits = self.opening_logits(
                        logits[None], presence - refusal.bias, refusal.language_share
                    )[0]
                    found_prob = 1.0 - logits.softmax(-1)[self.refusal_id].item()
                    # An answer says something, and what it begins with is settled by now.
                    logits[self.packer.end_id] = -torch.inf
                    if found_prob >= 0.5:
                        logits[self.refusal_id] = -torch.inf
                elif found_prob < 0.5:
                    logits[self.seg_token_id] = -torch.inf  # a refusal points at nothing
                token = int(logits.argmax()) if found_prob >= 0.5 or said else self.refusal_id
                if token == self.packer.end_id:
                    break
                if token == self.seg_token_id:
                    states.append(state.float())
                    means.append(word_sum / word_count)
                said.append(token)
                embeds = self.embed(torch.tensor([[token]], device=self.device))
                word_sum, word_count = word_sum + embeds[0, 0].float(), word_count + 1
        finally:
            # A negative number of tokens to take away means the same in all versions of transformers.
            if surplus := reading.cache.get_seq_length() - reading.length:
                reading.cache.crop(-surplus)
        width = self.seg_embedding.shape[0]
        return Answer(
            text=self.text(said),
            found=bool(states),
            found_prob=found_prob,
            seg_states=torch.stack(states) if states else torch.zeros(0, width, device=self.device),
            word_means=torch.stack(means) if means else torch.zeros(0, width, device=self.device),
        )

    def word_embeddings(self, words: Sequence[str]) -> torch.Tensor:
        """Words of any length in the LM's embedding space, the mean of each one's tokens: float [M, D]."""
        table = self.language.get_input_embeddings().weight.detach()
        return torch.stack([table[self.packer.words(f" {word}")].float().mean(0) for word in words])

    @torch.inference_mode()
    def meaning(self, answer: Answer, words: torch.Tensor) -> torch.Tensor:
        """How hot an answer's [SEG] tokens would make places that look like each word: float [n, M] logits.

        Args:
            answer: with n [SEG] tokens. words: float [M, D], see `word_embeddings`.
        """
        return self.head.meaning_logits(answer.seg_states, answer.word_means, words)

    def text(self, ids: Sequence[int]) -> str:
        """Token ids as words, the [SEG] token written out."""
        pieces, run = [], []
        for token in [*ids, self.seg_token_id]:
            if token == self.seg_token_id:
                pieces.append(self.tokenizer.decode(run))
                run = []
            else:
                run.append(token)
        return f" {SEG_TOKEN}".join(pieces).strip()

    @torch.inference_mode()
    def ground(self, reading: Reading, answer: Answer, sam_features: torch.Tensor) -> Grounding:
        """Prompt embeddings and heat maps of an answer's [SEG] tokens on the target frame.

        Args:
            sam_features: float [256, h, w], SAM's features of the target frame without padding.
        """
        keys = self.head.keys(reading.states, reading.cells, reading.words, sam_features)
        return self.head(answer.seg_states, answer.word_means, keys)
