"""A model's answer as people read it: the words without [SEG], a sign between the model and its mask decoder.

`Tracklet.answer` and `result.json` keep the answer as the model gave it. What is printed or drawn goes
through here: the command lines, the chat, the page and the contact sheet.
"""

from __future__ import annotations

import re

# As `model.mllm.packing.SEG_TOKEN`, which costs an import of PyTorch.
_SIGN = re.compile(r"\s*\[SEG\](?:\s+(?=[.,;:!?]))?")
# What led up to the sign and now leads nowhere: "Sure, [SEG]." is "Sure."
_DANGLING = re.compile(r"\s*[,;:](?=\s*(?:[,;:.!?]|$))")
NO_WORDS = "(no words)"


def plain_words(answer: str) -> str:
    """The words of an answer, white space made single; `NO_WORDS` where the sign was all of it."""
    if not _SIGN.search(answer):
        return " ".join(answer.split()) or NO_WORDS
    words = " ".join(_SIGN.sub("", answer).split())
    return _DANGLING.sub("", words).strip() or NO_WORDS


def verdict(answer: str, found: bool) -> str:
    """An answer in one line, saying where nothing was found."""
    words = plain_words(answer)
    return words if found else f"not found: {words}"
