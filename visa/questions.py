"""A person's question, made safe to stand in a prompt.

A question is text, never a command to the model: "[SEG]" typed by a person must not count as the model's own
[SEG], nor "<|im_end|>" end the turn. Every control token of the model families we know is written with angle
or square brackets, so those characters are replaced by look-alikes that occur in no such token: < > become ‹
› and [ ] become ( ). Nothing is removed that a bypass could be built from ("[S[SEG]EG]" stays harmless), no
list of tokens has to be kept up to date, and a reader, or a model, still understands the sentence.
"""

from __future__ import annotations

import unicodedata

from visa.errors import InputError

MAX_QUESTION_CHARACTERS = 2000

# Joiners are invisible but change words and emoji in many scripts; every other invisible character goes.
_JOINERS = "\u200c\u200d"
# Each bracket with every form of it that a tokenizer's compatibility folding (NFKC) would turn into it.
_TRANSLATION = {
    ord(form): safe
    for safe, forms in {"‹": "<＜﹤", "›": ">＞﹥", "(": "[［﹇", ")": "]］﹈"}.items()
    for form in forms
}


def clean_question(text: str) -> str:
    """The question as it is put to the model. Cleaning twice changes nothing more.

    Control and invisible characters go, runs of white space become one space, letters are composed (Unicode
    NFC) and brackets of control tokens are replaced as told above.

    Args:
        text: what the person typed.

    Raises:
        InputError: nothing is left of the question, or more than `MAX_QUESTION_CHARACTERS` characters.
    """
    visible = "".join(" " if character.isspace() else character for character in text if _is_kept(character))
    question = " ".join(unicodedata.normalize("NFC", visible).translate(_TRANSLATION).split())
    if not question.strip(_JOINERS + " "):
        raise InputError("the question is empty: ask for something to find, such as --query 'the red car'")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise InputError(
            f"the question has {len(question)} characters; shorten it to at most {MAX_QUESTION_CHARACTERS}"
        )
    return question


def _is_kept(character: str) -> bool:
    """Whether the character is white space, a joiner or visible."""
    if character.isspace() or character in _JOINERS:
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
