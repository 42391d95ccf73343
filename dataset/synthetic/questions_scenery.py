"""Where things are, in words that no picture of ours can deny: "on the dry grass", "beside the old wall".

People name the surroundings when they point at something. Our backgrounds have no names, so such words are
mentioned at random, for things that are there and for things that are not: a model must learn that
surroundings need not be recognised for the thing itself to be found.
"""

import numpy as np

from dataset.synthetic import questions_wording as wording

SHARE = 0.3  # of phrases without another clause behind the noun

GROUNDS = (
    "grass lawn sand beach snow ice ground floor road street pavement sidewalk track trail path field meadow "
    "hill slope rocks stones gravel mud leaves carpet stage platform bridge pitch runway roof steps deck"
).split()
WATERS = "water river lake pond sea pool waves stream harbour rain fog dust".split()
BESIDES = (
    "wall fence tree trees bushes hedge house building gate door window pillar railing lamp-post shore kerb "
    "barn cliff forest crowd shop sign curtain table shelf corner"
).split()
WITHINS = (
    "garden park yard room kitchen hall forest valley city shade sunshine dark distance open countryside "
    "market stadium arena zoo"
).split()
LOOKS = (
    "wooden dry wet old stone dusty busy empty long narrow wide dark muddy brick rocky sandy icy steep "
    "low high quiet"
).split()
DOINGS = ("standing", "walking", "sitting", "running", "moving", "resting", "waiting", "coming", "lying")


def mention(rng: np.random.Generator, doing: bool = False) -> str:
    """A phrase of place: a preposition, the article, at times an adjective, and a noun.

    Args:
        doing: whether a word of posture or gait may stand before it, as of animals, people and vehicles.
    """
    places = (
        (("on", "along", "over", "across"), GROUNDS),
        (("in", "by", "near", "on"), WATERS),
        (("by", "beside", "near", "behind", "in front of", "next to", "against"), BESIDES),
        (("in", "in"), WITHINS),
    )
    shares = np.array([0.4, 0.12, 0.33, 0.15])
    prepositions, nouns = places[int(rng.choice(len(places), p=shares))]
    noun = wording.pick(rng, nouns)
    look = f"{wording.pick(rng, LOOKS)} " if nouns is not WITHINS and rng.random() < 0.35 else ""
    phrase = f"{wording.pick(rng, prepositions)} the {look}{noun}"
    return f"{wording.pick(rng, DOINGS)} {phrase}" if doing and rng.random() < 0.5 else phrase
