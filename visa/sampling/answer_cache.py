"""Answers of a scorer, kept on disk: asking a video MLLM ten times is the slowest part of the sampling."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visa.errors import InputError
from visa.public_files import cache_folder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AnswerKey:
    """What answers belong to: the video's content hash, the question as it was asked, the scorer's name."""

    video: str
    question: str
    scorer: str

    @property
    def file_name(self) -> str:
        content = json.dumps([self.video, self.question, self.scorer])
        return hashlib.sha256(content.encode()).hexdigest() + ".json"


@dataclass(frozen=True)
class AnswerCache:
    """One small JSON file for each key, written as a whole or not at all.

    Args:
        folder: where; by default ``answers`` in the project's cache ($VISA_CACHE).
    """

    folder: Path | str | None = None

    def path(self, key: AnswerKey) -> Path:
        """The key's file, whether or not it exists."""
        folder = cache_folder() / "answers" if self.folder is None else Path(self.folder)
        return folder / key.file_name

    def read(self, key: AnswerKey) -> list[str]:
        """The answers in the order in which they were given; [] if none are kept or the file is damaged."""
        try:
            stored = json.loads(self.path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        answers = stored.get("answers") if isinstance(stored, dict) else None
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            return []
        return answers if {**stored, "answers": answers} == {**asdict(key), "answers": answers} else []

    def write(self, key: AnswerKey, answers: list[str]) -> None:
        """Keep the answers in place of those kept so far.

        Raises:
            InputError: the folder cannot be written.
        """
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({**asdict(key), "answers": answers}, file, indent=1)
                Path(partial).replace(path)
            finally:
                Path(partial).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot keep answers in {path.parent}: {error.strerror or error}; "
                "set VISA_CACHE to another folder"
            ) from error


def mark_of(weights: Iterable[Tensor]) -> str:
    """Twelve letters that tell one training's weights from another's: its answers are not the other's."""
    digest = hashlib.sha256()
    for parameter in weights:
        digest.update(parameter.detach().flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
