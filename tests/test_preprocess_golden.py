"""Frame indices, pixels, prompts and labels against the references' (golden folders ``preprocess``)."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import re
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dataset.balanced_draws import balanced_draws
from model.clip_images import ClipImages
from model.sam import Sam, SamSegmenter
from visa import question_wording as wording
from visa.conversations import LLAVA_V1, PHI3_INSTRUCT, ChatFormat, collate, encode
from visa.sampling.percent import frame_at, mean_percent, percent_question
from visa.sampling.references import reference_frames
from visa.sampling.sparse_dense import dense_positions, sparse_indices

OWN = Path(__file__).parent / "golden"
FORMATS = {"visa": LLAVA_V1, "videolisa": PHI3_INSTRUCT}


def read(root: Path, system: str, name: str) -> dict:
    path = root / system / "preprocess" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


# Frame indices


def test_reference_frames_golden(golden_root):
    rows = read(golden_root, "visa", "reference_frames")["rows"]
    assert rows
    for row in rows:
        frames = reference_frames("strided", row["length"], row["target"], row["max_image_token"] - 1)
        assert list(frames) == row["references"], row
        assert len(frames) + 1 == row["images_clip"]


def test_sparse_and_dense_frames_golden(golden_root):
    golden = read(golden_root, "videolisa", "frame_indices")
    assert golden["sparse"]
    for row in golden["sparse"]:
        assert list(sparse_indices(row["total"], row["num_frames_sparse"])) == row["indices"], row
    assert golden["dense"]
    for row in golden["dense"]:
        positions = dense_positions(row["num_frames_sparse"], row["num_frames_dense"])
        assert list(positions) == row["indices"], row


def test_target_frame_golden(golden_root):
    golden = read(golden_root, "visa", "target_frame")
    assert percent_question(golden["question_for_exp"]) == golden["question"]
    assert golden["percent"]
    for row in golden["percent"]:
        assert mean_percent(row["answers"]) == pytest.approx(row["tp"], abs=1e-15), row
    assert golden["frames"]
    for row in golden["frames"]:
        assert frame_at(row["length"], row["tp"]) == row["frame"], row


def test_balanced_draws_golden(golden_root):
    rows = read(golden_root, "visa", "random_list")
    assert rows
    for row in rows.values():
        assert balanced_draws(row["values"], row["probabilities"], row["length"]) == row["out"]


# Pixels


def sha(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


class Pictures:
    """The images of one system: what was made of them, by name and kind."""

    def __init__(self, root: Path, system: str):
        self.golden = read(root, system, "images")
        self.entries = {entry["name"]: entry for entry in self.golden["images"]}
        beside = (root / system / "inputs.py", OWN / system / "inputs.py")
        path = next(path for path in beside if path.is_file())
        spec = importlib.util.spec_from_file_location(f"{system}_inputs", path)
        self.inputs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.inputs)
        with np.load(root / system / "preprocess" / "images.npz") as stored:
            self.arrays = dict(stored)

    def frame(self, name: str) -> np.ndarray:
        """uint8 [H, W, 3]."""
        entry = self.entries[self.entries[name].get("source", name)]
        frame = self.inputs.image_uint8(entry["seed"], entry["height"], entry["width"])
        assert sha(frame) == entry["image_sha"]
        return frame

    def stored(self, name: str) -> dict[str, np.ndarray]:
        """What is stored of an image, by kind, and not of one whose name goes on from there."""
        longer = [other for other in self.entries if other.startswith(f"{name}_")]
        return {
            key.removeprefix(f"{name}_"): array
            for key, array in self.arrays.items()
            if key.startswith(f"{name}_") and not any(key.startswith(f"{other}_") for other in longer)
        }


def every_nth(array: np.ndarray, kind: str) -> np.ndarray:
    """[C, H, W], thinned in both directions as the kind's ending ``_sN`` says."""
    match = re.search(r"_s(\d+)$", kind)
    step = int(match[1]) if match else 1
    return array[:, ::step, ::step]


@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_clip_images_golden(golden_root, system):
    pictures = Pictures(golden_root, system)
    assert pictures.entries
    for name, entry in pictures.entries.items():
        clip = ClipImages(pictures.golden["clip"]["size"]["shortest_edge"], pad_square="background" in entry)
        frame = pictures.frame(name)
        crop, image = clip.crops(frame[None])[0].numpy(), clip(frame[None])[0].numpy()
        assert sha(crop) == entry["clip_crop_sha"], name
        if "background" in entry:
            assert list(clip.padding_colour) == entry["background"]
        checked = 0
        for kind, array in pictures.stored(name).items():
            if kind.startswith("clip_input"):
                assert np.array_equal(every_nth(image, kind), array), (name, kind)
            elif "crop_u8" in kind:
                assert np.array_equal(every_nth(crop, kind), array), (name, kind)
            checked += "clip" in kind or "crop" in kind
        assert checked


class Listener(nn.Module):
    """Stands in for SAM's image encoder and keeps what it hears."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        self.heard = images
        return images.new_zeros(len(images), 256, 1, 1)


def test_sam_images_golden(golden_root):
    pictures = Pictures(golden_root, "visa")
    checked = 0
    for name, entry in pictures.entries.items():
        if "resize" not in entry:
            continue
        segmenter = SamSegmenter(Sam(Listener()))
        features = segmenter.encode(pictures.frame(name)[None])
        heard = segmenter.sam.image_encoder.heard[0].detach()
        height, width = features.input_size
        assert [height, width] == entry["resize"]
        assert list(heard.shape) == entry["sam_input_shape"]
        total, absolute = heard.double().sum().item(), heard.double().abs().sum().item()
        assert (total, absolute) == pytest.approx(
            (entry["sam_input_sum"], entry["sam_input_abs_sum"]), rel=1e-9
        )
        sam = segmenter.sam
        pixels = (
            heard[:, :height, :width].double() * sam.pixel_std.double() + sam.pixel_mean.double()
        ).round()
        resized = pixels.permute(1, 2, 0).to(torch.uint8).numpy()
        assert sha(resized) == entry["sam_resized_sha"]
        for kind, array in pictures.stored(name).items():
            if kind.startswith("sam_input"):
                assert np.array_equal(every_nth(heard.numpy(), kind), array), (name, kind)
                checked += 1
            elif kind.startswith("sam_resized"):
                assert np.array_equal(every_nth(resized.transpose(2, 0, 1), kind).transpose(1, 2, 0), array)
                checked += 1
    assert checked


def test_sam_sizes_golden(golden_root):
    sizes = read(golden_root, "visa", "images")["resize_longest_side_1024"]
    segmenter = SamSegmenter(Sam(Listener()))
    assert sizes
    for size, expected in sizes.items():
        height, width = map(int, size.split("x"))
        assert list(segmenter.input_size((height, width))) == expected


# Words


def blank(sentences: list[str]) -> tuple[str, ...]:
    return tuple(re.sub(r"\{\w+\}", "{}", sentence) for sentence in sentences)


def test_visa_wording_golden(golden_root):
    golden = read(golden_root, "visa", "prompts")
    for name in ("short", "long", "explanatory", "answers"):
        assert blank(golden[name]) == getattr(wording.VISA, name)
    for count, text in golden["convert2imagesplit"].items():
        assert wording.with_reference_frames("x <video> y", int(count)) == text
    asked = {" ".join(expression.lower().split()): expression for expression in golden["expressions"]}
    assert golden["rows"]
    for row in golden["rows"]:
        references = reference_frames("strided", row["length"], row["target"], 11)
        question = wording.visa_question(asked[row["sentence"]])
        question = wording.with_reference_frames(question, len(references))
        assert question == row["question"]
        assert LLAVA_V1.write([(question, wording.VISA.forced_answer)]).text == row["conversation"]


def test_videolisa_wording_golden(golden_root):
    golden = read(golden_root, "videolisa", "prompts")
    for name in ("short", "long", "answers"):
        assert blank(golden[name]) == getattr(wording.VIDEOLISA, name)
    suffixes = tuple(sentence.removeprefix("<image>\n{} ") for sentence in wording.VIDEOLISA.explanatory)
    assert suffixes == tuple(golden["explanatory"])
    assert golden["evaluation"]
    for text in golden["evaluation"]:
        ((question, answer),) = turns_of(text, PHI3_INSTRUCT)
        expression = re.fullmatch(r"<image>\nPlease segment the (.*) in this image\.", question)[1]
        assert wording.videolisa_question(expression.upper()) == question
        assert answer == wording.VIDEOLISA.forced_answer
        assert PHI3_INSTRUCT.write([(question, answer)]).text == text


class ToyTokenizer:
    """The tokenizer that the golden files document."""

    bos_token_id = 1

    def __init__(self, system: str):
        if system == "visa":
            self.control = {"</s>": 2, "[SEG]": 511}
            self.first, self.count = 3, 500
        else:
            self.control = {"<|system|>": 505, "<|user|>": 506, "<|assistant|>": 507, "<|end|>": 508}
            self.control |= {"[SEG]": 511, "\n": 13}
            self.first, self.count = 20, 480

    def __call__(self, text: str) -> SimpleNamespace:
        ids = [self.bos_token_id]
        for piece in re.split(f"({'|'.join(map(re.escape, self.control))})", text):
            if piece in self.control:
                ids.append(self.control[piece])
            elif piece:
                ids += [self.first + zlib.crc32(word.encode()) % self.count for word in piece.split(" ")]
        return SimpleNamespace(input_ids=ids)


def turns_of(text: str, chat: ChatFormat) -> list[tuple[str, str]]:
    """Turns of a written conversation."""
    assert text.startswith(chat.opening)
    turns = []
    for turn in text.removeprefix(chat.opening).split(chat.before_question)[1:]:
        question, answer = turn.split(chat.before_answer)
        turns.append((question, answer.removeprefix(chat.space).removesuffix(chat.end)))
    return turns


@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_collate_golden(golden_root, system):
    golden = read(golden_root, system, "collate")
    batches = [golden] if "conversations" in golden else []
    batches += [value for value in golden.values() if isinstance(value, dict) and "conversations" in value]
    assert batches
    for batch in batches:
        encoded = []
        for text in batch["conversations"]:
            conversation = FORMATS[system].write(turns_of(text, FORMATS[system]))
            assert conversation.text == text
            encoded.append(encode(conversation, ToyTokenizer(system)))
        offset = batch["offset"]
        videos = [encoded[start:stop] for start, stop in itertools.pairwise(offset)]
        made = collate(videos, pad_id=0)
        assert made.input_ids.tolist() == batch["input_ids"]
        assert made.labels.tolist() == batch["labels"]
        assert made.attention_mask.tolist() == [[bool(x) for x in row] for row in batch["attention_masks"]]
        assert list(made.offsets) == offset
