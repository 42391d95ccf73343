"""Grammar and sentence patterns of the questions, and the answers' fixed forms.

A question is made of a noun phrase ("the red bird on the left") or of a predicate ("can fly"), put into
one of many patterns. An answer's form follows from the question's form alone, so that a language model
has nothing to guess: questions get "It is the goat. [SEG]", requests get "Here is the goat. [SEG]".
"""

import re

import numpy as np

from dataset.synthetic.lexicon_gloss import article

SEG = "[SEG]"
NOTHING = "There is no such thing in the video."
IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "foot": "feet",
    "tooth": "teeth",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "moose": "moose",
    "bison": "bison",
    "aircraft": "aircraft",
    "knife": "knives",
    "wolf": "wolves",
    "leaf": "leaves",
    "loaf": "loaves",
    "scarf": "scarves",
    "shelf": "shelves",
    "elf": "elves",
    "calf": "calves",
    "thief": "thieves",
    "squid": "squid",
    "shrimp": "shrimps",
    "salmon": "salmon",
    "spacecraft": "spacecraft",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "mango": "mangoes",
    "cactus": "cacti",
    "octopus": "octopuses",
    "fungus": "fungi",
    "die": "dice",
    "jeans": "jeans",
    "money": "money",
    "bread": "breads",
    "food": "foods",
    "dice": "dice",
    "fireman": "firemen",
    "policeman": "policemen",
    "swine": "swine",
    "buffalo": "buffaloes",
}
SINGULAR_IN_S = re.compile(
    r"(ss|us|is|os|as|lens|series|species|chess|rhinoceros|swiss|tennis|mumps|news|canvas|gas|atlas)$"
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# {np}: "the red bird". Requests first, then questions.
REQUESTS = (
    "Segment {np}.",
    "Find {np}.",
    "Show me {np}.",
    "Please segment {np} in the video.",
    "Mark {np}.",
    "Please find {np}.",
    "Highlight {np}.",
    "Can you segment {np}?",
    "Could you show me {np}?",
    "Please outline {np}.",
    "Track {np}.",
    "segment {np}",
    "find {np}",
    "Point out {np}.",
    "I am looking for {np}.",
    "Can you find {np} in this video?",
    "Give me the mask of {np}.",
    "Please track {np} through the video.",
)
PLACES = (
    "Where is {np}?",
    "where is {np}",
    "Which one is {np}?",
    "Do you see {np}?",
    "Where can I see {np}?",
    "Where in the video is {np}?",
    "Where in this clip is {np}?",
)
# {vp}: "can fly". {noun}: "thing", "animal", …
REQUESTS_THAT = (
    "Find the {noun} that {vp}.",
    "Segment the {noun} that {vp}.",
    "Show me the {noun} that {vp}.",
    "Please find the {noun} that {vp}.",
    "the {noun} that {vp}",
    "The {noun} that {vp}.",
    "the one that {vp}",
    "Segment what {vp}.",
    "Can you find something that {vp}?",
    "Please segment the {noun} which {vp}.",
    "I am looking for the {noun} that {vp}.",
    "Highlight the {noun} that {vp}.",
    "Point at what {vp}.",
)
QUESTIONS_THAT = (
    "Which {noun} {vp}?",
    "Which one {vp}?",
    "What {vp}?",
    "which one {vp}",
    "which {noun} {vp}?",
    "Which of these {vp}?",
    "What here {vp}?",
    "What in the video {vp}?",
    "what {vp}?",
    "Which {noun} here {vp}?",
    "Which of the things in view {vp}?",
    "Something here {vp}. What is it?",
    "Which {noun} in the video {vp}?",
    "There is something that {vp}. Where is it?",
)
WHO = (
    "Who {vp}?",
    "who {vp}",
    "Who here {vp}?",
    "Who in the video {vp}?",
    "Which person {vp}?",
    "Which one {vp}?",
)
# {np}: an indefinite description, "a large wading bird".
REQUESTS_IS = (
    "Find {np}.",
    "Segment {np}.",
    "{Np}.",
    "{np}",
    "Show me {np}.",
    "I am looking for {np}.",
    "Please segment {np}.",
    "Can you find {np}?",
    "Is there {np} here? Segment it.",
    "Segment the thing that is {np}.",
)
QUESTIONS_IS = (
    "Which one is {np}?",
    "What here is {np}?",
    "Which thing in the video is {np}?",
    "Where do you see {np}?",
    "which one is {np}",
    "Which of these is {np}?",
    "Where is {np}?",
    "What in view could be called {np}?",
)


def pick(rng: np.random.Generator, choices):
    """One of a sequence, evenly."""
    return choices[int(rng.integers(len(choices)))]


def with_article(phrase: str) -> str:
    """ "a goat", "an owl", "scissors"."""
    return phrase if is_plural(phrase) else f"{article(phrase)} {phrase}"


def head_of(phrase: str) -> tuple[str, str]:
    """A noun phrase's front part with its head, and what follows: ("man", " surfing")."""
    match = re.match(r"(.+?)( (?:of|with|in|on|wearing|without|at|for)\b.*| \w+ing\b.*)?$", phrase)
    front, rest = match[1], match[2] or ""
    return front, rest


def is_plural(phrase: str) -> bool:
    """Whether a name is itself plural: "scissors", "grapes", "people wrestling"."""
    word = head_of(phrase)[0].split()[-1].lower()
    return (
        word in ("people", "men", "women")
        or (word.endswith("s") and not SINGULAR_IN_S.search(word) and len(word) > 3)
        or word == "glasses"
    )


def plural(phrase: str) -> str:
    """ "goats", "mice", "men surfing", "pieces of clothing"."""
    front, rest = head_of(phrase)
    if is_plural(phrase):
        return phrase
    *before, word = front.split(" ")
    if word in IRREGULAR:
        word = IRREGULAR[word]
    elif re.search(r"(s|x|z|ch|sh)$", word):
        word += "es"
    elif re.search(r"[^aeiou]y$", word):
        word = word[:-1] + "ies"
    else:
        word += "s"
    return " ".join([*before, word]) + rest


def plural_verb(predicate: str) -> str:
    """A predicate's plural: "is used to cut" -> "are used to cut", "lays eggs" -> "lay eggs"."""
    word, _, rest = predicate.partition(" ")
    fixed = {
        "is": "are",
        "has": "have",
        "was": "were",
        "does": "do",
        "goes": "go",
        "can": "can",
        "could": "could",
        "would": "would",
        "will": "will",
        "flies": "fly",
        "carries": "carry",
        "tries": "try",
        "dries": "dry",
        "comes": "come",
        "lives": "live",
        "takes": "take",
        "makes": "make",
        "gives": "give",
        "moves": "move",
        "leaves": "leave",
        "hides": "hide",
        "breathes": "breathe",
        "drives": "drive",
        "floats": "float",
        "catches": "catch",
        "teaches": "teach",
        "stitches": "stitch",
        "washes": "wash",
        "brushes": "brush",
        "died": "died",
        "may": "may",
        "needs": "need",
        "belongs": "belong",
        "exists": "exist",
    }
    if word in fixed:
        word = fixed[word]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return f"{word} {rest}".strip()


def is_request(question: str) -> bool:
    """Whether a question asks for an action rather than for a thing's name."""
    return (
        re.match(r"(in this video, |in this clip, )?(which|who|what|where|guess|tell)\b", question.lower())
        is None
    )


def answer_found(question: str, names: list[str]) -> str:
    """The answer that names what was found, in the form that fits the question.

    Args:
        question: Its form decides the answer's.
        names: Plain names of the objects that are meant.
    """
    if len(names) == 1:
        said = f"the {names[0]}"
        start = ("Here are", "They are") if is_plural(names[0]) else ("Here is", "It is")
        start = start[0] if is_request(question) else start[1]
    else:
        start = "Here are" if is_request(question) else "They are"
        if len(set(names)) == 1:
            number = NUMBERS[len(names)] if len(names) < len(NUMBERS) else "many"
            said = f"the {number} {plural(names[0])}"
        elif len(names) == 2:
            said = f"the {names[0]} and the {names[1]}"
        else:
            said = "these things"
    return f"{start} {said}. {SEG}"


def answer_absent(noun: str = "") -> str:
    """The answer when nothing in the video is meant; `noun` is what was asked for by name, if it was."""
    if not noun or len(noun) > 40:
        return NOTHING
    return f"There {'are' if is_plural(noun) else 'is'} no {noun} in the video."


def say(rng: np.random.Generator, patterns: tuple[str, ...], **parts: str) -> str:
    """Fill a drawn pattern in; a sentence's first letter is a capital unless the pattern starts low."""
    pattern = pick(rng, patterns)
    if "np" in parts:
        parts["Np"] = parts["np"][:1].upper() + parts["np"][1:]
    text = pattern.format(**parts)
    if text[0].isupper() and rng.random() < 0.05 and " in th" not in text:
        opening = pick(rng, ("In this video, ", "In this clip, ", "Look closely. "))
        text = opening + (text if opening.endswith(". ") else text[0].lower() + text[1:])
    if rng.random() < 0.06:
        text = text.lower()
    if rng.random() < 0.06:
        text = text.rstrip("?.")
    return text
