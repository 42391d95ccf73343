"""The trainer's own step gives the reference's losses and gradients (golden cases of kind ``train``)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.mllm.reasoning_model import ReasoningModel
from tests import test_videolisa_golden, test_visa_golden
from tests.tiny_visa import published_name
from visa.conversations import EncodedConversation
from visa.training.engine.batch import TrainingBatch, TrainingVideo
from visa.training.engine.plain_driver import PlainDriver
from visa.training.engine.ranks import Ranks
from visa.training.engine.settings import ModelSettings, TrainedSettings, TrainSettings
from visa.training.engine.step import TrainingStep, count
from visa.training.engine.trainables import choose_trained
from visa.training.published_objective import LossWeights

LOSS, GRADIENT, GRADIENT_NORM = 5e-6, 2e-6, 1e-4
ALL_TRAINED = TrainedSettings(
    lora_rank=0, in_full=("embeddings", "language", "lm_head", "seg_head", "mask_decoder")
)
SETTINGS = TrainSettings(out="", model=ModelSettings(start="", precision="fp32"), trained=ALL_TRAINED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for system in ("visa", "videolisa"):
        if f"{system}_case" in metafunc.fixturenames:
            path = metafunc.config.getoption("--golden") / system / "cases.json"
            cases = json.loads(path.read_text()) if path.is_file() else []
            chosen = [case for case in cases if case["kind"] == "train"]
            metafunc.parametrize(f"{system}_case", chosen, ids=[case["name"] for case in chosen])


def encoded(conversations: list[dict]) -> tuple[EncodedConversation, ...]:
    return tuple(
        EncodedConversation(torch.tensor(one["ids"]), torch.tensor(one["labels"])) for one in conversations
    )


def loss_weights(config: dict) -> LossWeights:
    weights = config["loss_weights"]
    return LossWeights(weights["ce_loss_weight"], weights["bce_loss_weight"], weights["dice_loss_weight"])


def check_step(
    model: ReasoningModel,
    batch: TrainingBatch,
    weights: LossWeights,
    stored: dict[str, np.ndarray],
    published: dict[str, str],
    norms: dict,
    gradients: dict[str, str],
) -> None:
    """One micro-batch through the driver; what is stored of losses, masks and gradients must come out.

    Args:
        published: our parameters' names to published ones. gradients: stored arrays to published names.
    """
    choose_trained(model, ALL_TRAINED)
    driver = PlainDriver(
        TrainingStep(model.train(), weights), SETTINGS, Ranks(0, 1, torch.device("cpu")), accumulation=1
    )
    result = driver.forward(batch)
    loss = result.loss
    compared = 0
    for name, value in {
        "loss": loss.total, "ce_loss": loss.text, "mask_bce_loss": loss.bce,
        "mask_dice_loss": loss.dice, "mask_loss": loss.masks,
    }.items():  # fmt: skip
        if name in stored:
            assert value.item() == pytest.approx(float(stored[name]), abs=LOSS), name
            compared += 1
    assert compared >= 4
    labels = stored["labels"]
    assert count(batch).tokens == int((labels[:, 1:] != -100).sum())
    driver.backward(loss.total)
    masters = driver.masters.masters
    assert set(norms) <= {published[name] for name in masters}
    for name, master in masters.items():
        expected = norms.get(published[name], (0.0, None))[0]
        norm = master.grad.double().norm().item()
        assert norm == pytest.approx(expected, rel=GRADIENT_NORM, abs=1e-7), name
    ours = {published[name]: master.grad.flatten() for name, master in masters.items()}
    for array, name in gradients.items():
        key = next((key for key in stored if key == array or key.startswith(f"{array}_s")), None)
        if key is None:
            continue
        step = int(key.rpartition("_s")[2]) if key != array else 1
        difference = (ours[name][::step] - torch.from_numpy(stored[key])).abs().max().item()
        assert difference <= GRADIENT, key
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert driver.update([1e-3]).taken
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert changed <= set(masters)


def test_visa_training_golden(visa_case: dict, golden_root: Path) -> None:
    golden = test_visa_golden.GoldenFolder(golden_root)
    model = golden.model()
    with np.load(golden.folder / f"{visa_case['name']}.npz") as arrays:
        stored = dict(arrays)
    videos = []
    for number, sample in enumerate(visa_case["samples"]):
        objects = len(sample["convs"]) if sample["num_masks"] else 0
        masks = golden.inputs.masks(sample["masks_seed"], objects, *sample["size"])
        frames = golden.frames(sample["frames"])
        drawn = golden.sam_frames(sample)
        videos.append(
            TrainingVideo(
                name=str(number),
                images_clip=frames,
                shown=tuple(range(len(frames))),
                conversations=encoded(sample["convs"]),
                images_sam=drawn,
                drawn=(0,),
                input_size=tuple(sample["resize"]),
                masks=torch.from_numpy(masks).bool()[None],
            )
        )
    published = {name: published_name(name) for name, _ in model.named_parameters()}
    check_step(
        model,
        TrainingBatch(0, tuple(videos)),
        loss_weights(golden.config),
        stored,
        published,
        visa_case["grad_norms"],
        test_visa_golden.GRADIENTS,
    )


def test_videolisa_training_golden(videolisa_case: dict, golden_root: Path) -> None:
    golden = test_videolisa_golden.GoldenFolder(golden_root)
    model = golden.model_of(videolisa_case)
    stored = golden.arrays(videolisa_case)
    videos = []
    pairs = zip(videolisa_case["samples"], videolisa_case["dense_indices"], strict=True)
    for number, (sample, dense) in enumerate(pairs):
        frames = golden.clip_frames(sample["frames"])
        asked = sample["sam"]
        side = golden.config["sam"]["img_size"]
        drawn = golden.inputs.sam_frames(asked["seed"], asked["count"], side, tuple(sample["resize"]))
        masks = golden.inputs.masks(sample["masks_seed"], sample["num_masks"], *sample["size"])
        masks = torch.from_numpy(masks).bool().unflatten(0, (len(drawn), -1))
        videos.append(
            TrainingVideo(
                name=str(number),
                images_clip=frames,
                shown=tuple(range(len(frames))),
                conversations=encoded(sample["convs"]),
                images_sam=torch.from_numpy(drawn),
                drawn=tuple(range(len(drawn))),
                input_size=tuple(sample["resize"]),
                masks=masks,
                dense_indices=tuple(dense),
            )
        )
    named = {test_videolisa_golden.our_name(name): name for name in videolisa_case["grad_norms"]}
    published = {name: named.get(name, name) for name, _ in model.named_parameters()}
    check_step(
        model,
        TrainingBatch(0, tuple(videos)),
        loss_weights(golden.config),
        stored,
        published,
        videolisa_case["grad_norms"],
        test_videolisa_golden.GRADIENTS,
    )
