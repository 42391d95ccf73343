"""The words in which VISA and VideoLISA are asked, and the words of their answers.

Both networks were trained on a handful of fixed sentences around what a person looks for, so the published
figures hold for these sentences only. Sources: VISA (arXiv 2407.11325) and VideoLISA (arXiv 2409.19603), the
lists of their released code. ``{}`` stands for the expression; ``<video>`` and ``<image>`` for frames.

What a person typed goes through `clean_question` on its way in, so that no control token comes out of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visa.questions import clean_question

_VISA_FRAMES = "Reference Video: <video> \nTarget Image: <image> \n"
_ONE_IMAGE = "<image>\n"


@dataclass(frozen=True)
class Wording:
    """One system's sentences.

    short: for names and noun phrases. long: for whole sentences. explanatory: where the answer gives reasons.
    answers: each with one [SEG]. forced_answer: the one that evaluation puts into the model's mouth.
    """

    short: tuple[str, ...]
    long: tuple[str, ...]
    explanatory: tuple[str, ...]
    answers: tuple[str, ...]
    forced_answer: str

    def training_question(
        self,
        expression: str,
        rng: np.random.Generator,
        *,
        is_sentence: bool | None = None,
        explain: bool = False,
    ) -> str:
        """The expression, its case kept, in a sentence drawn by chance.

        Args:
            expression: what to find, in words.
            rng: draws the sentence.
            is_sentence: for datasets that say so (ReasonSeg); None goes by a question mark at the end. Names
                of classes and RefCOCO's phrases are no sentences, and are given in lower case.
            explain: ask for reasons too.

        Raises:
            ValueError: the expression is empty, or too long.
        """
        expression = clean_question(expression)
        long = expression.endswith("?") if is_sentence is None else is_sentence
        forms = self.explanatory if explain else self.long if long else self.short
        return forms[rng.integers(len(forms))].format(expression)


_ANSWERS = ("It is [SEG].", "Sure, [SEG].", "Sure, it is [SEG].", "Sure, the segmentation result is [SEG].")

VISA = Wording(
    short=tuple(
        _VISA_FRAMES + text
        for text in (
            "What is {} in the Reference Video? Please respond with segmentation mask in the Target Image.",
            "What is {} in the Reference Video? Please output segmentation mask in the Target Image.",
            "Please find {} in the Reference Video and segment it in the Target Image.",
        )
    ),
    long=tuple(
        _VISA_FRAMES + "{} Please find it in the Reference Video and " + text
        for text in (
            "respond with segmentation mask in the Target Image.",
            "output segmentation mask in the Target Image.",
        )
    ),
    explanatory=tuple(
        _VISA_FRAMES + text
        for text in (
            "{}Please output segmentation mask in the Target Image and explain why.",  # no space: as trained
            "{} Please output segmentation mask in the Target Image and explain the reason.",
            "{} Please output segmentation mask in the Target Image and give some explanation.",
        )
    ),
    answers=_ANSWERS,
    forced_answer=_ANSWERS[0],
)

_LAST_PICTURE = "The last of these frames of a video is the target frame. "
# Ours, for backbones that are shown frames without a place for each in the words.
BACKBONE = Wording(
    short=tuple(
        _LAST_PICTURE + text
        for text in (
            "Where is {} in the target frame? Please answer with its segmentation mask.",
            "Please find {} in the video and segment it in the target frame.",
        )
    ),
    long=tuple(
        _LAST_PICTURE + "{} " + text
        for text in (
            "Please find it in the video and answer with its segmentation mask in the target frame.",
            "Please segment it in the target frame.",
        )
    ),
    explanatory=tuple(
        _LAST_PICTURE + "{} Please segment it in the target frame and " + text
        for text in ("explain why.", "give your reasons.")
    ),
    answers=_ANSWERS,
    forced_answer=_ANSWERS[0],
)

VIDEOLISA = Wording(
    short=tuple(
        _ONE_IMAGE + text
        for text in (
            "Can you segment the {} in this image?",
            "Please segment the {} in this image.",
            "What is {} in this image? Please respond with segmentation mask.",
            "What is {} in this image? Please output segmentation mask.",
        )
    ),
    long=(
        _ONE_IMAGE + "{} Please respond with segmentation mask.",
        _ONE_IMAGE + "{} Please output segmentation mask.",
    ),
    explanatory=tuple(
        _ONE_IMAGE + "{} Please output segmentation mask and " + text
        for text in ("explain why.", "explain the reason.", "give some explanation.")
    ),
    answers=(*_ANSWERS, "[SEG]."),
    forced_answer=_ANSWERS[1],
)

# VideoLISA's benchmarks are asked in words of their own. Of each pair the first is for phrases (in lower
# case), the second for whole sentences. "video" is MeViS, Ref-YouTube-VOS and Ref-DAVIS, which know phrases
# only; a whole sentence is asked there as in training. Answers to "image" are forced as "[SEG].".
_VIDEOLISA_BENCHMARKS = {
    "video": (VIDEOLISA.short[1], VIDEOLISA.long[1]),
    "reason_vos": (
        _ONE_IMAGE + "Please segment the {} in this scene.",
        _ONE_IMAGE + "{}. Please output the segmentation masks.",
    ),
    "image": (
        _ONE_IMAGE + " What is {} in this video? Please output segmentation mask.",
        _ONE_IMAGE + " {} Please output segmentation mask.",
    ),
}


def visa_question(expression: str) -> str:
    """What VISA is asked outside training: in lower case, with the first sentence of its list.

    Raises:
        ValueError: the expression is empty, or too long.
    """
    expression = clean_question(expression).lower()
    return (VISA.long if expression.endswith("?") else VISA.short)[0].format(expression)


def backbone_question(expression: str) -> str:
    """What a [SEG] system on another backbone is asked outside training: the first sentence of its list.

    Raises:
        ValueError: the expression is empty, or too long.
    """
    expression = clean_question(expression)
    return (BACKBONE.long if expression.endswith("?") else BACKBONE.short)[0].format(expression)


def videolisa_question(expression: str, benchmark: str = "video", is_sentence: bool | None = None) -> str:
    """What VideoLISA is asked outside training.

    Args:
        expression: what to find, in words.
        benchmark: ``"video"``, ``"reason_vos"`` or ``"image"``.
        is_sentence: for benchmarks that say so; None goes by a question mark at the end.

    Raises:
        ValueError: an unknown benchmark, or an expression that is empty or too long.
    """
    if benchmark not in _VIDEOLISA_BENCHMARKS:
        raise ValueError(f"benchmark must be one of {', '.join(_VIDEOLISA_BENCHMARKS)}, not {benchmark!r}")
    expression = clean_question(expression)
    phrase, sentence = _VIDEOLISA_BENCHMARKS[benchmark]
    if expression.endswith("?") if is_sentence is None else is_sentence:
        return sentence.format(expression)
    return phrase.format(expression.lower())


def with_reference_frames(question: str, num_references: int) -> str:
    """A VISA question with one placeholder for each reference frame in place of ``<video>``.

    Raises:
        ValueError: no reference frame.
    """
    if num_references < 1:
        raise ValueError(
            f"VISA reads a reference frame at least, the target if no other, not {num_references}"
        )
    frames = ", ".join(f"({number})<image>" for number in range(num_references))
    return question.replace("<video>", frames)
