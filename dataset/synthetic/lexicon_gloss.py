"""Turns a dictionary's definition into noun phrases that describe a thing without naming it.

"large wading bird with a long neck; used ..." becomes "a large wading bird with a long neck".
"""

import re

REJECTED_STARTS = frozenset(
    "used usually originally formerly informal especially also not in at of for when where "
    "consisting made having being characterized or and as by from often commonly sometimes relating "
    "distinguished native either it such what worn located to with unlike so resembling similar held "
    "widely known called chiefly common two three cultivated based on now its their this these those "
    "slang pejorative abbreviation trade british".split()
)
HEAD_ENDS = frozenset(
    """of about than with that which having used in for native found from who made on to by at as worn
    characterized consisting designed containing where whose including bearing producing and or
    resembling living occurring formed built operated usually belonging intended related similar between
    without capable cultivated common noted covered serving often especially attached growing played
    eaten sold""".split()
)
NOT_PLURAL = re.compile(r"(ss|us|is|ous|as|ics|ness|series|species)$")
UNREADABLE = re.compile(
    r"[^\w\s,'./-]|\d{3}|\b(genus|genera|e\.g|i\.e|etc|esp|usu|synonymous|of any of|formerly classified)\b"
)
# Grammar in a person's mouth rather than in a dictionary's.
PLAIN = (
    (r"^(the|a|an) (act|state|quality) of .*", ""),
    (r"^any (?:of (?:several|various|numerous|many)(?: \w+)? (?=\w+s\b)|of the )", "one of the "),
    (r"^any of (?:several|various|numerous|many) ", "one of the "),
    (r"^(?:any|one) of a (?:class|group|number|family|kind) of ", "one of the "),
    (r"^(?:general|generic|common) (?:term|name) for ", ""),
    (r"^any ", ""),
    (r"^(?:several|various|numerous|many|certain) (?:of the )?", "one of the "),
    (r"^(?:mostly|usually|typically|relatively) ", ""),
    (r"^a person who\b", "someone who"),
    (r" of the (?:genus|family|order|suborder|class|phylum|genera|subfamily|tribe) [A-Z]\w+", ""),
    (r"\bof or relating to\b", "about"),
)


# Words of longer names ("red apple", "person with a beard") that do not give the thing itself away.
COMMON_MODIFIERS = frozenset(
    """and the with for red orange yellow green blue purple pink brown black white grey gold silver small
    large big little old open closed person man woman face food piece people""".split()
)


def own_words(names: tuple[str, ...]) -> frozenset[str]:
    """The words (lower case, 3 letters or more) that would give a thing of these names away."""
    plainest = min(names, key=len, default="")
    words = re.findall(r"[a-z]+", plainest.lower())
    for name in names:
        words += [word for word in re.findall(r"[a-z]+", name.lower()) if word not in COMMON_MODIFIERS]
    return frozenset(word for word in words if len(word) >= 3)


ENDINGS = (
    *(("ies", "y"), ("ves", "f"), ("ing", ""), ("ers", ""), ("er", ""), ("ed", ""), ("es", "")),
    *(("s", ""), ("e", ""), ("y", "")),
)


def stem(word: str) -> str:
    """A crude common root, so that "skis" meets "skiing" and "berries" meets "berry"."""
    for ending, root in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) + len(root) >= 3:
            word = word[: len(word) - len(ending)] + root
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] if word.endswith(("e", "y")) and len(word) > 3 else word


def leaks(text: str, names: tuple[str, ...]) -> bool:
    """Whether a text holds a word of the names, in another form or as the first half of a compound."""
    own = own_words(names)
    roots = {stem(word) for word in own}
    for word in re.findall(r"[a-z]+", text.lower()):
        root = stem(word)
        if word in own or root in roots:
            return True
        if len(root) >= 4 and any(other.startswith(root) for other in own):
            return True
        if any(len(other) >= 4 and word.startswith(other) for other in roots):
            return True
    return False


def article(phrase: str) -> str:
    """ "a" or "an" for a phrase, by its sound as far as its letters tell."""
    word = re.split(r"[ -]", phrase.lower(), maxsplit=1)[0]
    if re.match(r"(uni(?!n)|use|usu|uk|eu|one\b|ut[ei]|ur[ai]|u$|ewe)", word):
        return "a"
    if re.match(r"(hour|honest|heir|honou?r)", word) or word in ("x", "mri", "lp", "x-ray", "sos", "fm"):
        return "an"
    return "an" if word[:1] in "aeiou" else "a"


def _is_plural(phrase: str) -> bool:
    words = re.findall(r"[\w'-]+|,", phrase)
    head = ""
    for word in words:
        if word.lower() in HEAD_ENDS or word == ",":
            break
        head = word
    return head.endswith("s") and not NOT_PLURAL.search(head) and len(head) > 3


def _clause(clause: str) -> str | None:
    written = clause
    for pattern, replacement in PLAIN:
        clause = re.sub(pattern, replacement, clause).strip()
    words = clause.split()
    if re.search(r"of the (genus|family|order)", written) and (len(words) < 6 or " member" in clause):
        return None
    if not 2 <= len(words) <= 22 or words[0].lower().strip(",") in REJECTED_STARTS:
        return None
    if UNREADABLE.search(clause):
        return None
    first = words[0].lower()
    if first in ("one", "someone", "something", "anything", "a", "an", "the"):
        return clause if first != "anything" else "something" + clause[8:]
    if _is_plural(clause):
        return "one of the " + clause
    return f"{article(clause)} {clause}"


def _replace_own(clause: str, names: tuple[str, ...], wider: str) -> str:
    """Put the wider kind's name where the definition repeats the last word of the thing's own name."""
    for name in names:
        head = re.split(r" (?:of|with|in|on) ", name.lower())[0].split()[-1]
        if " " in name and len(head) >= 3 and stem(head) != stem(wider):
            clause = re.sub(rf"\b{re.escape(head)}s\b", wider + "s", clause)
            clause = re.sub(rf"\b{re.escape(head)}\b", wider, clause)
    clause = re.sub(r"\b(\w+) \1\b", r"\1", clause)
    return re.sub(r"\ban? (\w+)", lambda match: f"{article(match[1])} {match[1]}", clause)


def describe(
    gloss: str, names: tuple[str, ...], wider: str = "", first_only: bool = False
) -> tuple[str, ...]:
    """Noun phrases from a definition that do not hold the thing's own words.

    Args:
        gloss: A definition as WordNet writes it, clauses divided by ";", examples in quotes.
        names: Everything that the thing is called.
        wider: What a broader kind is called ("fish" for a tiger shark); takes the place of a word of the
            thing's own name where the definition repeats it. "" to give such definitions up.
        first_only: Only the first clause, which defines; the later ones add.

    Returns:
        Phrases with their article, such as "a large wading bird"; () if none is fit to use.
    """
    gloss = re.sub(r'[;,]?\s*"[^"]*"?', "", gloss)
    while "(" in gloss and (inner := re.sub(r"\s*\([^()]*\)", "", gloss)) != gloss:
        gloss = inner
    gloss = re.sub(r"\s*[()].*", "", gloss).replace("`", "'").replace("''", "'")
    gloss = re.sub(r",? (?:etc\.?|and so on)(?=[\s;]|$)", "", gloss)
    clauses = [part.strip(" .,:-") for part in re.split(r"[;:]", gloss)]
    kept = []
    for number, clause in enumerate(clauses[:1] if first_only else clauses):
        if wider and clause:
            clause = _replace_own(clause, names, wider)
        phrase = _clause(clause) if clause else None
        defines = number == 0 or re.match(r"someone who|(the|a|an) (largest|smallest)", phrase or "")
        if phrase and defines and not leaks(phrase, names):
            kept.append(phrase)
    return tuple(kept)
