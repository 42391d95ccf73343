"""The official protocols: what each benchmark makes of the same predictions on disk."""

import shutil

import numpy as np
import pytest
from PIL import Image

from dataset.registry import open_dataset
from tests import tiny_image_sets, tiny_video_datasets
from tests.written_predictions import lines, moved, score, write_masks, write_predictions
from visa import metrics


@pytest.fixture
def revos(tmp_path):
    return tiny_video_datasets.write_revos(tmp_path / "revos").root


@pytest.mark.parametrize("name", ["revos", "mevis", "ref_youtube_vos", "ref_davis17", "reason_vos"])
def test_the_truth_scores_one(name, tmp_path):
    tiny = getattr(tiny_video_datasets, f"write_{name}")(tmp_path / name)
    outcome = score(
        write_predictions(tmp_path / "out", name, tiny.root, tiny.split), name, tiny.root, split=tiny.split
    )
    assert outcome.complete
    assert outcome.complaints() == []
    overall = lines(outcome)["overall"].values
    assert (overall["J&F"], overall["J"], overall["F"]) == (1, 1, 1)


def test_revos_is_the_mean_of_its_two_kinds_and_robustness_of_the_absent(revos, tmp_path):
    predictions = write_predictions(tmp_path / "out", "revos", revos, change=moved)
    outcome = score(predictions, "revos", revos)
    reader = open_dataset("revos", revos)
    expected = {"referring": [], "reasoning": []}
    for clip in reader:
        for expression in clip.expressions:
            if expression.kind != "absent":
                gt = clip.target(expression)
                expected[expression.kind].append(metrics.region_similarity(gt, np.roll(gt, 2, axis=2)).mean())
    found = lines(outcome)
    for kind, values in expected.items():
        assert len(values) == found[kind].count > 0
        assert found[kind].values["J"] == pytest.approx(np.mean(values), abs=1e-12)
    overall = (np.mean(expected["referring"]) + np.mean(expected["reasoning"])) / 2
    assert found["overall"].values["J"] == pytest.approx(overall, abs=1e-12)
    assert found["absent"].values.keys() == {"A", "R"}
    assert found["absent"].values["R"] == 1


def test_what_is_drawn_for_an_absent_object_costs_robustness(revos, tmp_path):
    def everything(clip, expression, truth):
        return truth | (expression.kind == "absent")

    outcome = score(write_predictions(tmp_path / "out", "revos", revos, change=everything), "revos", revos)
    assert lines(outcome)["absent"].values["R"] == 0


def test_legacy_columns_follow_the_values_of_the_files(revos, tmp_path):
    for value, alike in ((1, True), (255, False)):
        predictions = write_predictions(tmp_path / str(value), "revos", revos, change=moved, value=value)
        values = lines(score(predictions, "revos", revos, legacy=True))["referring"].values
        rounded = score(predictions, "revos", revos)
        assert (abs(values["A legacy"] - values["A"]) < 1e-9) is alike
        assert values["J"] == pytest.approx(lines(rounded)["referring"].values["J"], abs=1e-4)
    with pytest.raises(ValueError, match="leave --legacy out"):
        score(tmp_path / "1", "mevis", revos, legacy=True)


def test_legacy_is_the_scripts_own_arithmetic(revos, tmp_path):
    """On bytes, an expression's instances summed, two decimals of a percent each, then the kinds' means."""
    predictions = write_predictions(tmp_path / "out", "revos", revos, change=moved)
    reader = open_dataset("revos", revos)
    columns = {kind: {"A": [], "R": [], "J": [], "F": []} for kind in ("referring", "reasoning")}
    for clip in reader:
        foreground = reader.foreground(clip).astype(np.uint8)
        for expression in clip.expressions:
            if expression.kind == "absent":
                continue
            gt = sum(reader.annotation(clip, key).astype(np.uint8) for key in expression.annotation_ids)
            pred = np.roll(gt > 0, 2, axis=2).astype(np.uint8) * np.uint8(255)
            wrong = ((np.uint8(1) - gt) * pred).sum(axis=(1, 2)).astype(float)
            r = np.maximum(1 - wrong / (foreground.sum(axis=(1, 2)) + 1e-6), 0)
            found = columns[expression.kind]
            found["A"].append(round(100 * (gt == pred).mean(axis=(1, 2)).mean(), 2))
            found["R"].append(round(100 * r.mean(), 2))
            found["J"].append(round(100 * metrics.region_similarity(gt, pred).mean(), 2))
            found["F"].append(round(100 * metrics.contour_accuracy(gt, pred).mean(), 2))
    overall = lines(score(predictions, "revos", revos, legacy=True))["overall"].values
    expected = {name: np.mean([np.mean(found[name]) for found in columns.values()]) for name in "ARJF"}
    expected["J&F"] = (expected["J"] + expected["F"]) / 2
    for name, value in expected.items():
        measure = f"{name} legacy" if name in ("A", "R") else name
        assert 100 * overall[measure] == pytest.approx(value, abs=1e-9)


def test_ref_davis_paints_objects_over_each_other_and_pairs_them(tmp_path):
    root = tiny_video_datasets.write_ref_davis17(tmp_path / "davis").root

    def swapped_and_greedy(clip, expression, truth):
        others = [item for item in clip.expressions if item.object_ids != expression.object_ids]
        if expression.annotator == 1:  # the objects taken for each other: pairing forgives that
            return clip.target(others[0])
        if expression.annotator == 2:  # the second object claims everything; the first was painted before
            return truth if expression.object_ids == (1,) else np.ones_like(truth)
        if expression.annotator == 3:  # nothing at all
            return np.zeros_like(truth)
        return truth

    predictions = write_predictions(tmp_path / "out", "ref_davis17", root, change=swapped_and_greedy)
    found = lines(score(predictions, "ref_davis17", root))
    assert [name for name in found if name.startswith("annotator")] == [f"annotator {n}" for n in range(4)]
    assert found["annotator 0"].values["J"] == found["annotator 1"].values["J"] == 1
    expected = []
    for clip in open_dataset("ref_davis17", root):
        first, second = (clip.target(clip.expressions[index]) for index in (0, 4))
        expected += [1, metrics.region_similarity(second, ~first).mean()]
    assert found["annotator 2"].values["J"] == pytest.approx(np.mean(expected))
    assert found["annotator 3"].values["J"] < 0.5
    each = [found[f"annotator {number}"].values["J&F"] for number in range(4)]
    assert found["overall"].values["J&F"] == pytest.approx(np.mean(each))


def test_images_are_scored_by_giou_and_ciou(tmp_path):
    tiny_image_sets.write_reason_seg(tmp_path)
    reader = open_dataset("reason_seg", tmp_path, "train")
    clip = reader[0]
    predictions = write_predictions(tmp_path / "out", "reason_seg", tmp_path, "train")
    values = lines(score(predictions, "reason_seg", tmp_path, split="train"))["overall"].values
    assert (values["gIoU"], values["cIoU"], values["P@0.5"]) == (1, 1, 1)
    # ignored pixels may be drawn or not; other ones may not
    expression = clip.expressions[0]
    ignored = reader.ignored(clip)
    assert ignored is not None
    assert ignored.any()
    shutil.rmtree(predictions / clip.name / expression.id)
    # for an image a file will do for a folder
    drawn = (clip.target(expression) | ignored)[0]
    Image.fromarray(drawn.astype(np.uint8) * 255).save(predictions / clip.name / f"{expression.id}.png")
    outcome = score(predictions, "reason_seg", tmp_path, split="train")
    assert lines(outcome)["overall"].values["gIoU"] == 1
    Image.fromarray(np.full(drawn.shape, 255, np.uint8)).save(
        predictions / clip.name / f"{expression.id}.png"
    )
    outcome = score(predictions, "reason_seg", tmp_path, split="train")
    assert 0 < lines(outcome)["overall"].values["cIoU"] < 1
    assert outcome.worst(1)[0].video == clip.name


def test_phrases_about_nothing_count_by_whether_something_is_drawn(tmp_path):
    tell = tiny_image_sets.sentences
    records = [
        {"image_id": 1, "ann_id": [11, 12], "split": "val", "sentences": tell(0, "all cups", "cups")},
        {"image_id": 1, "ann_id": [-1], "split": "val", "sentences": tell(2, "the dodo", "a unicorn")},
    ]
    tiny_image_sets.write_refer(tmp_path, "grefcoco", "grefs(unc).json", records)

    def answer(clip, expression, truth):
        return {"all cups": truth, "cups": truth & False, "the dodo": truth, "a unicorn": truth | True}[
            expression.text
        ]

    predictions = write_predictions(tmp_path / "out", "grefcoco", tmp_path, "val", answer)
    values = lines(score(predictions, "grefcoco", tmp_path, split="val"))["overall"].values
    assert (values["N-acc"], values["T-acc"]) == (0.5, 0.5)
    assert values["gIoU"] == 0.5
    clip = open_dataset("grefcoco", tmp_path, "val")[0]
    size, cups = clip.height * clip.width, int(clip.target(clip.expressions[0]).sum())
    assert values["cIoU"] == pytest.approx(cups / (2 * cups + size))


def test_expressions_about_nothing_count_in_videos_too(tmp_path):
    root = tiny_video_datasets.write_mevis(tmp_path / "mevis").root
    clips = open_dataset("mevis", root)
    (absent, other), (present, *more) = (
        [
            (clip.name, item.id)
            for clip in clips
            for item in clip.expressions
            if (item.kind == "absent") is nothing
        ]
        for nothing in (True, False)
    )

    def answer(clip, expression, truth):
        return {absent: truth | True, present: truth & False}.get((clip.name, expression.id), truth)

    predictions = write_predictions(tmp_path / "out", "mevis", root, change=answer)
    found = lines(score(predictions, "mevis", root))
    assert found["overall"].values["N-acc"] == found["absent"].values["N-acc"] == 0.5
    assert found["overall"].values["T-acc"] == pytest.approx(len(more) / (len(more) + 1))
    assert found["absent"].values["J"] == 0.5
    assert not {"N-acc", "T-acc"} & found["referring"].values.keys()
    shutil.rmtree(predictions.joinpath(*other))  # what is missing is no right answer
    assert lines(score(predictions, "mevis", root, allow_missing=True))["overall"].values["N-acc"] == 0


def test_videolisas_folders_of_reason_vos_are_read(tmp_path):
    root = tiny_video_datasets.write_reason_vos(tmp_path / "data").root
    for clip in open_dataset("reason_vos", root):
        for expression in clip.expressions:
            (key,) = expression.annotation_ids
            plain = expression.id.removeprefix(f"{key.rpartition('_')[2]}_")
            write_masks(tmp_path / "out" / key / plain, clip.frame_names, clip.target(expression), 100)
    outcome = score(tmp_path / "out", "reason_vos", root)
    assert outcome.complete
    assert lines(outcome)["overall"].values["J&F"] == 1
