"""inference.py --dataset: every question of a data set, resumed where it stopped, scored at the end."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import visa
from dataset.registry import open_dataset
from tests import tiny_image_sets, tiny_video_datasets
from visa.commands import inference
from visa.errors import InputError
from visa.tracklet import Tracklet


class Knowing:
    """Draws the truth, unless the question has a word of `fails`."""

    def __init__(self, name, root, split=None):
        self.asked = []
        self.fails = {}
        self._truth = {
            (clip.name, item.text): clip.target(item)
            for clip in open_dataset(name, root, split)
            for item in clip.expressions
        }

    def segment_each(self, video, questions, *, progress=None):
        for question in questions:
            self.asked.append((video.name, question))
            for word, error in self.fails.items():
                if word in question:
                    raise error
            masks = self._truth[video.name, question]
            found = bool(masks.any())
            yield Tracklet(question, "Here.", found, 0.5, 0 if found else None, masks, video)


@pytest.fixture
def revos(tmp_path):
    return tiny_video_datasets.write_revos(tmp_path / "revos").root


@pytest.fixture
def knowing(revos, monkeypatch):
    system = Knowing("revos", revos)
    monkeypatch.setitem(vars(visa), "load", lambda name: system)
    return system


def run(root, output, *more, name="revos"):
    return inference.main(["--dataset", name, "--root", str(root), "--output", str(output), *more])


def questions(root):
    return [(clip.name, item.text) for clip in open_dataset("revos", root) for item in clip.expressions]


def test_every_question_is_answered_and_scored(revos, knowing, tmp_path, capfd):
    output = tmp_path / "out"
    assert run(revos, output, "--evaluate") == 0
    assert knowing.asked == questions(revos)
    clip = open_dataset("revos", revos)[0]
    expression = clip.expressions[0]
    folder = output / clip.name / expression.id
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{name}.png" for name in clip.frame_names),
        "result.json",
    ]
    with Image.open(folder / f"{clip.frame_names[0]}.png") as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture) == 255, clip.target(expression)[0])
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (result["question"], result["answer"], result["model"]) == (expression.text, "Here.", "embedded")
    printed = capfd.readouterr().out
    overall = next(line for line in printed.splitlines() if line.startswith("| overall"))
    assert [cell.strip() for cell in overall.split("|")[3:6]] == ["100.0"] * 3
    assert json.loads((tmp_path / "out-scores" / "scores.json").read_text())["complete"] is True


def test_a_run_goes_on_where_it_stopped(revos, knowing, tmp_path, capsys):
    output = tmp_path / "out"
    names = questions(revos)
    knowing.fails = {names[2][1]: KeyboardInterrupt()}
    assert run(revos, output) == 130
    assert "to go on" in capsys.readouterr().err
    assert knowing.asked == names[:3]
    knowing.asked.clear()
    knowing.fails.clear()
    assert run(revos, output) == 0
    assert knowing.asked == names[2:]
    # a folder that is not whole, or answers something else, is made again
    clip = open_dataset("revos", revos)[0]
    (output / clip.name / "0" / "result.json").unlink()
    asked = json.dumps(clip.expressions[1].text, ensure_ascii=False)
    for path in (output / clip.name / "manifest.json", output / clip.name / "1" / "result.json"):
        text = path.read_text(encoding="utf-8")
        assert f'"asked": {asked}' in text
        path.write_text(text.replace(f'"asked": {asked}', '"asked": "something else"'), encoding="utf-8")
    (output / clip.name / ".0.part").mkdir()
    knowing.asked.clear()
    assert run(revos, output) == 0
    assert knowing.asked == names[:2]
    assert not list(output.rglob(".*"))


def test_nothing_is_loaded_when_nothing_is_left(revos, knowing, tmp_path, monkeypatch):
    assert run(revos, tmp_path / "out") == 0

    def load(name):
        raise AssertionError("the model was loaded for nothing")

    monkeypatch.setitem(vars(visa), "load", load)
    assert run(revos, tmp_path / "out") == 0


def test_where_every_question_fails_there_is_nothing_to_score(revos, knowing, tmp_path, capfd):
    knowing.fails = {"": InputError("cannot be answered")}
    assert run(revos, tmp_path / "out", "--evaluate") == 1
    assert "found no prediction" not in capfd.readouterr().err
    assert not (tmp_path / "out-scores").exists()


def test_what_fails_is_named_and_the_rest_goes_on(revos, knowing, tmp_path, capsys):
    names = questions(revos)
    knowing.fails = {names[1][1]: InputError("cannot be answered")}
    last = open_dataset("revos", revos)[-1]
    shutil.rmtree(last.folder)
    assert run(revos, tmp_path / "out") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 2
    assert f"{names[1][1]!r} ({names[1][0]}/1): cannot be answered" in errors[0]
    assert last.name in errors[1]
    assert "expected a frame" in errors[1]
    assert knowing.asked == [item for item in names if item[0] != last.name]
    assert not (tmp_path / "out" / names[1][0] / "1").exists()


def test_a_folder_keeps_one_models_answers(revos, knowing, tmp_path, capsys):
    assert run(revos, tmp_path / "out") == 0
    capsys.readouterr()
    assert run(revos, tmp_path / "out", "--model", "other") == 2
    assert "holds predictions of model 'embedded' and not 'other'" in capsys.readouterr().err
    (tmp_path / "out" / "predictions.json").write_text("{")
    assert run(revos, tmp_path / "out") == 2
    assert "give another --output" in capsys.readouterr().err


def test_images_are_clips_of_one_frame(tmp_path, monkeypatch):
    tiny_image_sets.write_reason_seg(tmp_path / "data")
    system = Knowing("reason_seg", tmp_path / "data", "train")
    monkeypatch.setitem(vars(visa), "load", lambda name: system)
    arguments = ("--split", "train", "--evaluate")
    assert run(tmp_path / "data", tmp_path / "out", *arguments, name="reason_seg") == 0
    saved = json.loads((tmp_path / "out-scores" / "scores.json").read_text())
    assert saved["summary"][-1]["values"]["gIoU"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "revos"], "needs --root"),
        (["--dataset", "revos", "--root", "x", "--query", "the dog"], "--query goes with --video"),
        (["--video", "x", "--query", "the dog", "--root", "x"], "--root goes with --dataset"),
        (["--video", "x", "--query", "the dog", "--evaluate"], "--evaluate goes with --dataset"),
        (["--video", "x", "--dataset", "revos"], "not allowed with"),
        (["--video", "x"], "required: --query"),
    ],
)
def test_the_two_forms_are_not_mixed(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        inference.main([*arguments, "--output", str(tmp_path)])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_bad_data_sets_end_in_one_line(revos, tmp_path, capsys):
    for root, name, words in (
        (tmp_path / "nowhere", "revos", "meta_expressions_valid_.json"),
        (revos, "rvos", "no data set 'rvos'"),
    ):
        assert run(root, tmp_path / "out", name=name) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line
    tiny_image_sets.write_llava(tmp_path)
    assert run(tmp_path, tmp_path / "out", name="llava_instruct") == 2
    assert "answered in words" in capsys.readouterr().err
    root = tiny_video_datasets.write_mevis(tmp_path / "mevis", "valid").root
    assert run(root, tmp_path / "out", "--split", "valid", "--evaluate", name="mevis") == 2
    assert "not public; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
