"""Golden metric values: every pair, variant and sequence of `metrics/cases.json`, none known by name."""

import json

import numpy as np
import pytest

from visa import metrics

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def cases(golden_root):
    folder = golden_root / "metrics"
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    with np.load(folder / "masks.npz") as masks:
        return cases, {name: masks[name] for name in masks.files}


def unpack(cases, pair):
    """The pair's masks by name, uint8 0/1 [H, W]."""
    prefix, shape = f"{pair['index']:02d}_", (pair["height"], pair["width"])
    return {
        name.removeprefix(prefix): np.unpackbits(packed)[: shape[0] * shape[1]].reshape(shape)
        for name, packed in cases[1].items()
        if name.startswith(prefix)
    }


def variant_masks(masks, variant):
    gt, pred = masks["gt"], masks["pred"]
    if variant.startswith("gt_sum_of_two"):
        gt = gt + masks["extra_gt"]
    if variant.endswith("pred_255"):
        pred = pred * np.uint8(255)
    return gt, pred


def close(values, expected):
    assert values.dtype == np.float64
    assert values.shape == (1,)
    assert values[0] == pytest.approx(expected, abs=TOLERANCE)


def test_golden_variants(cases):
    checked = 0
    for pair in cases[0]["pairs"]:
        masks = unpack(cases, pair)
        for variant, expected in pair.items():
            if not (isinstance(expected, dict) and "J" in expected):
                continue
            gt, pred = variant_masks(masks, variant)
            void = masks["void"] if variant == "with_void" else None
            close(metrics.region_similarity(gt, pred, void), expected["J"])
            close(metrics.contour_accuracy(gt, pred, void), expected["F"])
            if "A" in expected:
                close(metrics.pixel_accuracy(gt, pred, legacy=True), expected["A"])
                close(metrics.robustness(gt, pred, masks["fore"], legacy=True), expected["R"])
            checked += 1
    assert checked >= len(cases[0]["pairs"]) > 0


def test_golden_corrected_accuracy_and_robustness(cases):
    """On 0/1 masks both forms agree; without `legacy` the way a mask is written makes no difference."""
    for pair in cases[0]["pairs"]:
        masks = unpack(cases, pair)
        for variant in ("binary", "pred_255"):
            gt, pred = variant_masks(masks, variant)
            close(metrics.pixel_accuracy(gt, pred), pair["binary"]["A"])
            close(metrics.robustness(gt, pred, masks["fore"]), pair["binary"]["R"])


def test_golden_tolerances(cases):
    checked = 0
    for pair in cases[0]["pairs"]:
        masks = unpack(cases, pair)
        for name, expected in pair.items():
            if name.startswith("F_bound_th_"):
                tolerance = float(name.removeprefix("F_bound_th_"))
                close(metrics.contour_accuracy(masks["gt"], masks["pred"], tolerance=tolerance), expected)
                checked += 1
    assert checked


def test_golden_sequences(cases):
    pairs = {pair["index"]: unpack(cases, pair) for pair in cases[0]["pairs"]}
    sequences = [entry for entry in cases[0]["sequences"] if set(entry["pairs"]) <= set(pairs)]
    assert sequences
    for sequence in sequences:
        frames = [pairs[index] for index in sequence["pairs"]]
        gt, pred, fore = (np.stack([frame[name] for frame in frames]) for name in ("gt", "pred", "fore"))
        for name, values in (
            ("J", metrics.region_similarity(gt, pred)),
            ("F", metrics.contour_accuracy(gt, pred)),
            ("A", metrics.pixel_accuracy(gt, pred)),
            ("R", metrics.robustness(gt, pred, fore)),
        ):
            assert values.shape == (len(frames),)
            assert values.mean() == pytest.approx(sequence[name], abs=TOLERANCE)
