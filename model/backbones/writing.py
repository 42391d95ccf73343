"""Words and control tokens become one row of token ids, and where which words stand is remembered.

Our own wording may hold control tokens; what people typed may not: wherever their words happen to spell one,
it is taken apart. Neighbouring pieces of plain text are tokenised as one, so that the ids are those of the
whole text written out.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from model.mllm.packing import SEG_TOKEN


@dataclass(frozen=True)
class Wording:
    """How a language model was taught to write conversations.

    opening: before everything. system: what the system turn says where nobody says otherwise; None leaves it
    out. turn: before a turn, with ``{role}``, which capital_roles writes with a capital. closing: after a
    turn; its control token ends an answer. answer: before an answer, and space: before one that is given.
    before_words: between frames and words; without_frames: between the role and words.
    """

    opening: str = ""
    system: str | None = None
    turn: str = "<|im_start|>{role}\n"
    closing: str = "<|im_end|>\n"
    answer: str = "<|im_start|>assistant\n"
    before_words: str = ""
    without_frames: str = ""
    space: str = ""
    capital_roles: bool = False

    @property
    def end(self) -> str:
        """The control token that ends an answer."""
        return re.match(r"<[^<>]+>", self.closing).group()

    def begin(self, role: str) -> str:
        """What stands before the turn of a "system" or a "user"."""
        return self.turn.format(role=role.capitalize() if self.capital_roles else role)


class Writer:
    """Writes one sequence; `ids` and `places` are complete after `finish`.

    Args:
        tokenizer: a fast tokenizer of transformers.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
        # A word of one character cannot be taken apart, and spells nothing but itself.
        words = sorted((word for word in self._added if len(word) > 1), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, words)) or r"(?!)")
        self._plain: list[tuple[str, Hashable | None]] = []
        self.ids: list[int] = []
        self.places: dict[Hashable, tuple[int, int]] = {}

    def wording(self, text: str) -> None:
        """Our own text; control tokens spelled out in it become control tokens."""
        start = 0
        for found in self._known.finditer(text):
            self._plain.append((text[start : found.start()], None))
            self.tokens(self._added[found.group()])
            start = found.end()
        self._plain.append((text[start:], None))

    def words(self, text: str, name: Hashable) -> None:
        """What somebody said; its place is kept under ``name``."""
        self._plain.append((text, name))

    def answer(self, text: str, name: Hashable) -> tuple[int, ...]:
        """An assistant's words: each [SEG] becomes the [SEG] token if there is one, without the space before.

        Returns:
            The positions of the [SEG] tokens. The place of the whole is kept under ``name``.
        """
        seg = self._added.get(SEG_TOKEN)
        pieces = [text] if seg is None else text.split(SEG_TOKEN)
        segs, first = [], None
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            self.words(piece if last else piece.rstrip(), (name, number))
            if not last:
                segs.append(self.tokens(seg)[0])
                first = self.places[name, 0][0] if first is None else first
        self.finish()
        start = self.places[name, 0][0] if first is None else first
        self.places[name] = (start, len(self.ids))
        return tuple(segs)

    def tokens(self, token: int, count: int = 1) -> tuple[int, int]:
        """A token, ``count`` times; its first and one-past-last position."""
        self.finish()
        start = len(self.ids)
        self.ids += [token] * count
        return start, len(self.ids)

    def finish(self) -> None:
        """Turn the text that waits into tokens."""
        text = "".join(piece for piece, _ in self._plain)
        spans, end = [], 0  # of the characters of each piece of the waiting text
        for piece, name in self._plain:
            spans.append((name, end, end + len(piece)))
            end += len(piece)
        self._plain = []
        characters: list[tuple[int, int]] = []
        begin = len(self.ids)
        for start, part in self._taken_apart(text):
            encoded = self._tokenizer(part, add_special_tokens=False, return_offsets_mapping=True)
            self.ids += encoded.input_ids
            characters += [(start + first, start + last) for first, last in encoded.offset_mapping]
        for name, first, last in spans:
            if name is None:
                continue
            inside = [i for i, (a, b) in enumerate(characters) if a < last and b > first]
            before = sum(b <= first for _, b in characters)
            self.places[name] = (
                (begin + inside[0], begin + inside[-1] + 1) if inside else (begin + before, begin + before)
            )

    def _taken_apart(self, text: str) -> list[tuple[int, str]]:
        """Pieces of the text that spell no control token, each with its first character's place."""
        pieces, start = [], 0
        while found := self._known.search(text, start):
            cut = found.start() + 1  # behind its first character; what is before it spells none
            pieces.append((start, text[start:cut]))
            start = cut
        return [*pieces, (start, text[start:])] if start < len(text) else pieces
