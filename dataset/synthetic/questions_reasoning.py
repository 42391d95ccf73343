"""Questions whose answer must be inferred: uses, abilities, habits, riddles, comparisons, what comes next.

The words of the thing that is meant never occur in its question.
"""

import re

import numpy as np

from dataset.synthetic import questions_wording as wording
from dataset.synthetic.lexicon import Fact
from dataset.synthetic.lexicon_gloss import leaks
from dataset.synthetic.questions_modifiers import EARLY
from dataset.synthetic.questions_referring import Claim
from dataset.synthetic.questions_view import View, meant

# (measure, 1 for most and -1 for least, least ratio to the next, questions about {noun})
COMPARISONS = (
    (
        "speed",
        1,
        1.6,
        (
            "Which {noun} would win a race?",
            "Which {noun} is the fastest in real life?",
            "which one could outrun the others?",
            "Which one would arrive first if all of them set out together?",
            "Who or what would be first at the finish?",
            "Find the one that can reach the highest speed.",
            "Show me the quickest {noun} in the real world.",
            "Which {noun} is most likely to come first in a race?",
            "the {noun} that nobody else here could catch up with",
        ),
    ),
    (
        "speed",
        -1,
        1.6,
        (
            "Which {noun} would lose a race?",
            "Which {noun} is the slowest in real life?",
            "Which one would arrive last?",
            "Find the one that every other here could overtake.",
            "Which one is never in a hurry?",
            "the {noun} that would come last in a race",
        ),
    ),
    (
        "weight",
        1,
        2.2,
        (
            "Which {noun} weighs the most?",
            "Which {noun} would be the hardest to lift?",
            "What is the heaviest {noun} here in reality?",
            "Which one could you not carry?",
            "Which {noun} would tip the scales?",
            "Find the {noun} that weighs most in real life.",
            "Segment the heaviest {noun}.",
            "Which one would break a thin board if it were put on it?",
        ),
    ),
    (
        "weight",
        -1,
        2.2,
        (
            "Which {noun} weighs the least?",
            "Which {noun} would be the easiest to lift?",
            "What is the lightest {noun} here in reality?",
            "Find the {noun} that weighs least in real life.",
            "Which one would the wind carry off first?",
            "Segment the lightest {noun}.",
        ),
    ),
    (
        "length",
        1,
        2.0,
        (
            "Which {noun} is the largest in real life?",
            "Which one would need the most room?",
            "Which {noun} is really the biggest?",
            "What would take up most space in reality?",
            "Find the {noun} that is largest in the real world.",
            "Which one would tower over the others?",
        ),
    ),
    (
        "length",
        -1,
        2.0,
        (
            "Which {noun} is the smallest in real life?",
            "Which one would fit into the smallest box?",
            "Which {noun} is really the smallest?",
            "Find the {noun} that is tiniest in the real world.",
            "Which one would be the easiest to hide?",
            "Which one could you most easily lose?",
        ),
    ),
)
NEXT = (
    "Which {noun} will leave the picture next?",
    "Which one is about to leave the view?",
    "What will be out of sight first if all goes on like this?",
    "Which {noun} will be gone first if it keeps going?",
    "Find the one that will soon reach the edge of the picture.",
    "If the video went on, what would disappear first?",
    "Which one is on its way out?",
)
EVENTS = {
    "leaves": (
        "Which {noun} leaves first?",
        "Which one is the first to be gone?",
        "What disappears before everything else does?",
        "Which one has the shortest stay before it goes away?",
        "Which {noun} could not be seen any more by somebody who came late?",
    ),
    "enters": (
        "Which {noun} joins the others last?",
        "What is the latest arrival?",
        "Which one came too late to be seen at the start?",
        "Which {noun} is the newcomer?",
        "What shows up when all the others are already there?",
    ),
}
AIMS = (
    "I want to {do}. What do I need?",
    "What would you use to {do}?",
    "Which one helps to {do}?",
    "Somebody has to {do}. What should they take?",
    "What can be used to {do}?",
    "If you had to {do}, what would you take?",
    "Find something to {do} with.",
    "Which of these would you reach for to {do}?",
)
SINGULAR_ONLY = re.compile(
    r"\b(it|its|itself)\b|\band \w+s\b|^(is|was) (not )?(an?|the)\b|^is \w+ and\b|^(may|was|is) .*\bone\b"
)
SUPPOSED = (
    "Which one do you think {vp}?",
    "Which {noun} probably {vp}?",
    "Guess which one {vp}.",
    "Which of them most likely {vp}?",
    "If something here {vp}, what is it?",
    "Tell me which one {vp}.",
)


def _spoken_kind(view: View, rng: np.random.Generator, target: int) -> str:
    """ "thing", "object", "one", or now and then a broader kind that does not give the target away."""
    known = view.concepts[target]
    kinds = [
        kind for kind in known.kinds if not leaks(kind, known.names) and view.may_say(kind) and len(kind) < 18
    ]
    if known.is_person and rng.random() < 0.5:
        return "person"
    if kinds and rng.random() < 0.35:
        return wording.pick(rng, kinds)
    return wording.pick(rng, ("thing", "object", "one") if not known.is_person else ("one", "person"))


def _gives_away(view: View, question: str, numbers: tuple[int, ...]) -> bool:
    """Whether a question holds a word of one of the things that it means."""
    return any(
        leaks(question, (name,))
        for number in numbers
        for name in (view.concepts[number].names[0], *view.objects[number].parts[:1])
    )


def _checked(view: View, question: str, numbers: tuple[int, ...], aspect: str) -> Claim | None:
    return None if _gives_away(view, question, numbers) else Claim(question, numbers, aspect)


def predicate(rng: np.random.Generator, phrase: str, noun: str, person: bool) -> str:
    """A question from the rest of a sentence such as "can fly" or "is used to cut things"."""
    aim = re.match(r"(?:is|are) used to (.*)", phrase)
    if aim and not person and rng.random() < 0.45:
        return wording.say(rng, AIMS, do=aim[1])
    if phrase.startswith("can ") and rng.random() < 0.3:
        modals = ("could ",) if phrase.startswith("can be ") else ("could ", "would be able to ")
        phrase = wording.pick(rng, modals) + phrase[4:]
    draw = rng.random()
    if person and draw < 0.45:
        return wording.say(rng, wording.WHO, vp=phrase)
    if draw < 0.6:
        return wording.say(rng, wording.QUESTIONS_THAT, noun=noun, vp=phrase)
    if draw < 0.68:
        return wording.say(rng, SUPPOSED, noun=noun, vp=phrase)
    if draw < 0.74:
        return f"something that {phrase}" if not person else f"somebody who {phrase}"
    return wording.say(rng, wording.REQUESTS_THAT, noun=noun, vp=phrase)


def pick_fact(rng: np.random.Generator, facts: list[Fact]) -> Fact:
    """One of some facts; what is true of half the world ("is alive") is drawn less often."""
    weights = np.array([0.25 if item.aspect == "nature" else 1.0 for item in facts])
    return facts[int(rng.choice(len(facts), p=weights / weights.sum()))]


def fact(view: View, rng: np.random.Generator) -> Claim | None:
    """What a thing can do, is for, likes, is made of, …: something that is true of no other."""
    target = int(rng.integers(len(view.objects)))
    clear = [item for item, truth in view.facts if truth[target] and meant(truth) == (target,)]
    if not clear:
        return None
    chosen = pick_fact(rng, clear)
    noun = _spoken_kind(view, rng, target)
    question = predicate(rng, wording.pick(rng, chosen.phrases), noun, view.concepts[target].is_person)
    return _checked(view, question, (target,), chosen.aspect)


def facts_all(view: View, rng: np.random.Generator) -> Claim | None:
    """A fact that holds for two to four of the things."""
    for index in rng.permutation(len(view.facts))[:100]:
        chosen, truth = view.facts[index]
        numbers = meant(truth)
        if numbers is None or not 2 <= len(numbers) <= 4 or len(numbers) == len(view.objects):
            continue
        phrase = wording.pick(rng, chosen.phrases)
        if SINGULAR_ONLY.search(phrase):
            continue
        many = wording.plural_verb(phrase)
        pattern = wording.pick(
            rng,
            (
                "Which ones {many}?",
                "Which {count} {many}?",
                "Find all that {many}.",
                "Segment everything that {phrase}.",
                "Which things {many}?",
                "Show me all the things that {many}.",
            ),
        )
        question = pattern.format(many=many, phrase=phrase, count=wording.NUMBERS[len(numbers)])
        return _checked(view, question, numbers, "several")
    return None


def riddle(view: View, rng: np.random.Generator) -> Claim | None:
    """The dictionary's description of a thing or of its kind."""
    target = int(rng.integers(len(view.objects)))
    known = view.concepts[target]
    options = [(text, None) for text in known.descriptions]
    for kind in known.kinds:
        wider = view.lexicon.concept(kind)
        if wider.synset in known.ancestors and kind not in ("animal", "person"):
            options += [(text, kind) for text in wider.descriptions]
    if not options:
        return None
    text, kind = wording.pick(rng, options)
    truth = view.described(view.lexicon.concept(kind) if kind else known, text)
    if not truth[target] or meant(truth) != (target,):
        return None
    question = describe(rng, text)
    return _checked(view, question, (target,), "description")


def describe(rng: np.random.Generator, text: str) -> str:
    """A question from an indefinite description such as "a large wading bird" or "someone who rides"."""
    if text.startswith("someone who ") and rng.random() < 0.5:
        return wording.say(rng, wording.WHO[:4], vp=text[len("someone who ") :])
    patterns = wording.QUESTIONS_IS if rng.random() < 0.55 else wording.REQUESTS_IS
    return wording.say(rng, patterns, np=text)


def comparison(view: View, rng: np.random.Generator) -> Claim | None:
    """Which would win a race, weighs most, is really the biggest."""
    what, sign, ratio, patterns = wording.pick(rng, COMPARISONS)
    among = list(range(len(view.objects)))
    noun = "one"
    if rng.random() < 0.4:
        target = int(rng.integers(len(among)))
        kinds = [kind for kind in view.concepts[target].kinds if view.may_say(kind)]
        if kinds:
            noun = wording.pick(rng, kinds)
            truth = view.named(noun)
            if None in truth:
                return None
            among = [number for number, value in enumerate(truth) if value]
            patterns = [pattern for pattern in patterns if "{noun}" in pattern]
    values = []
    for number, known in enumerate(view.concepts):
        value = known.measure(what)
        known_alone = value is not None and not view.objects[number].parts
        values.append(value**sign if known_alone else float("nan"))
    number = view.largest(values, among, ratio)
    if number is None:
        return None
    return _checked(view, wording.say(rng, patterns, noun=noun), (number,), "comparison")


def what_next(view: View, rng: np.random.Generator) -> Claim | None:
    """Which thing will leave next, from how it moves at the end; or which left first or came last."""
    noun = wording.pick(rng, ("one", "thing", "object"))
    if rng.random() < 0.5:
        number = next_to_leave(view)
        return (
            None if number is None else _checked(view, wording.say(rng, NEXT, noun=noun), (number,), "next")
        )
    number = first_event(view, event := wording.pick(rng, ("leaves", "enters")))
    if number is None:
        return None
    return _checked(view, wording.say(rng, EVENTS[event], noun=noun), (number,), "order")


def first_event(view: View, event: str) -> int | None:
    """Who leaves first or enters last, if that is clear."""
    length = view.scene.num_frames
    if event == "leaves":
        times = [
            -(thing.leaves if thing.leaves is not None else length + 3 * EARLY) for thing in view.objects
        ]
        possible = any(thing.leaves is not None for thing in view.objects)
    else:
        times = [thing.enters for thing in view.objects]
        possible = max(times) >= EARLY
    order = sorted(range(len(times)), key=lambda number: -times[number])
    if not possible or len(order) < 2 or times[order[0]] - times[order[1]] < EARLY:
        return None
    return order[0]


def next_to_leave(view: View) -> int | None:
    """The one that reaches an edge first if everything goes on as in the last frames; None if not clear."""
    waits = []
    for thing in view.objects:
        if thing.leaves is not None or not thing.visible[-1]:
            continue
        last = [t for t in range(len(thing.visible)) if thing.visible[t]][-8:]
        if len(last) < 4:
            return None
        start, end = thing.centres[last[0]], thing.centres[last[-1]]
        velocity = (end - start) / (last[-1] - last[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(
                velocity > 0, (1 - end) / velocity, np.where(velocity < 0, -end / velocity, np.inf)
            )
        waits.append((float(np.nanmin(steps)), thing.motion in ("left", "right", "up", "down"), thing.id))
    waits.sort()
    if not waits or not waits[0][1] or waits[0][0] > view.scene.num_frames:
        return None
    if len(waits) > 1 and waits[1][0] < 2 * waits[0][0] + 4:
        return None
    return next(number for number, thing in enumerate(view.objects) if thing.id == waits[0][2])
