"""VISA against numbers of the reference implementation (golden folder ``visa``; see its README).

A case says itself of which kind it is: tokens, sequence, train or inference. Names of arrays that end in _sN
hold every N-th element.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.chat_univi.events import merge_video
from model.chat_univi.merging import merge_stages
from model.chat_univi.visa import VisaModel
from model.mllm.splicing import IMAGE_TOKEN, SplicedBatch, embed
from model.sam.segmenter import FrameFeatures, SamSegmenter
from model.seg_head import as_prompt
from tests.tiny_visa import SAM, published_name, tiny_visa
from visa.training.published_objective import LossWeights, predicting_states, published_loss

OWN = Path(__file__).parent / "golden"
TOLERANCES = {
    "clip_patch": 3e-5,
    "image_tokens": 3e-5,
    "video_tokens": 3e-5,
    "inputs_embeds": 3e-5,
    "hidden_last": 5e-5,
    "logits": 5e-5,
    "seg_embeddings": 2e-5,
    "image_embeddings": 3e-5,
    "low_res": 3e-5,
    "iou": 3e-5,
    "post": 5e-5,
    "pred_masks": 5e-5,
    "loss": 5e-6,
    "ce_loss": 5e-6,
    "mask_bce_loss": 5e-6,
    "mask_dice_loss": 5e-6,
    "mask_loss": 5e-6,
    "grad": 2e-6,
}
GRADIENTS = {
    "grad_text_fc2": "model.text_hidden_fcs.0.2.weight",
    "grad_lm_head": "lm_head.weight",
    "grad_q_proj0": "model.layers.0.self_attn.q_proj.weight",
    "grad_hyper0": "model.visual_model.mask_decoder.output_hypernetworks_mlps.0.layers.2.weight",
}
TRAINED = ("language.", "seg_head.", "visual_model.mask_decoder.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    path = metafunc.config.getoption("--golden") / "visa" / "cases.json"
    cases = json.loads(path.read_text()) if path.is_file() else []
    for argument in metafunc.fixturenames:
        if argument.endswith("_case"):
            chosen = [case for case in cases if case["kind"] == argument.removesuffix("_case")]
            metafunc.parametrize(argument, chosen, ids=[case["name"] for case in chosen])


def _module(name: str, *folders: Path):
    path = next(folder / f"{name}.py" for folder in folders if (folder / f"{name}.py").is_file())
    spec = importlib.util.spec_from_file_location(f"golden_visa_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class GoldenFolder:
    """The arrays, the generators of inputs and weights, and the tiny model they belong to."""

    def __init__(self, root: Path):
        self.folder = root / "visa"
        own = OWN / "visa"
        self.inputs = _module("inputs", self.folder, own)
        self.fill = _module("fill", root, self.folder, OWN).fill
        config = self.folder / "config.json"
        self.config = json.loads((config if config.is_file() else own / "config.json").read_text())
        keys = self.folder / "keys.json"
        self.keys = json.loads((keys if keys.is_file() else own / "keys.json").read_text())

    def model(self) -> VisaModel:
        llama = {k: v for k, v in self.config["llama"].items() if v is not None}
        sam = {name: self.config["sam"][name] for name in SAM}
        seg = self.config["tokens"]["seg"]
        model = tiny_visa(
            llama,
            self.config["clip_vision"],
            sam,
            seg,
            select_layer=self.config["mm"]["mm_vision_select_layer"],
        )
        state = model.state_dict()
        filled = self.fill({published_name(name): value for name, value in state.items()})
        model.load_state_dict({name: filled[published_name(name)] for name in state}, strict=True)
        return model.eval()

    def stored(self, case: dict) -> Stored:
        with np.load(self.folder / f"{case['name']}.npz") as arrays:
            return Stored(dict(arrays))

    def frames(self, asked: dict) -> Tensor:
        frames = self.inputs.frames(asked["seed"], asked["count"], asked["size"])
        assert self.inputs.sha(frames) == asked["sha"]
        return torch.from_numpy(frames)

    def sam_frames(self, sample: dict) -> Tensor:
        asked, side = sample["sam"], self.config["sam"]["img_size"]
        frames = self.inputs.sam_frames(asked["seed"], asked.get("count", 1), side, tuple(sample["resize"]))
        if asked["zeros"]:
            return torch.zeros_like(torch.from_numpy(frames))
        assert self.inputs.sha(frames) == asked["sha"]
        return torch.from_numpy(frames)


class Stored:
    """A case's arrays; ``check`` compares and remembers, ``finish`` fails if one was never looked at."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays
        self.seen: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def named(self, beginning: str) -> str | None:
        """The array of this name or with a step behind it."""
        return next((n for n in self.arrays if re.fullmatch(rf"{beginning}(_[sc]\d+)?", n)), None)

    def take(self, name: str) -> Tensor:
        self.seen.add(name)
        return torch.from_numpy(self.arrays[name])

    def check(
        self, beginning: str, actual: Tensor, *, axis: int = 0, where: Tensor | None = None, like: str = ""
    ) -> None:
        """Compare with the array of this name; ``where`` (bool, along the first axes) leaves rows out."""
        name = self.named(beginning)
        if name is None:
            return
        expected = self.take(name)
        step = re.search(r"_[sc](\d+)$", name)
        step = int(step[1]) if step else 1

        def thinned(tensor: Tensor) -> Tensor:
            return tensor[(slice(None),) * axis + (slice(None, None, step),)] if step > 1 else tensor

        actual = thinned(actual)
        assert actual.shape == expected.shape, name
        if not expected.is_floating_point():
            assert torch.equal(actual.long(), expected.long()), name
            return
        difference = (actual.detach() - expected).abs()
        if where is not None:
            difference = difference[thinned(where)]
        worst = difference.max().item() if difference.numel() else 0.0
        tolerance = TOLERANCES[like or beginning]
        assert worst <= tolerance, f"{name}: off by {worst:.2e}, {tolerance:.0e} allowed"

    def finish(self) -> None:
        assert self.seen == set(self.arrays)


@pytest.fixture(scope="module")
def golden(golden_root: Path) -> GoldenFolder:
    return GoldenFolder(golden_root)


def test_key_list_golden(golden: GoldenFolder) -> None:
    ours = {published_name(name): list(value.shape) for name, value in golden.model().state_dict().items()}
    listed = {name: shape for name, shape in golden.keys.items() if not name.endswith("rotary_emb.inv_freq")}
    assert ours == listed


@torch.no_grad()
def test_tokens_golden(tokens_case: dict, golden: GoldenFolder) -> None:
    model, stored = golden.model(), golden.stored(tokens_case)
    images = golden.frames(tokens_case["frames"])
    patches = model.tower(images)
    stored.check("clip_patch_frame0", patches[0], like="clip_patch")
    merged = merge_stages(patches)
    stored.check("image_tokens", model.visual_tokens(images))
    for level, clusters in enumerate(merged.clusters):
        stored.check(f"image_cluster{level}", clusters)
        stored.check(f"video_frame_cluster{level}", clusters)
    if "video_events" in stored:
        events = stored.take("video_events")[0].long()
        if "degenerate" not in tokens_case:
            assert torch.equal(merge_video(patches).events, events)
        video = merge_video(patches, events=events)
        for number, event in enumerate(video.merged):
            for level, clusters in enumerate(event.clusters):
                stored.check(f"video_event{number}_cluster{level}", clusters)
        stored.check("video_tokens", model.video_tokens(images, events)[None])
    stored.finish()


def _batch(golden: GoldenFolder, model: VisaModel, conversations: list[dict], stored: Stored) -> SplicedBatch:
    """The conversations as one batch, padded as the reference's collate function pads."""

    def padded(name: str, value: int) -> Tensor:
        rows = [torch.tensor(conversation[name]) for conversation in conversations]
        return torch.nn.utils.rnn.pad_sequence(rows, True, value)

    ids, labels = padded("ids", golden.config["tokens"]["pad"]), padded("labels", -100)
    mask = ids != golden.config["tokens"]["pad"]
    for name, tensor in (("input_ids", ids), ("labels", labels), ("attention_mask", mask)):
        stored.check(name, tensor)
    counts = [[model.tokens_per_frame] * int((row == IMAGE_TOKEN).sum()) for row in ids]
    batch = model.splice(ids, counts, labels=labels, attention_mask=mask)
    stored.check("labels_out", batch.labels)
    stored.check("attention_mask_out", batch.attention_mask)
    stored.check("sequence_length", torch.tensor(batch.ids.shape[1]))
    return batch


def _fed(tokens: Tensor, conversation: dict) -> Tensor:
    """The visual tokens [n, D] of one conversation; a text-only one is given a frame and looks at none."""
    return tokens[: conversation["ids"].count(IMAGE_TOKEN)].flatten(0, 1)


@torch.no_grad()
def test_sequence_golden(sequence_case: dict, golden: GoldenFolder) -> None:
    model, stored = golden.model(), golden.stored(sequence_case)
    samples = sequence_case["samples"]
    batch = _batch(golden, model, samples, stored)
    tokens = [_fed(model.visual_tokens(golden.frames(sample["frames"])), sample) for sample in samples]
    stored.check("inputs_embeds", embed(batch, model.language.get_input_embeddings(), tokens))
    hidden = model(batch, tokens)
    stored.check("hidden_last", hidden, axis=1, where=batch.attention_mask)
    stored.check("logits", model.logits(hidden), axis=1, where=batch.attention_mask)
    states, answers = predicting_states(hidden, batch.labels)
    stored.check("logits_at_answers", model.logits(states), like="logits")
    loss = published_loss(model.logits(states), answers, [], [])
    stored.check("ce_loss", loss.text)
    stored.finish()


def _segment(
    golden: GoldenFolder, model: VisaModel, samples: list[dict], stored: Stored
) -> tuple[SplicedBatch, Tensor, list[Tensor]]:
    """Conversations to masks: the batch, its hidden states, and for each sample [N, H, W] mask logits."""
    conversations = [conversation for sample in samples for conversation in sample["convs"]]
    batch = _batch(golden, model, conversations, stored)
    tokens = []
    for sample in samples:
        encoded = model.visual_tokens(golden.frames(sample["frames"]))
        tokens += [_fed(encoded, conversation) for conversation in sample["convs"]]
    hidden = model(batch, tokens)
    stored.check("hidden_last", hidden, axis=1, where=batch.attention_mask)
    embeddings = list(model.seg_embeddings(hidden, batch))
    stored.check("seg_embeddings", torch.cat(embeddings))

    sam = SamSegmenter(model.visual_model)
    pictures = torch.cat([golden.sam_frames(sample) for sample in samples])
    encoded = model.visual_model.image_encoder(pictures)
    stored.check("image_embeddings", encoded, axis=1)
    masks = []
    for number, sample in enumerate(samples):
        mine = torch.cat([embeddings.pop(0) for _ in sample["convs"]])
        features = FrameFeatures(
            encoded[number : number + 1], (), tuple(sample["resize"]), tuple(sample["size"])
        )
        prediction = sam.decode(features, as_prompt(mine))
        stored.check(f"low_res_{number}", prediction.mask_logits[:, 0], like="low_res")
        stored.check(f"iou_{number}", prediction.iou, like="iou")
        masks.append(sam.to_frame(prediction.mask_logits, features)[:, 0])
        stored.check(f"post_{number}", masks[-1], like="post")
    return batch, hidden, masks


def test_train_golden(train_case: dict, golden: GoldenFolder) -> None:
    model, stored = golden.model().train(), golden.stored(train_case)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(TRAINED))
    samples = train_case["samples"]
    batch, hidden, mask_logits = _segment(golden, model, samples, stored)
    truth = []
    for number, sample in enumerate(samples):
        count = len(sample["convs"]) if sample["num_masks"] else 0
        masks = golden.inputs.masks(sample["masks_seed"], count, *sample["size"])
        stored.check(f"gt_packed_{number}", torch.from_numpy(np.packbits(masks.astype(bool))))
        truth.append(torch.from_numpy(masks))
    weights = golden.config["loss_weights"]
    states, answers = predicting_states(hidden, batch.labels)
    loss = published_loss(
        model.logits(states),
        answers,
        mask_logits,
        truth,
        LossWeights(weights["ce_loss_weight"], weights["bce_loss_weight"], weights["dice_loss_weight"]),
    )
    for name, value in (
        ("loss", loss.total),
        ("ce_loss", loss.text),
        ("mask_bce_loss", loss.bce),
        ("mask_dice_loss", loss.dice),
        ("mask_loss", loss.masks),
    ):
        stored.check(name, value)
    loss.total.backward()
    gradients = {
        published_name(name): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    for array, name in GRADIENTS.items():
        stored.check(array, gradients[name].flatten(), like="grad")
    stored.finish()
    expected = {name: norm for name, (norm, _) in train_case["grad_norms"].items()}
    assert expected.keys() <= gradients.keys()
    for name, gradient in gradients.items():
        norm = 0.0 if gradient is None else gradient.double().norm().item()
        assert norm == pytest.approx(expected.get(name, 0.0), rel=1e-4, abs=1e-7), name


@torch.no_grad()
def test_inference_golden(inference_case: dict, golden: GoldenFolder) -> None:
    model, stored = golden.model(), golden.stored(inference_case)
    samples = inference_case["samples"]
    _, _, masks = _segment(golden, model, samples, stored)
    stored.check("pred_masks", torch.cat(masks))
    stored.check("seg_embeddings", torch.cat(list(_behind_frames(golden, model, samples))))
    stored.finish()


def _behind_frames(golden: GoldenFolder, model: VisaModel, samples: list[dict]) -> Iterator[Tensor]:
    """Prompt embeddings [K, 256] of every conversation as it is answered: frames first, question behind."""
    for sample in samples:
        encoded = model.visual_tokens(golden.frames(sample["frames"]))
        for conversation in sample["convs"]:
            prefix, rest = model.split_behind_frames(torch.tensor(conversation["ids"]))
            counts = [model.tokens_per_frame] * int((prefix == IMAGE_TOKEN).sum())
            reading = model.read(prefix, counts, _fed(encoded, conversation))
            yield model.forced(reading, rest[:1], rest[1:]).embeddings
