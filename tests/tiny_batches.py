"""What batches are made of, in miniature: a tokenizer that can be read back, samples, data sets on disk."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import yaml

from dataset.mixed_sample import Draw, MixedSample, MixedTurn
from tests import tiny_image_sets as tiny

SEG = 511
CONTROL = ("<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
FIRST_CHARACTER = 10
IMAGE = "<image>"


class LetterTokenizer:
    """A token for each character and for each control word."""

    bos_token_id = 1
    all_special_tokens = CONTROL

    def __init__(self):
        self.ids = {**{word: number for number, word in enumerate(CONTROL)}, "[SEG]": SEG}

    def __call__(self, text: str) -> SimpleNamespace:
        pieces = re.split(f"({'|'.join(map(re.escape, self.ids))})", text)
        ids = [self.bos_token_id]
        for piece in pieces:
            letters = [FIRST_CHARACTER + ord(letter) % 450 for letter in piece]
            ids += [self.ids[piece]] if piece in self.ids else letters
        return SimpleNamespace(input_ids=ids)

    def convert_tokens_to_ids(self, token: str) -> int:
        return self.ids[token]

    def get_added_vocab(self) -> dict[str, int]:
        return {"[SEG]": SEG}

    def text(self, ids) -> str:
        """What was tokenized; BOS is left out."""
        words = {number: word for word, number in self.ids.items()} | {-200: IMAGE, self.bos_token_id: ""}
        return "".join(
            words.get(number) or chr(max(0, number - FIRST_CHARACTER))
            for number in map(int, ids)
            if words.get(number) != ""
        )


def frame(value: int, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    """uint8 [H, W, 3] with an edge, so that resizing tells."""
    picture = np.full((*size, 3), value, np.uint8)
    picture[: size[0] // 2, :, 0] = 255 - value
    return picture


def turn(
    text: str, reply: str = "mask", words: str = "", is_sentence=None, kind: str = "referring"
) -> MixedTurn:
    return MixedTurn(text, reply, words, is_sentence, kind)


def mixed(
    turns,
    references,
    targets=(),
    masks=None,
    *,
    source: str = "mevis",
    places: tuple[int, ...] = (),
    index: int = 0,
) -> MixedSample:
    """A sample as a mixture would draw it; its frame numbers mean nothing."""
    segmented = sum(item.reply != "words" for item in turns)
    if masks is None:
        shape = (len(targets), segmented, *targets[0].shape[:2]) if targets else (0, 0, 0, 0)
        masks = np.zeros(shape, bool)
    draw = Draw(
        index=index,
        group="group",
        source=source,
        split="train",
        clip=3,
        name="a/clip",
        expressions=tuple(range(len(turns))),
        turns=tuple(turns),
        references=tuple(range(len(references))),
        targets=tuple(range(len(targets))),
        target_places=places,
    )
    return MixedSample(draw, tuple(references), tuple(targets), masks)


RECIPE = {
    "balanced": True,
    "turns": 2,
    "frames": {"rule": "stretches", "fewest": 3, "most": 5},
    "negatives": 0.2,
    "groups": {
        "refer_seg": {"weight": 1, "sources": {"refcoco": 1}},
        "talk": {"weight": 1, "sources": {"llava_instruct": 1}},
        "rvos": {"weight": 3, "sources": {"mevis": 1}},
    },
}
ANCHORS = {
    "balanced": False,
    "frames": {"rule": "anchor", "fewest": 6, "most": 6, "targets": 2},
    "negatives": 0,
}


def write_data(root: Path, videos: int = 4) -> Path:
    """All data sets of `RECIPE` in one folder."""
    tiny.write_refer(root / "refer_seg")
    tiny.write_llava(root)
    tiny.write_mevis(root / "mevis", {f"v{number}": 9 + number for number in range(videos)})
    return root


def write_recipe(folder: Path, **changes: object) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
    return str(path)
