"""Predictions on disk, scored by the official protocols and by the command, whole and broken."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from dataset.registry import open_dataset
from tests import tiny_image_sets, tiny_video_datasets
from tests.written_predictions import lines, moved, score, write_predictions
from visa.evaluation.__main__ import main
from visa.evaluation.from_disk import score_predictions
from visa.evaluation.outcome import markdown


@pytest.fixture
def revos(tmp_path):
    return tiny_video_datasets.write_revos(tmp_path / "revos").root


def run(predictions, name, root, *more):
    return main([str(predictions), "--dataset", name, "--root", str(root), "--quiet", *map(str, more)])


def test_a_video_without_frames_is_named(tmp_path):
    for name in ("revos", "ref_davis17"):
        tiny = getattr(tiny_video_datasets, f"write_{name}")(tmp_path / name)
        predictions = write_predictions(tmp_path / "out" / name, name, tiny.root)
        meta = json.loads(tiny.meta.read_text(encoding="utf-8"))
        video = next(iter(meta["videos"]))
        meta["videos"][video]["frames"] = []
        tiny.meta.write_text(json.dumps(meta), encoding="utf-8")
        outcome = score(predictions, name, tiny.root)
        assert not outcome.complete
        assert any(video in line for line in outcome.complaints())
        assert any(row.values for row in outcome.rows)
        assert lines(outcome)["overall"].values["J"] == 1


def test_a_video_named_like_an_annotation_of_another_is_no_second_prediction(revos, tmp_path):
    meta_path, frames = revos / "meta_expressions_valid_.json", revos / "JPEGImages"
    meta = json.loads(meta_path.read_text(encoding="utf-8"))
    masks = json.loads((revos / "mask_dict.json").read_text(encoding="utf-8"))
    first, second = meta["videos"]
    key = next(iter(meta["videos"][first]["expressions"].values()))["anno_id"][0]
    names = {first: str(key)[0], second: f"{str(key)[0]}1"}
    for old, new in names.items():
        shutil.copytree(frames / old, frames / new)
    masks[names[second]] = masks[str(key)]
    meta["videos"] = {names[old]: record for old, record in meta["videos"].items()}
    meta["videos"][names[first]]["expressions"]["0"]["anno_id"] = [int(names[second])]
    meta_path.write_text(json.dumps(meta), encoding="utf-8")
    (revos / "mask_dict.json").write_text(json.dumps(masks), encoding="utf-8")
    outcome = score(write_predictions(tmp_path / "out", "revos", revos), "revos", revos)
    assert outcome.complaints() == []
    assert lines(outcome)["overall"].values["J"] == 1


def test_whatever_a_question_holds_the_scores_are_written(revos, tmp_path, capsys):
    path = revos / "meta_expressions_valid_.json"
    meta = json.loads(path.read_text(encoding="utf-8"))
    for video in meta["videos"].values():
        video["expressions"]["0"]["exp"] = "half \ud800 a | b\nc"  # JSON can hold half a character
    path.write_text(json.dumps(meta), encoding="utf-8")
    predictions = write_predictions(tmp_path / "out", "revos", revos, change=moved)
    assert run(predictions, "revos", revos, "--gallery", "4", "--processes", "1") == 0
    assert "a \\| b c |" in capsys.readouterr().out
    saved = json.loads((tmp_path / "out-scores" / "scores.json").read_text(encoding="utf-8"))
    assert saved["expressions"][0]["question"] == "half \ud800 a | b\nc"
    assert len(list((tmp_path / "out-scores" / "gallery").glob("*.png"))) == 4


@pytest.mark.parametrize("more", [[], ["--allow-missing"]])
def test_a_folder_without_a_prediction_is_bad_usage_and_nothing_is_written(revos, tmp_path, capsys, more):
    (tmp_path / "out" / "of another set").mkdir(parents=True)
    assert run(tmp_path / "out", "revos", revos, *more) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    place = tmp_path / "out" / open_dataset("revos", revos)[0].name / "0"
    assert (
        line == f"error: found no prediction for revos valid in {tmp_path / 'out'}: expected such as {place}"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"revos", "out"}


def test_an_output_that_cannot_be_written_is_told_before_the_work(revos, tmp_path, capsys, monkeypatch):
    from visa.evaluation import from_disk

    monkeypatch.setattr(from_disk, "score_predictions", lambda *_, **__: pytest.fail("it was scored"))
    (tmp_path / "file").write_bytes(b"")
    assert run(revos, "revos", revos, "--output", tmp_path / "file") == 2
    assert "is a file; give a folder" in capsys.readouterr().err


def test_a_file_is_no_folder_of_masks(revos, tmp_path):
    predictions = write_predictions(tmp_path / "out", "revos", revos)
    clip = open_dataset("revos", revos)[0]
    shutil.rmtree(predictions / clip.name / "0")
    (predictions / clip.name / "0").write_bytes(b"")
    assert "is a file: expected a folder" in score(predictions, "revos", revos).rows[0].fault


def test_a_worker_that_is_killed_ends_in_one_line(revos, tmp_path, capsys, monkeypatch):
    from visa.evaluation import from_disk

    predictions = write_predictions(tmp_path / "out", "revos", revos)
    monkeypatch.setattr(from_disk, "_score_clip", lambda job, index: os._exit(9))
    assert run(predictions, "revos", revos, "--processes", "2") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "fewer --processes" in line


def test_workers_give_what_one_process_gives(revos, tmp_path):
    predictions = write_predictions(tmp_path / "out", "revos", revos, change=moved)
    alone = score(predictions, "revos", revos)
    together = score_predictions(predictions, "revos", revos, processes=2, progress=False)
    assert together.rows == alone.rows
    assert together.lines() == alone.lines()


def test_the_command_prints_and_writes(revos, tmp_path, capsys):
    predictions = write_predictions(tmp_path / "out", "revos", revos, change=moved)
    assert run(predictions, "revos", revos, "--gallery", "2") == 0
    printed = capsys.readouterr()
    assert "| overall" in printed.out
    assert "The worst 4" in printed.out
    folder = tmp_path / "out-scores"
    with (folder / "expressions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    outcome = score(predictions, "revos", revos)
    assert [(row["video"], row["expression"]) for row in rows] == [
        (row.video, row.expression_id) for row in outcome.rows
    ]
    assert float(rows[0]["J"]) == outcome.rows[0].values["J"]
    saved = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert saved["complete"] is True
    assert {line["name"] for line in saved["summary"]} == {"referring", "reasoning", "absent", "overall"}
    page = (folder / "gallery" / "index.html").read_text(encoding="utf-8")
    for number in range(2):
        assert f"{number:03d}.png" in page
        with Image.open(folder / "gallery" / f"{number:03d}.png") as picture:
            picture.load()


def broken_files(predictions, clip, expression):
    """(what to do to one expression's prediction, words that name the fault)."""
    folder = predictions / clip.name / expression.id
    first = folder / f"{clip.frame_names[0]}.png"
    shape = (clip.height, clip.width)
    colours = np.zeros((*shape, 3), np.uint8)
    colours[0, 0] = 1, 2, 3
    shades = np.arange(shape[0] * shape[1]).reshape(shape).astype(np.uint8)
    return {
        "missing": (lambda: shutil.rmtree(folder), "no prediction: expected"),
        "a frame": (first.unlink, f"no mask for 1 of 3 frames, the first is {clip.frame_names[0]}.png"),
        "no picture": (lambda: first.write_bytes(b"not a png"), "is not a mask: no whole picture"),
        "cut off": (lambda: first.write_bytes(first.read_bytes()[:40]), "is not a mask: no whole picture"),
        "colours": (lambda: Image.fromarray(colours).save(first), "is not a mask: it has colours"),
        "shades": (lambda: Image.fromarray(shades).save(first), "expected 0 and one other value"),
        "size": (lambda: Image.fromarray(shades[1:] * 0).save(first), "expected 16x12 pixels"),
        "twice": (
            lambda: shutil.copytree(folder, predictions / "Annotations" / clip.name / expression.id),
            "two predictions for one expression",
        ),
        "a frame twice": (
            lambda: shutil.copy(first, first.with_suffix(".PNG")),
            "two predictions for one frame",
        ),
    }


FAULTS = [
    "missing",
    "a frame",
    "no picture",
    "cut off",
    "colours",
    "shades",
    "size",
    "twice",
    "a frame twice",
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["revos", "ref_davis17"])
def test_a_broken_prediction_is_named_and_the_rest_is_scored(name, fault, tmp_path, capsys):
    root = getattr(tiny_video_datasets, f"write_{name}")(tmp_path / name).root
    predictions = write_predictions(tmp_path / "out", name, root)
    reader = open_dataset(name, root)
    clip, expression = reader[0], reader[0].expressions[0]
    do, words = broken_files(predictions, clip, expression)[fault]
    do()
    assert run(predictions, name, root) == 1
    captured = capsys.readouterr()
    assert "INCOMPLETE" in captured.out
    complaint = next(line for line in captured.err.splitlines() if line.startswith("error:"))
    assert words in complaint
    assert clip.name in complaint
    assert repr(expression.id) in complaint
    saved = json.loads((tmp_path / "out-scores" / "scores.json").read_text(encoding="utf-8"))
    assert saved["complete"] is False
    scored = [row for row in saved["expressions"] if row["values"]]
    assert len(scored) >= len(saved["expressions"]) - 2
    assert all(row["values"].get("J", 1) == 1 for row in scored)

    assert run(predictions, name, root, "--allow-missing") == 0
    captured = capsys.readouterr()
    assert "1 missing or broken prediction counted as zero" in captured.out
    assert "INCOMPLETE" not in captured.out
    saved = json.loads((tmp_path / "out-scores" / "scores.json").read_text(encoding="utf-8"))
    zero = saved["expressions"][0]
    assert words in zero["fault"]
    assert zero["values"]["J"] < 0.5


def test_what_is_broken_in_the_data_set_is_named_too(revos, tmp_path, capsys):
    predictions = write_predictions(tmp_path / "out", "revos", revos)
    masks = json.loads((revos / "mask_dict.json").read_text(encoding="utf-8"))
    clip = open_dataset("revos", revos)[0]
    key = next(item for item in clip.expressions if item.kind != "absent").annotation_ids[0]
    masks[key][0]["size"] = [4, 4]
    (revos / "mask_dict.json").write_text(json.dumps(masks), encoding="utf-8")
    meta = json.loads((revos / "meta_expressions_valid_.json").read_text(encoding="utf-8"))
    meta["videos"]["../../outside"] = next(iter(meta["videos"].values()))
    (revos / "meta_expressions_valid_.json").write_text(json.dumps(meta), encoding="utf-8")
    assert run(predictions, "revos", revos, "--allow-missing") == 1
    errors = capsys.readouterr().err
    assert "mask_dict.json" in errors
    assert repr(key) in errors
    assert "../../outside" in errors


def test_bad_usage_ends_in_one_line(revos, tmp_path, capsys):
    cases = [
        ((tmp_path / "nowhere", "revos", revos), "expected a folder of predictions"),
        ((revos, "rvos", revos), "no data set 'rvos'"),
        ((revos, "revos", tmp_path / "nowhere"), "meta_expressions_valid_.json"),
        ((revos, "revos", revos, "--split", "test"), "expected a split among"),
        ((revos, "revos", revos, "--processes", "0"), "--processes 1 or more"),
        ((revos, "revos", revos, "--submission", "x.zip"), "archives for mevis and ref_youtube_vos only"),
    ]
    (revos / "meta_expressions_train_.json").write_text('{"videos": {"a', encoding="utf-8")
    cases.append(((revos, "revos", revos, "--split", "train"), "not a whole JSON file"))
    for arguments, words in cases:
        assert run(*arguments) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line
    assert not (tmp_path / "nowhere-scores").exists()


def test_answers_kept_as_run_lengths_are_read(revos, tmp_path):
    from visa.mask_track import MaskTrack

    predictions = write_predictions(tmp_path / "out", "revos", revos)
    clip = open_dataset("revos", revos)[0]
    expression = clip.expressions[0]
    folder = predictions / clip.name / expression.id
    for path in folder.glob("*.png"):
        path.unlink()
    result = {"frame_names": list(clip.frame_names), "masks": MaskTrack.of(clip.target(expression)).as_json()}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    outcome = score(predictions, "revos", revos)
    assert outcome.complete
    assert outcome.rows[0].values["J"] == 1
    result["masks"][0]["size"] = [3, 3]
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    assert "expected a mask of" in score(predictions, "revos", revos).rows[0].fault
    (folder / "result.json").write_text("{", encoding="utf-8")
    assert "not a whole JSON file" in score(predictions, "revos", revos).rows[0].fault


def test_hidden_masks_and_talk_cannot_be_scored(tmp_path):
    root = tiny_video_datasets.write_mevis(tmp_path / "mevis", "valid").root
    with pytest.raises(ValueError, match="not public: make an archive for its server with --submission"):
        score(tmp_path, "mevis", root, split="valid")
    tiny_image_sets.write_llava(tmp_path)
    with pytest.raises(ValueError, match="answered in words"):
        score(tmp_path, "llava_instruct", tmp_path)


def test_markdown_lines_up():
    table = markdown(("a", "bb"), [("ccc", "1"), ("d", "23")]).splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[1] == "|:----|---:|"
