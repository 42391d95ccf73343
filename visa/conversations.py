"""Conversations as the published systems write them: turns to text, text to tokens and labels, to a batch.

The token ids keep a placeholder for every image; `model.mllm.splicing` makes room for the visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from model.mllm.packing import IGNORE_INDEX
from model.mllm.splicing import IMAGE_TOKEN

IMAGE_PLACEHOLDER = "<image>"


@dataclass(frozen=True)
class Conversation:
    """Written turns. answers: first and one-past-last character of every answer with its end token."""

    text: str
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ChatFormat:
    """How one language model was taught to write conversations.

    opening: before everything. before_question, before_answer: who speaks, and what ends the speech before.
    space: between that and the answer. end: the token behind an answer.
    """

    opening: str
    before_question: str
    before_answer: str
    space: str
    end: str

    def write(self, turns: Sequence[tuple[str, str | None]]) -> Conversation:
        """Write (question, answer) turns; the last answer may be None, to be generated.

        Questions hold their ``<image>`` placeholders and are taken as they are: what a person typed must have
        come through `visa.questions.clean_question`.

        Raises:
            ValueError: no turn, or an open answer before the last.
        """
        if not turns or any(answer is None for _, answer in turns[:-1]):
            raise ValueError("a conversation needs a turn, and only its last answer may be left open")
        text, answers = self.opening, []
        for question, answer in turns:
            text += self.before_question + question + self.before_answer
            if answer is not None:
                start = len(text)
                text += self.space + answer + self.end
                answers.append((start, len(text)))
        return Conversation(text, tuple(answers))


LLAVA_V1 = ChatFormat(
    opening=(
        "A chat between a curious human and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the human's questions. "
    ),
    before_question="USER: ",
    before_answer=" ASSISTANT:",
    space=" ",
    end="</s>",
)
PHI3_INSTRUCT = ChatFormat(
    opening="<|system|>\nYou are a helpful AI assistant.<|end|>",
    before_question="\n<|user|>\n",
    before_answer="<|end|>\n<|assistant|>\n",
    space="",
    end="<|end|>",
)


@dataclass(frozen=True)
class EncodedConversation:
    """Tokens of one conversation.

    input_ids: int64 [l]; IMAGE_TOKEN where an image stands.
    labels: int64 [l]; the token itself in answers, IGNORE_INDEX elsewhere.
    """

    input_ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ConversationBatch:
    """B conversations about the videos of a batch, padded on the right to l tokens.

    input_ids, labels: int64 [B, l]. attention_mask: bool [B, l], False at padding.
    offsets: the conversations ``offsets[k]`` to ``offsets[k + 1] - 1`` are about video k.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    offsets: tuple[int, ...]


def token_ids(text: str, tokenizer: Any) -> list[int]:
    """Token ids of a written conversation, IMAGE_TOKEN at every ``<image>``.

    The text between images is tokenized piece by piece, as the published systems do. It begins with a BOS
    token if the tokenizer adds one to a text.

    Args:
        text: of a `Conversation`.
        tokenizer: from transformers, with [SEG] among its added tokens.
    """
    ids: list[int] = []
    for index, piece in enumerate(text.split(IMAGE_PLACEHOLDER)):
        piece_ids = list(tokenizer(piece).input_ids)
        if index:
            ids.append(IMAGE_TOKEN)
            if piece_ids[:1] == [tokenizer.bos_token_id]:
                del piece_ids[0]
        ids += piece_ids
    return ids


def encode(conversation: Conversation, tokenizer: Any) -> EncodedConversation:
    """Tokens of a conversation, with labels for its answers.

    Raises:
        ValueError: the tokenizer draws an answer and what stands before it into one token.
    """
    ids = token_ids(conversation.text, tokenizer)
    labels = [IGNORE_INDEX] * len(ids)
    for span in conversation.answers:
        begin, end = (_tokens_before(character, conversation, ids, tokenizer) for character in span)
        labels[begin:end] = ids[begin:end]
    return EncodedConversation(torch.tensor(ids), torch.tensor(labels))


def _tokens_before(character: int, conversation: Conversation, ids: list[int], tokenizer: Any) -> int:
    """How many of a conversation's tokens make up its text before a character."""
    before = token_ids(conversation.text[:character], tokenizer)
    if before != ids[: len(before)]:
        around = conversation.text[max(0, character - 12) : character + 12]
        raise ValueError(
            f"the tokenizer draws tokens across {around!r}, where an answer begins or ends; "
            "expected the tokenizer that came with the checkpoint"
        )
    return len(before)


def collate(
    videos: Sequence[Sequence[EncodedConversation]], pad_id: int, max_length: int | None = None
) -> ConversationBatch:
    """Conversations of several videos become one batch.

    Args:
        videos: for each video its conversations.
        pad_id: fills rows up on the right; masked, and without labels.
        max_length: longer rows are cut (images count as one token); VideoLISA trains with 1793.

    Raises:
        ValueError: a video without a conversation, or none at all.
    """
    if not videos or not all(videos):
        raise ValueError("a batch needs at least one conversation for each of its videos")
    rows = [conversation for conversations in videos for conversation in conversations]

    def padded(tensors: Sequence[Tensor], value: int) -> Tensor:
        cut = [tensor[:max_length] for tensor in tensors]
        return torch.nn.utils.rnn.pad_sequence(cut, batch_first=True, padding_value=value)

    return ConversationBatch(
        input_ids=padded([row.input_ids for row in rows], pad_id),
        labels=padded([row.labels for row in rows], IGNORE_INDEX),
        attention_mask=padded([torch.ones_like(row.input_ids, dtype=torch.bool) for row in rows], 0),
        offsets=tuple(accumulate((len(conversations) for conversations in videos), initial=0)),
    )
