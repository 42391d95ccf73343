"""Clips that are only talked about: questions answered in words, as LLaVA writes conversations.

    [{"id", "image": "<name>" | ["<name>", ...] | absent, "video": "<name>",
      "conversations": [{"from": "human" | "gpt", "value": text}, ...]}]

Where "<image>" and "<video>" stand in a question is not kept: the pictures come before the words.

Source: Liu et al., "Visual Instruction Tuning", NeurIPS 2023.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles, LazyMasks
from dataset.errors import DatasetError
from dataset.json_files import field, listing, read_json, shortened, text_field
from dataset.reader import Reader
from dataset.sample import TALK, Turn

PLACEHOLDERS = ("<image>", "<video>")


class TalkReader(Reader):
    """What the readers of such files have in common; see `Reader`. A clip's name is its number and its id.

    There are hundreds of thousands of records: they are kept as text in one piece, which forked processes
    share, and a clip is made when it is indexed.

    Attributes:
        last_only: Whether only the last question and answer of a conversation are taken.
    """

    splits = ("train",)
    last_only: ClassVar[bool] = False

    def _read_clips(self) -> Iterable[Clip]:
        self.meta_path = self._find_file()
        records = listing(read_json(self.meta_path), f"{self.meta_path}")
        texts, numbers = [], []
        for number, text in self._each(enumerate(records), self._checked):
            if text:
                texts.append(text)
                numbers.append(number)
        self._numbers = np.array(numbers, dtype=np.int64)
        self._starts = np.cumsum([0, *map(len, texts)])
        self._text = b"".join(texts)
        return ()

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]
        text = self._text[self._starts[place] : self._starts[place + 1]]
        return self._clip(int(self._numbers[place]), json.loads(text))

    def __iter__(self) -> Iterator[Clip]:
        return (self[place] for place in range(len(self)))

    def video(self, name: str) -> Clip:
        """The clip of a name.

        Raises:
            DatasetError: No such clip.
        """
        number = name.partition("-")[0]
        place = np.searchsorted(self._numbers, int(number)) if number.isdecimal() else len(self)
        if place == len(self) or self[place].name != name:
            raise DatasetError(f"{self.meta_path}: no record {name!r} among its {len(self)}")
        return self[place]

    @abstractmethod
    def _find_file(self) -> Path:
        """The file of conversations."""

    @abstractmethod
    def _frames(self, record: dict[str, Any], where: str) -> FrameFiles | None:
        """What a record shows; None leaves it out."""

    def _checked(self, number: int, record: Any) -> tuple[int, bytes]:
        """A record as text, if it can be read; b"" if it is to be left out."""
        return number, b"" if self._clip(number, record) is None else json.dumps(record).encode()

    def _clip(self, number: int, record: Any) -> Clip | None:
        where = f"{self.meta_path}: record {number}"
        spoken = listing(field(record, "conversations", where), f"{where}, conversations")
        frames = self._frames(record, where)
        if frames is None:
            return None
        pairs = _pairs(spoken, where)
        expressions = tuple(
            Expression(str(place), question, TALK, None, (), (), answer)
            for place, (question, answer) in enumerate(pairs[-1:] if self.last_only else pairs)
        )
        return Clip(
            name=f"{number:06d}-{record.get('id', '')}",
            frames=frames,
            masks=LazyMasks((), frames, self._no_mask),
            turns=tuple(Turn(item.text, item.answer or "", TALK, "") for item in expressions),
            expressions=expressions,
        )

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        return self._no_mask(annotation_id, frame_index)

    def _no_mask(self, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        raise DatasetError(
            f"{self.meta_path}: talk has no masks; {annotation_id!r} of frame {frame_index} was asked for"
        )


def _pairs(spoken: list[Any], where: str) -> list[tuple[str, str]]:
    """Questions with their answers, without placeholders."""
    pairs: list[tuple[str, str]] = []
    question: str | None = None
    for place, said in enumerate(spoken):
        at = f"{where}, conversations[{place}]"
        text = text_field(said, "value", at)
        if text_field(said, "from", at) == "human":
            question = text
            continue
        if question is None:
            raise DatasetError(f"{at}: an answer without a question")
        for placeholder in PLACEHOLDERS:
            question = question.replace(placeholder, "")
        pairs.append((question.strip(), text.strip()))
        question = None
    if not pairs or not all(question and answer for question, answer in pairs):
        raise DatasetError(f"{where}: expected questions and answers, got {shortened(spoken)}")
    return pairs
