"""The file of questions: `{"clip.mp4": ["question", ...], ...}`, or one list for every video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visa.errors import InputError
from visa.questions import clean_question

EXPECTED = 'expected {"clip.mp4": ["question", ...], ...} or one list ["question", ...] for every video'


def read_queries(path: str | Path) -> list[str] | dict[str, list[str]]:
    """Read and check all questions, before any work is put into them.

    Args:
        path: a JSON file as above, in UTF-8.

    Returns:
        One list for all videos, or a list for each video's name; some of these may be empty.

    Raises:
        InputError: there is no such file, it is not of this form, a video stands in it twice, a question is
            empty or too long, or there is none at all.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        content = json.loads(text, object_pairs_hook=lambda pairs: _without_doubles(pairs, path))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read the questions {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        why = str(error) or type(error).__name__
        raise InputError(f"{path} is not JSON in UTF-8 ({why}): {EXPECTED}") from error
    if isinstance(content, list):
        queries: list[str] | dict[str, list[str]] = _checked(content, f"{path}")
        is_empty = not queries
    elif isinstance(content, dict):
        queries = {name: _checked(questions, f"{path}, {name!r}") for name, questions in content.items()}
        is_empty = not any(queries.values())
    else:
        raise InputError(f"{path} holds {_kind(content)}: {EXPECTED}")
    if is_empty:
        raise InputError(f"{path} holds no question: {EXPECTED}")
    return queries


def _without_doubles(pairs: list[tuple[str, Any]], path: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise InputError(f"{path} names {name!r} twice: put all its questions into one list")
        content[name] = value
    return content


def _checked(questions: Any, where: str) -> list[str]:
    if not isinstance(questions, list):
        raise InputError(f"{where}: expected a list of questions, got {_kind(questions)}")
    for number, question in enumerate(questions, start=1):
        if not isinstance(question, str):
            raise InputError(f"{where}, question {number}: expected words, got {_kind(question)}")
        try:
            clean_question(question)
        except InputError as error:
            raise InputError(f"{where}, question {number}: {error}") from error
    # Half a character, as JSON may escape it, could not be written to any file.
    return [question.encode("utf-8", "replace").decode("utf-8") for question in questions]


def _kind(value: Any) -> str:
    kinds = {str: "a text", dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
