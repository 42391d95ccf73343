"""What a follow-up question leaves to the conversation, put into words: after "the red car" the question
"and the one behind it?" is "the car behind the red car".

The models served here read one question at a time, so a question that points back must be made whole before
they see it. Only plain English is: bare "it", "that one", "them"; these words inside a question that names at
most one thing before them ("the person holding it"); "its wheel"; and "the one on the left", "the other one",
"another". Words are put in place of words, nothing is understood.

Limits, on purpose: "it" always means the thing found last, "them" too (not several earlier answers together);
"it" in "the box with a cat in it" is left alone, for it may mean the box; "is it raining?" is taken for a
question about the thing; other languages are left alone. What is left alone goes to the model as typed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dataset.synthetic.questions_wording import IRREGULAR, is_plural, plural

# A chain of follow-ups ("behind the car behind the car …") ends here: then the noun stands for the thing.
MAX_PHRASE_WORDS = 14

_DETERMINERS = r"the|a|an|this|that|these|those|my|your|our|some|any|all|both|every|each|no|two|three|four"
_PRONOUNS = r"it|them|they|him|he|she|her"
_POSSESSIVES = r"its|their|his|her"
_OPENER = re.compile(r"^(?:(?:and|but|or|now|also|ok|okay)\b[\s,]*)*(?:(?:what|how)\s+about\s+)?", re.I)
_ENDING = re.compile(
    r"(?:[\s,]+(?:please|again|too|now|as well|in (?:the|this) (?:video|clip)))*\s*[?.!]*$", re.I
)
_REQUEST = re.compile(
    r"^(?:please\s+|(?:can|could|would|will)\s+you\s+|i\s+am\s+)*"
    r"(?:find|show|segment|track|follow|mark|highlight|outline|select|point (?:out|at|to)|look(?:ing)? for|"
    r"give me the mask of|is there|are there|do you see|where (?:is|are|was|were)|(?:who|what) (?:is|are))"
    r"(?:\s+(?:me|us))?\s+",
    re.I,
)
_ANSWER = re.compile(r"^(?:it is|here is|they are|here are|that is|this is)\s+", re.I)
_PLACE = (
    r"behind|in front of|next to|beside|near|(?:to )?(?:the )?(?:left|right) of|above|over|below|under|"
    r"underneath|beneath|on top of|before|after|between|around|opposite|at|by|from|in|inside|of|off|on|onto|"
    r"to|with|without|into|for"
)
# Where a noun phrase's head is over: a place, a clause, or a participle with something after it.
_AFTER_HEAD = re.compile(
    rf"\s+(?:{_PLACE}|that|which|who|whose|where|and|or|is|are|was|were|can|could|will|would|has|have|"
    rf"\w+ing(?=\s+(?:{_DETERMINERS}|{_PLACE}|{_PRONOUNS}|{_POSSESSIVES})\b|\s*$)|\w+ed\s+(?={_PLACE}))\b.*$",
    re.I | re.S,
)
_WHICH = re.compile(r"^(?:which|what)\s+(?P<noun>[\w-]+)\s+(?P<clause>[\w'-]+\b.*)$", re.I)
_WHO = re.compile(r"^who\s+(?P<clause>.+)$", re.I)
_WHAT_PLACE = re.compile(rf"^what(?:'s| is| are)\s+(?P<place>(?:{_PLACE})\s.+)$", re.I)
_BARE = re.compile(
    rf"^(?:(?:please\s+)?(?:find|show|segment|track|follow|mark|highlight|outline)\s+(?:me\s+)?)?"
    rf"(?:{_PRONOUNS}|this|that|these|those|(?:this|that|the same)(?:\s+one)?)$",
    re.I,
)
_ONE = re.compile(
    rf"\b(?P<article>the|an?|another)\s+(?P<front>(?:(?!(?:{_PLACE}|{_DETERMINERS}|and|or|is|are)\b)[\w-]+\s+){{0,3}})"
    r"(?P<one>ones?)\b(?!\s+of\b)(?P<clause>\s+(?:that|which|who|whose)\b)?",
    re.I,
)
_LONE = re.compile(r"\b(?P<which>another|the others?)$", re.I)
_THAT_ONE = re.compile(r"\b(?:this|that|the same)\s+one\b", re.I)
_POINTS_BACK = re.compile(rf"\b(?:{_PRONOUNS})\b", re.I)
_OWNED = re.compile(rf"\b(?:{_POSSESSIVES})\s+(?P<part>(?:[\w-]+\s+){{0,2}}[\w-]+)$", re.I)
_NAMED = re.compile(rf"\b(?:{_DETERMINERS})\s+(?!(?:left|right|top|bottom|front|back)\b)[\w-]+", re.I)
# What lies there is not the thing itself.
_ELSEWHERE = re.compile(
    r"\b(?:behind|in front of|next to|beside|near|(?:left|right) of|above|over|below|under|underneath|"
    r"beneath|on top of|before|after|around|opposite|on)$",
    re.I,
)
_SIDES = {
    "left": r"left of",
    "right": r"right of",
    "above": r"above",
    "below": r"below|under|underneath|beneath",
}


@dataclass(frozen=True)
class Mention:
    """A thing, as words name it.

    phrase: "the red car on the left", with its article. noun: "car".
    """

    phrase: str
    noun: str

    @property
    def is_plural(self) -> bool:
        """Whether it names several things."""
        return is_plural(self.noun)

    def brief(self) -> str:
        """The phrase, or where that has grown long "the" and the noun."""
        return self.phrase if len(self.phrase.split()) <= MAX_PHRASE_WORDS else f"the {self.noun}"


@dataclass(frozen=True)
class FollowUp:
    """A question made whole.

    question: for the model. is_another: it asks for another thing than the earlier one. side: where that one
    is to lie, seen from the earlier thing, in the picture: "left", "right", "above", "below", or None.
    """

    question: str
    is_another: bool = False
    side: str | None = None


def mention_in(question: str, answer: str = "") -> Mention | None:
    """What a question asks for, if its words, or else the answer's, name it plainly.

    Args:
        question: whole, not a follow-up any more; "which animal could fly?".
        answer: the model's words about what it found; "It is the bird. [SEG]".
    """
    words = _trimmed(_OPENER.sub("", question))
    asked = _noun_phrase(_REQUEST.sub("", words)) or _asked_clause(words)
    if asked is not None and asked.noun not in ("one", "ones", "thing", "things"):
        return asked
    said = _trimmed(answer.replace("[SEG]", ""))
    return (_noun_phrase(_ANSWER.sub("", said)) if _ANSWER.match(said) else None) or asked


def complete(question: str, earlier: Mention | None) -> FollowUp | None:
    """The question with what it points back to in words; None where it is to go to the model as typed.

    Args:
        question: as typed.
        earlier: the thing found last, if any.
    """
    opener = _OPENER.match(question).group()
    text = _trimmed(question[len(opener) :])
    is_plain = opener.rstrip().lower().endswith("about") and text
    if earlier is None:
        return FollowUp(text) if is_plain else None
    if _BARE.match(text):
        return FollowUp(earlier.brief())
    whole, is_other = _without_one(text, earlier, bool(opener))
    whole = _THAT_ONE.sub(lambda _: earlier.brief(), whole)
    whole, place = _without_pronoun(whole, earlier)
    if whole == text:
        return FollowUp(text) if is_plain else None
    side = next((side for side, words in _SIDES.items() if re.search(rf"\b(?:{words})$", place, re.I)), None)
    # Without its mark "the car behind the red car?" is what it is, a noun phrase; a sentence keeps it.
    mark = "?" if "?" in question and not re.match(rf"(?:{_DETERMINERS})\b", whole, re.I) else ""
    return FollowUp(whole + mark, is_other or _ELSEWHERE.search(place) is not None, side)


def _without_one(text: str, earlier: Mention, has_opener: bool) -> tuple[str, bool]:
    """ "the white one" as "the white car", and whether another thing is asked for."""
    is_other = False

    def named(match: re.Match) -> str:
        nonlocal is_other
        # "the one that could fly" stands on its own, unless it goes on from what was said.
        if match["clause"] and not has_opener:
            return match.group()
        words = f"{match['article']} {match['front']}".lower().split()
        is_other |= bool({"another", "other", "different", "next", "second", "third"} & set(words))
        noun = plural(earlier.noun) if match["one"].lower() == "ones" else _singular(earlier.noun)
        return f"{match['article']} {match['front']}{noun}{match['clause'] or ''}"

    text = _ONE.sub(named, text)
    if match := _LONE.search(text):
        is_other = True
        noun = plural(earlier.noun) if match["which"].lower() == "the others" else _singular(earlier.noun)
        text = f"{text[: match.start()]}{match['which'].removesuffix('s')} {noun}"
    return text, is_other


def _without_pronoun(text: str, earlier: Mention) -> tuple[str, str]:
    """ "the person holding it" as "the person holding the red ball", and the words before the pronoun."""
    if match := _OWNED.search(text):
        # "the dog wagging its tail": the owner stands in the question itself.
        before = text[: match.start()]
        if not _NAMED.search(before) and not re.match(r"(?:who|which|what)\b(?! (?:is|are)\b)", before, re.I):
            return f"{before}the {match['part']} of {earlier.brief()}", ""
        return text, ""
    for match in _POINTS_BACK.finditer(text):
        before, after = text[: match.start()], text[match.end() :]
        is_owner = match.group().lower() == "her" and re.match(r"\s+\w", after)
        # Two things named before the pronoun: it may well mean one of those.
        if is_owner or len(_NAMED.findall(before)) > 1:
            continue
        return before + earlier.brief() + after, before.rstrip()
    return text, ""


def _trimmed(text: str) -> str:
    return _ENDING.sub("", text.strip())


def _noun_phrase(text: str) -> Mention | None:
    """The text as a mention, if it is a noun phrase with an article, or up to three bare words."""
    match = re.match(rf"(?P<determiner>{_DETERMINERS})\s+(?P<rest>.+)$", text, re.I | re.S)
    rest = match["rest"] if match else text
    front = _AFTER_HEAD.sub("", f" {rest}").split()
    if not front or not all(re.fullmatch(r"[^\W\d_][\w'-]*", word) for word in front):
        return None
    if not match and (
        len(rest.split()) > 3 or re.match(r"(?:which|what|who|where|when|why|how|is|are)\b", rest)
    ):
        return None
    article = match["determiner"].lower() if match else "the"
    article = "the" if article in ("a", "an", "some", "any", "no", "every", "each") else article
    return Mention(f"{article} {rest}", front[-1].lower())


def _asked_clause(text: str) -> Mention | None:
    """ "which animal could fly" as "the animal that could fly"; "who runs" as "the person that runs"."""
    if match := _WHAT_PLACE.match(text):
        return Mention(f"the thing {match['place']}", "thing")
    if match := _WHO.match(text):
        return Mention(f"the person that {match['clause']}", "person")
    if (match := _WHICH.match(text)) and match["noun"].lower() not in (
        "is",
        "are",
        "of",
        "here",
        "in",
        "can",
    ):
        return Mention(f"the {match['noun']} that {match['clause']}", match["noun"].lower())
    return None


def _singular(noun: str) -> str:
    """The noun for one thing: "dog" of "dogs"."""
    if not is_plural(noun):
        return noun
    for one, many in IRREGULAR.items():
        if many == noun:
            return one
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    return noun[:-2] if re.search(r"(?:ss|x|z|ch|sh|bus)es$", noun) else noun.removesuffix("s")
