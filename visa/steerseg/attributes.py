"""One question to the model before it is looked at: what tells the thing from others like it.

SteerSeg's frozen model gets the expression and the sampled frames and returns attributes (colour, position,
motion) and reasons; the attributes are added to the prompt, the reasons are not used. The wording is ours.
What a model says is rarely exactly JSON, so reading it is tolerant: what cannot be read gives no attributes,
and the system goes on without.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from visa.sampling.answer_cache import AnswerCache, AnswerKey

_log = logging.getLogger(__name__)

# Part of the cache's key: replies to another wording are not replies to this one.
WORDING = "attributes 1"
_ASK = (
    "These are frames of one video, in order of time.\n"
    'Somebody asks for: "{expression}"\n'
    "Decide which thing in the video is meant. Then describe it so that nobody takes another one for it: its "
    "colour or texture, where in the picture it is, and its size or how it moves. Say only what can be seen, "
    "at most five words each.\n"
    "Reply with one JSON object and nothing else:\n"
    '{{"attributes": ["...", "...", "..."], "reason": "why this one, in one sentence"}}'
)
# The last sentence but one is the source's (its method figure); the one-word answer is DecAF's.
_GROUND = "What is the main object mentioned in the given expression{attributes}? Respond with a single word."

_KEYS = ("attributes", "attribute")
_MAX_LENGTH = 80  # characters of one attribute: a longer one is a sentence that was to be a reason
_FENCE = re.compile(r"```[\w-]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_LISTED = re.compile(
    r"""["'“‘]?attributes?["'”’]?\s*[:=：]\s*[\[(](.*?)(?:[\])]|\Z)""", re.DOTALL | re.IGNORECASE
)
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|“([^”]*)”|'((?:[^'\\]|\\.)*?)'(?=\s*(?:[,，、]|\Z))|‘([^’]*)’")


@dataclass(frozen=True)
class AttributeSettings:
    """Whether and how the model is asked. All are guesses where a preset says so.

    ask: False for no attributes. max_new_tokens: of the reply. at_most: attributes that are used.
    ask_for_object: see `grounding_question`.

    Raises:
        ValueError: no room for a reply or no attribute to use.
    """

    ask: bool
    max_new_tokens: int
    at_most: int
    ask_for_object: bool

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.at_most < 1:
            raise ValueError(
                "attributes.max_new_tokens and attributes.at_most must be at least 1, "
                f"not {self.max_new_tokens} and {self.at_most}"
            )


@dataclass(frozen=True)
class Attributes:
    """What the model says about the thing meant: short phrases in any language, and why it is the one."""

    phrases: tuple[str, ...] = ()
    reason: str = ""


def attribute_question(expression: str) -> str:
    """What the model is asked, behind the frames."""
    return _ASK.format(expression=expression)


def grounding_question(expression: str, attributes: Attributes, *, ask_for_object: bool = True) -> str:
    """What the model is asked while its attention is read, behind the frames.

    Args:
        ask_for_object: end by asking which object is meant, as the source does. False leaves it at the
            expression, for a model that was trained to answer that alone.
    """
    listed = "; ".join(attributes.phrases)
    lines = [expression, f"Attributes: {listed}." if listed else ""]
    if ask_for_object:
        lines.append(_GROUND.format(attributes=" using the attributes above" if listed else ""))
    return "\n".join(line for line in lines if line)


def find_attributes(
    say: Callable[[str], str],
    expression: str,
    settings: AttributeSettings,
    *,
    cache: AnswerCache,
    video: str,
    model: str,
) -> Attributes:
    """The attributes of the thing meant; asked once, and read from the kept reply afterwards.

    Args:
        say: the model's reply to a question about the video.
        expression: what a person asked for.
        cache: where replies are kept, one JSON file each. A data set's are kept in a folder beside its
            expressions, so that training and evaluation see the same.
        video: content hash of the video. model: which model, with what else its reply depends on.
    """
    if not settings.ask:
        return Attributes()
    key = AnswerKey(video, expression, f"{model}, {WORDING}, {settings.max_new_tokens} tokens")
    replies = cache.read(key)
    if not replies:
        replies = [say(attribute_question(expression))]
        cache.write(key, replies)
    attributes = read_reply(replies[0], settings.at_most)
    if not attributes.phrases:
        _log.warning("no attributes in the reply to %r: %r", expression, replies[0][:120])
    return attributes


def read_reply(reply: str, at_most: int = 3) -> Attributes:
    """Attributes of a reply, as far as any can be read out of it.

    Taken are, in this order: a JSON object anywhere in it, in a code fence or among other words; a Python
    literal, with single quotes; a list of strings behind the word "attributes", even one that was cut off.
    """
    fenced = [match.strip() for match in _FENCE.findall(reply)]
    for text in (*fenced, reply):
        for value in _objects_in(text):
            phrases = _phrases(value, at_most)
            if phrases:
                reason = value.get("reason", value.get("reasons", ""))
                return Attributes(phrases, reason.strip() if isinstance(reason, str) else "")
    for listed in _LISTED.findall(reply):
        if phrases := _tidy(_strings_in(listed), at_most):
            return Attributes(phrases)
    return Attributes()


def _objects_in(text: str) -> Iterator[dict[str, Any]]:
    """The dictionaries that stand in a text, as JSON or as Python would write them."""
    decoder = json.JSONDecoder(strict=False)
    for begin in (match.start() for match in re.finditer(r"\{", text)):
        try:
            value = decoder.raw_decode(text, begin)[0]
        except (ValueError, RecursionError):
            end = text.find("}", begin)
            try:
                value = ast.literal_eval(text[begin : end + 1]) if end >= 0 else None
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
        if isinstance(value, dict):
            yield value


def _phrases(value: dict[str, Any], at_most: int) -> tuple[str, ...]:
    for key, found in value.items():
        if isinstance(key, str) and key.strip().lower() in _KEYS:
            if isinstance(found, str):
                found = re.split(r"[,;，；、]", found)
            elif isinstance(found, dict):
                found = list(found.values())
            return _tidy(found, at_most) if isinstance(found, list | tuple) else ()
    return ()


def _strings_in(listed: str) -> list[str]:
    """What stands in quotes, or, where nothing does, between commas."""
    quoted = ["".join(groups) for groups in _QUOTED.findall(listed)]
    return quoted or [part.strip(" \t\n\"'“”‘’") for part in re.split(r"[,，、]", listed)]


def _tidy(found: Any, at_most: int) -> tuple[str, ...]:
    """Single-line phrases with letters in them, each once; no template dots and no sentences."""
    phrases = []
    for item in found:
        phrase = " ".join(item.split()).strip(" .;。；[](){}") if isinstance(item, str) else ""
        if any(letter.isalpha() for letter in phrase) and len(phrase) <= _MAX_LENGTH:
            phrases.append(phrase)
    return tuple(dict.fromkeys(phrases))[:at_most]
