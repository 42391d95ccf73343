"""Writes what is asked about a scene: referring, reasoning and absent turns, each with its one right answer.

    lexicon = default_lexicon()
    turns = ask(scene, np.random.default_rng(0), lexicon)

Every question is true of exactly the objects in `Turn.object_ids` and of no other in the scene. Answers
end in "[SEG]" when something is found and hold none when nothing is.
"""

import numpy as np

from dataset.sample import Turn
from dataset.synthetic import questions_absent as absent
from dataset.synthetic import questions_reasoning as reasoning
from dataset.synthetic import questions_referring as referring
from dataset.synthetic import questions_wording as wording
from dataset.synthetic.lexicon import Lexicon, default_lexicon
from dataset.synthetic.questions_view import View, meant
from dataset.synthetic.scene import Scene

SHARES = {"referring": 0.4, "reasoning": 0.35, "absent": 0.25}
ASPECTS = {
    "referring": {"name": 5, "synonym": 1, "kind": 3, "compound": 3, "colour": 3, "size": 2, "position": 4,
                  "relation": 3, "motion": 3, "order": 3, "several": 2},
    "reasoning": {"fact": 10, "riddle": 3, "comparison": 3, "next": 3, "several": 1.5},
    "absent": {"name": 6, "mismatch": 4, "relation": 1, "fact": 5, "riddle": 2},
}  # fmt: skip
TRIES = 24
LONGEST = 200  # characters
REPEATS = 0.15  # chance that a second question about the same matter is kept
WHERE = (
    "To find {np}, which percentage mark of the video should I check?",
    "At which percentage of the video is {np} best seen?",
    "Where in time should I look for {np}?",
)  # fmt: skip


def ask(
    scene: Scene, rng: np.random.Generator, lexicon: Lexicon | None = None, num_turns: int = 8
) -> list[Turn]:
    """Questions about a scene, with their answers.

    Args:
        scene: What is in the video. Scenes with held-out names may be asked for held-out absent things too;
            all others never mention a held-out name.
        rng: The only source of chance.
        lexicon: What words mean; the package's own when None.
        num_turns: How many to try for; fewer come back if the scene gives no more that are unambiguous.

    Returns:
        Turns with different questions; about 40 % referring, 35 % reasoning and 25 % absent over many scenes.
    """
    view = View(scene, lexicon or default_lexicon())
    kinds = list(SHARES)
    shares = np.array(list(SHARES.values()))
    turns: dict[str, Turn] = {}
    if not scene.objects:
        return []
    for _ in range(num_turns):
        kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        weights = np.array(list(ASPECTS[kind].values()), float)
        turn = None
        for number in range(TRIES):
            if number % 4 == 0:  # several targets for one aspect, so that rare aspects get their share
                aspect = list(ASPECTS[kind])[int(rng.choice(len(weights), p=weights / weights.sum()))]
            turn = _draw(view, rng, kind, aspect)
            if turn is None or turn.question.lower() in turns or len(turn.question) > LONGEST:
                continue
            said_so = any(_same_matter(turn, other) for other in turns.values())
            if not said_so or rng.random() < REPEATS:
                turns[turn.question.lower()] = turn
                break
    return list(turns.values())


def _same_matter(turn: Turn, other: Turn) -> bool:
    """Whether two turns ask for the same thing by the same aspect, in other words perhaps."""
    same = (turn.kind, turn.aspect, turn.object_ids) == (other.kind, other.aspect, other.object_ids)
    return same and turn.kind != "absent"


def _draw(view: View, rng: np.random.Generator, kind: str, aspect: str) -> Turn | None:
    """One turn of a kind and aspect, or None if the draw came to nothing."""
    if kind == "absent":
        missing = getattr(absent, aspect)(view, rng)
        if missing is None:
            return None
        return Turn(missing.question, wording.answer_absent(missing.noun), "absent", missing.aspect)
    if kind == "referring":
        claim = referring.refer_all(view, rng) if aspect == "several" else referring.refer(view, rng, aspect)
    else:
        draw = {"fact": reasoning.fact, "riddle": reasoning.riddle, "comparison": reasoning.comparison,
                "next": reasoning.what_next, "several": reasoning.facts_all}[aspect]  # fmt: skip
        claim = draw(view, rng)
    if claim is None:
        return None
    names = [view.objects[number].name for number in claim.object_ids]
    ids = tuple(view.objects[number].id for number in claim.object_ids)
    return Turn(claim.question, wording.answer_found(claim.question, names), kind, claim.aspect, ids)


def ask_where(
    scene: Scene, rng: np.random.Generator, lexicon: Lexicon | None = None, step: int = 10
) -> list[Turn]:
    """Questions about when a thing is best seen, for the frame sampler.

    Args:
        scene: What is in the video.
        rng: The only source of chance.
        lexicon: What words mean; the package's own when None.
        step: The answer's precision in per cent.

    Returns:
        One turn for each object that its name picks out; the answer is "40%", the middle of its longest
        visible stretch. Kind "referring", aspect "time".
    """
    view = View(scene, lexicon or default_lexicon())
    turns = []
    for number, thing in enumerate(view.objects):
        name = thing.phrase if thing.parts else view.concepts[number].name
        if meant(view.named(view.concepts[number].name)) != (number,) or not view.may_say(thing.name):
            continue
        best, start = (0, 0), None
        for t, seen in enumerate([*thing.visible.tolist(), False]):
            if seen and start is None:
                start = t
            elif not seen and start is not None:
                best, start = max(best, (start, t), key=lambda span: span[1] - span[0]), None
        middle = (best[0] + best[1] - 1) / 2 / max(1, scene.num_frames - 1)
        percent = int(round(100 * middle / step) * step)
        question = wording.pick(rng, WHERE).format(np=f"the {name}")
        turns.append(Turn(question, f"{percent}%", "referring", "time", (thing.id,)))
    return turns
