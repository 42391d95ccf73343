"""VideoLISA against the numbers of the reference implementation (golden folder ``videolisa``).

Every case says its kind: ``tokens``, ``sequence`` (with and without the sliding window), ``train``,
``inference`` and ``evaluate``. Arrays named ``…_sN`` hold every N-th element.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig

from model.llava_phi3.every_frame import decode_every_frame
from model.llava_phi3.language import phi3_config
from model.llava_phi3.videolisa import VideoLisaModel, build_videolisa
from model.mllm.splicing import SplicedBatch, embed
from model.sam.build import Sam
from model.sam.import_segment_anything import modeling
from model.sam.segmenter import FrameFeatures, SamSegmenter
from visa.training.objective import text_loss
from visa.training.published_objective import LossWeights, predicting_states, published_loss

OWN = Path(__file__).parent / "golden"
KINDS = ("tokens", "sequence", "train", "inference", "evaluate")

# Largest absolute differences, from the golden data's own account of float32 against float64.
TOKENS, HIDDEN, SEG, LOW_RES, MASKS, LOSS, GRADIENT = 3e-5, 5e-5, 2e-5, 3e-5, 5e-5, 5e-6, 2e-6
GRADIENT_NORM = 1e-4  # relative

RENAMED = {
    "model.vision_tower.vision_tower.vision_model.": "tower.vision.",
    "model.mm_projector.": "projector.",
    "model.visual_model.": "visual_model.",
    "model.text_hidden_fcs.0.": "seg_head.",
    "model.": "language.model.",
    "lm_head.": "language.lm_head.",
}
GRADIENTS = {
    "grad_text_fc2": "model.text_hidden_fcs.0.2.weight",
    "grad_lm_head": "lm_head.weight",
    "grad_qkv_proj0": "model.layers.0.self_attn.qkv_proj.weight",
    "grad_hyper0": "model.visual_model.mask_decoder.output_hypernetworks_mlps.0.layers.2.weight",
}


def our_name(published: str) -> str:
    prefix = next(prefix for prefix in RENAMED if published.startswith(prefix))
    return RENAMED[prefix] + published.removeprefix(prefix)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    path = metafunc.config.getoption("--golden") / "videolisa" / "cases.json"
    cases = json.loads(path.read_text()) if path.is_file() else []
    for kind in KINDS:
        if f"{kind}_case" in metafunc.fixturenames:
            chosen = [case for case in cases if case["kind"] == kind]
            metafunc.parametrize(f"{kind}_case", chosen, ids=[case["name"] for case in chosen])


class GoldenFolder:
    """The arrays, the generators of inputs and weights that lie beside them, and the tiny models."""

    def __init__(self, root: Path):
        self.folder = root / "videolisa"
        self.fill = self._load("fill", root, OWN).fill
        self.inputs = self._load("inputs", self.folder, OWN / "videolisa")
        self.config = json.loads(self._find("config.json", self.folder, OWN / "videolisa").read_text())
        self.model = functools.lru_cache(maxsize=4)(self._model)

    @staticmethod
    def _find(name: str, *folders: Path) -> Path:
        return next(folder / name for folder in folders if (folder / name).is_file())

    @classmethod
    def _load(cls, name: str, *folders: Path):
        spec = importlib.util.spec_from_file_location(f"golden_{name}", cls._find(f"{name}.py", *folders))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def _model(self, clip_size: int, window: int | None, attention: str) -> VideoLisaModel:
        sam = self.config["sam"]
        encoder = modeling.ImageEncoderViT(
            img_size=sam["img_size"], patch_size=sam["patch_size"], embed_dim=sam["embed_dim"],
            depth=sam["depth"], num_heads=sam["num_heads"], mlp_ratio=sam["mlp_ratio"],
            norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6), qkv_bias=True, use_rel_pos=True,
            global_attn_indexes=sam["global_attn_indexes"], window_size=sam["window_size"],
            out_chans=sam["prompt_embed_dim"],
        )  # fmt: skip
        language = phi3_config({**self.config["phi3"], "sliding_window": window})
        language._attn_implementation = attention
        model = build_videolisa(
            language,
            CLIPVisionConfig(**self.config["clip_vision"], image_size=clip_size),
            Sam(encoder, sam["img_size"]),
            seg_token_id=self.config["tokens"]["seg"],
            select_layer=self.config["mm"]["mm_vision_select_layer"],
        )
        keys = self._find(f"keys_{clip_size}.json", self.folder, OWN / "videolisa")
        shapes = json.loads(keys.read_text())
        weights = self.fill({name: torch.empty(shape) for name, shape in shapes.items()})
        model.load_state_dict({our_name(name): value for name, value in weights.items()}, strict=True)
        return model.eval()

    def model_of(self, case: dict, attention: str = "sdpa") -> VideoLisaModel:
        window = case.get("sliding_window", self.config["phi3"]["sliding_window"])
        return self.model(case["clip_size"], window, attention)

    def clip_frames(self, asked: dict) -> Tensor:
        frames = self.inputs.frames(asked["seed"], asked["count"], asked["size"])
        assert self.inputs.sha(frames) == asked["sha"]
        return torch.from_numpy(frames)

    def sam_features(self, model: VideoLisaModel, sample: dict, dense: list[int]) -> FrameFeatures:
        """Of a sample's frames; frames that are all zero are told neither their number nor their sum."""
        asked, side = sample["sam"], self.config["sam"]["img_size"]
        count = asked.get("count", len(dense))
        frames = self.inputs.sam_frames(asked["seed"], count, side, tuple(sample["resize"]))
        if asked["zeros"]:
            frames = np.zeros_like(frames)
        assert self.inputs.sha(frames) == asked.get("sha", self.inputs.sha(frames))
        with torch.no_grad():
            embedding = model.visual_model.image_encoder(torch.from_numpy(frames))
        return FrameFeatures(embedding, (), tuple(sample["resize"]), tuple(sample["size"]))

    def arrays(self, case: dict) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{case['name']}.npz") as stored:
            return dict(stored)


@pytest.fixture(scope="module")
def golden(golden_root: Path) -> GoldenFolder:
    return GoldenFolder(golden_root)


class Checker:
    """Compares by name; at the end everything that is stored must have been compared."""

    INPUTS = ("input_ids", "labels", "attention_mask", "gt_packed_")

    def __init__(self, stored: dict[str, np.ndarray]):
        self.stored = stored
        self.unseen = {
            key for key in stored if key not in self.INPUTS and not key.startswith(self.INPUTS[-1])
        }

    def __call__(
        self, name: str, actual: Tensor, tolerance: float = 0.0, where: Tensor | None = None
    ) -> None:
        """Compare with ``name`` or ``name_sN``, if stored; the latter holds every N-th element of the last
        axis but one (of the only one where there is one)."""
        for key in [key for key in self.stored if re.fullmatch(rf"{name}(_s\d+)?", key)]:
            step = int(key.rpartition("_s")[2]) if key != name else 1
            given, places = actual.detach(), where
            if step > 1:
                axis = max(actual.ndim - 2, 0)
                given = given.index_select(axis, torch.arange(0, given.shape[axis], step))
                places = None if where is None else where[:, ::step]
            expected = torch.from_numpy(np.asarray(self.stored[key]))
            assert given.shape == expected.shape, key
            difference = (given.double() - expected.double()).abs()
            worst = (difference if places is None else difference[places]).max().item()
            assert worst <= tolerance, f"{key}: off by {worst:.2e}"
            self.unseen.discard(key)

    def finish(self) -> None:
        assert not self.unseen


@dataclass(frozen=True)
class Conversations:
    """The sequences of a case, each with the visual tokens that it shows and the sample that it is about."""

    ids: Tensor
    labels: Tensor | None
    mask: Tensor | None
    visual_tokens: list[Tensor]
    visual_counts: list
    samples: list[int]

    def batch(self, model: VideoLisaModel) -> SplicedBatch:
        return model.splice(self.ids, self.visual_counts, labels=self.labels, attention_mask=self.mask)


def conversations_of(
    golden: GoldenFolder, model: VideoLisaModel, case: dict, stored: dict[str, np.ndarray]
) -> Conversations:
    def rows(name: str, wanted: bool = True) -> Tensor | None:
        return torch.from_numpy(stored[name]).long() if wanted and name in stored else None

    ids, mask = rows("input_ids"), rows("attention_mask", case.get("pass_attention_mask", True))
    tokens, counts, samples = [], [], []
    for index, (sample, dense) in enumerate(zip(case["samples"], case["dense_indices"], strict=True)):
        frames = golden.clip_frames(sample["frames"])
        if "sparse_indices" in case:
            frames = frames[case["sparse_indices"]]
        with torch.no_grad():
            shown = model.visual_tokens(frames, dense)
        for conversation in sample.get("convs", [sample]):
            assert ids[len(tokens), : len(conversation["ids"])].tolist() == conversation["ids"]
            tokens.append(shown)
            counts.append(model.visual_counts(len(frames), len(dense)))
            samples.append(index)
    return Conversations(ids, rows("labels"), None if mask is None else mask.bool(), tokens, counts, samples)


def check_sequence(check: Checker, model: VideoLisaModel, batch: SplicedBatch, hidden: Tensor) -> None:
    """What is stored about the language model, at positions that count."""
    real = batch.attention_mask
    check("sequence_length", torch.tensor(batch.ids.shape[1]))
    check("attention_mask_out", batch.attention_mask)
    check("hidden_last", hidden, HIDDEN, real)
    check("hidden_tail40", hidden[:, -40:], HIDDEN, real[:, -40:])
    check("logits", model.logits(hidden), HIDDEN, real)
    if batch.labels is not None:
        check("labels_out", batch.labels)
        check("logits_at_answers", model.logits(predicting_states(hidden, batch.labels)[0]), HIDDEN)


@torch.no_grad()
def test_tokens_golden(tokens_case: dict, golden: GoldenFolder) -> None:
    check = Checker(golden.arrays(tokens_case))
    model = golden.model_of(tokens_case)
    videos = [golden.clip_frames(sample["frames"]) for sample in tokens_case["samples"]]
    wanted = zip(videos, tokens_case["dense_indices"], strict=True)
    tokens = torch.stack([model.visual_tokens(frames, dense) for frames, dense in wanted])
    sparse = tokens_case["num_frames_sparse"]
    check("video_tokens_shape", torch.tensor(tokens[:, None].shape))
    check("sparse_tokens", tokens[:, :sparse], TOKENS)
    check("dense_tokens", tokens[:, sparse:], TOKENS)
    check("clip_patch_frame0", model.tower(videos[0][:1])[0], TOKENS)
    check.finish()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_sequence_golden(sequence_case: dict, attention: str, golden: GoldenFolder) -> None:
    stored = golden.arrays(sequence_case)
    check, model = Checker(stored), golden.model_of(sequence_case, attention)
    conversations = conversations_of(golden, model, sequence_case, stored)
    batch = conversations.batch(model)
    embeds = embed(batch, model.language.get_input_embeddings(), conversations.visual_tokens)
    check("inputs_embeds", embeds, TOKENS)
    hidden = model(batch, conversations.visual_tokens)
    check_sequence(check, model, batch, hidden)
    states, labels = predicting_states(hidden, batch.labels)
    check("ce_loss", text_loss(model.logits(states), labels), LOSS)
    check.finish()


@dataclass(frozen=True)
class Drawn:
    """Masks of one sample's n conversations on its T frames."""

    low_res: Tensor  # float [T, n, S/4, S/4]
    mask_logits: Tensor  # float [T * n, H, W]


def draw(model: VideoLisaModel, features: FrameFeatures, embeddings: Tensor) -> Drawn:
    segmenter = SamSegmenter(model.visual_model)
    prediction = decode_every_frame(segmenter, features, embeddings)
    mask_logits = segmenter.to_frame(prediction.mask_logits, features)[:, 0]
    return Drawn(prediction.mask_logits.unflatten(0, (len(features), -1))[:, :, 0], mask_logits)


def check_masks(check: Checker, sample: int, embeddings: Tensor, drawn: Drawn) -> None:
    check(f"seg_embeddings_{sample}", embeddings, SEG)
    check(f"low_res_{sample}", drawn.low_res, LOW_RES)
    check(f"pred_masks_{sample}", drawn.mask_logits, MASKS)


def check_features(check: Checker, features: list[FrameFeatures]) -> None:
    first_and_last = torch.stack([features[0].embedding[0], features[-1].embedding[-1]])
    for step in (1, 2, 4, 8, 16, 32):
        check(f"image_embeddings_first_last_c{step}", first_and_last[:, ::step], LOW_RES)


def test_train_golden(train_case: dict, golden: GoldenFolder) -> None:
    stored, norms = golden.arrays(train_case), train_case["grad_norms"]
    check, model = Checker(stored), golden.model_of(train_case).train()
    parameters = dict(model.named_parameters())
    model.requires_grad_(False)
    for name in norms:
        parameters[our_name(name)].requires_grad_(True).grad = None
    conversations = conversations_of(golden, model, train_case, stored)
    batch = conversations.batch(model)
    hidden = model(batch, conversations.visual_tokens)
    check_sequence(check, model, batch, hidden)
    rows = model.seg_embeddings(hidden, batch)
    predictions, truths = [], []
    shown = zip(train_case["samples"], train_case["dense_indices"], strict=True)
    features = [golden.sam_features(model, sample, dense) for sample, dense in shown]
    check_features(check, features)
    for index, sample in enumerate(train_case["samples"]):
        mine = [row for row, owner in zip(rows, conversations.samples, strict=True) if owner == index]
        embeddings = torch.cat(mine)
        drawn = draw(model, features[index], embeddings)
        check_masks(check, index, embeddings, drawn)
        truth = golden.inputs.masks(sample["masks_seed"], sample["num_masks"], *sample["size"])
        assert np.array_equal(np.packbits(truth.astype(bool)), stored[f"gt_packed_{index}"])
        predictions.append(drawn.mask_logits)
        truths.append(torch.from_numpy(truth))
    weights = golden.config["loss_weights"]
    states, labels = predicting_states(hidden, batch.labels)
    loss = published_loss(
        model.logits(states), labels, predictions, truths,
        LossWeights(weights["ce_loss_weight"], weights["bce_loss_weight"], weights["dice_loss_weight"]),
    )  # fmt: skip
    check("ce_loss", loss.text, LOSS)
    check("mask_bce_loss", loss.bce, LOSS)
    check("mask_dice_loss", loss.dice, LOSS)
    check("mask_loss", loss.masks, LOSS)
    check("loss", loss.total, LOSS)
    loss.total.backward()
    for name, published in GRADIENTS.items():
        check(name, parameters[our_name(published)].grad.flatten(), GRADIENT)
    for name, (expected, _) in norms.items():
        grad = parameters[our_name(name)].grad
        norm = 0.0 if grad is None else grad.norm().item()
        assert norm == pytest.approx(expected, rel=GRADIENT_NORM, abs=1e-7), name
    check.finish()
    model.eval()


def test_inference_golden(inference_case: dict, golden: GoldenFolder) -> None:
    check_answers(inference_case, golden)


def test_evaluate_golden(evaluate_case: dict, golden: GoldenFolder) -> None:
    check_answers(evaluate_case, golden)


@torch.inference_mode()
def check_answers(case: dict, golden: GoldenFolder) -> None:
    """Conversations in one pass, and each again behind frames that are read once."""
    stored = golden.arrays(case)
    check, model = Checker(stored), golden.model_of(case)
    conversations = conversations_of(golden, model, case, stored)
    batch = replace(conversations, labels=None).batch(model)
    hidden = model(batch, conversations.visual_tokens)
    check_sequence(check, model, batch, hidden)
    in_one_pass = torch.cat(model.seg_embeddings(hidden, batch))
    (sample,), (dense,) = case["samples"], case["dense_indices"]
    features = golden.sam_features(model, sample, dense)
    check_features(check, [features])
    for embeddings in (in_one_pass, torch.cat(list(behind_prefixes(model, conversations)))):
        drawn = draw(model, features, embeddings)
        check_masks(check, 0, embeddings, drawn)
        check("pred_masks", drawn.mask_logits, MASKS)
    check.finish()


def behind_prefixes(model: VideoLisaModel, conversations: Conversations) -> Iterator[Tensor]:
    """Prompt embeddings [K, 256] of every conversation, question and answer read behind the frames."""
    for row, ids in enumerate(conversations.ids):
        if conversations.mask is not None:
            ids = ids[conversations.mask[row]]
        prefix, rest = model.split_behind_frames(ids)
        reading = model.read(prefix, conversations.visual_counts[row], conversations.visual_tokens[row])
        yield model.forced(reading, rest[:1], rest[1:]).embeddings
