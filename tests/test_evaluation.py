"""Whole-system scores, of systems whose answers are known: right, wrong, and refusing."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from dataset.revos import Revos
from visa.errors import InputError
from visa.evaluation import another_clips_question, evaluate, open_clip, tube_iou

SIZE = (12, 20)
NUM_FRAMES = 4


def box(left, first=0):
    """bool [T, H, W]: a box at that column, from frame `first` on."""
    masks = np.zeros((NUM_FRAMES, *SIZE), bool)
    masks[first:, 3:8, left : left + 5] = True
    return masks


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}


def expression(text, type_id, *annotations, **extra):
    return {
        "exp": text,
        "type_id": type_id,
        "obj_id": list(annotations),
        "anno_id": list(annotations),
        **extra,
    }


VIDEOS = {
    "cats/one": [
        expression("the cat", 0, 0, aspect="name"),
        expression("what purrs?", 1, 0, aspect="use"),
        expression("the late dog", 0, 1, aspect="order"),
        expression("the unicorn", 2),
    ],
    "two": [expression("the boat", 0, 2), expression("what floats?", 1, 2), expression("the train", 2)],
}
OBJECTS = {"0": box(1), "1": box(12, first=2), "2": box(6)}
MEANT = {item["exp"]: [str(key) for key in item["anno_id"]] for video in VIDEOS.values() for item in video}


@pytest.fixture
def root(tmp_path):
    meta = {}
    for name, expressions in VIDEOS.items():
        folder = tmp_path / "JPEGImages" / name
        folder.mkdir(parents=True)
        frames = [f"{index:05d}" for index in range(NUM_FRAMES)]
        for index, frame in enumerate([*frames, "99999"]):  # one more than the meta file names
            cv2.imwrite(str(folder / f"{frame}.jpg"), np.full((*SIZE, 3), 10 * index, np.uint8))
        meta[name] = {
            "frames": frames,
            "height": SIZE[0],
            "width": SIZE[1],
            "expressions": {str(index): item for index, item in enumerate(expressions)},
        }
    (tmp_path / "meta_expressions_valid_.json").write_text(json.dumps({"videos": meta}))
    lists = {key: [rle(mask) if mask.any() else None for mask in masks] for key, masks in OBJECTS.items()}
    (tmp_path / "mask_dict.json").write_text(json.dumps(lists))
    return tmp_path


class Fake:
    """A system that draws the objects which `choose` gives for a question; () refuses."""

    def __init__(self, choose):
        self.choose = choose
        self.asked = []

    def segment_many(self, video, questions):
        self.asked.append((video.name, tuple(questions), len(video)))
        return [self.answer(video, self.choose(question)) for question in questions]

    def answer(self, video, keys):
        masks = np.zeros((NUM_FRAMES, *SIZE), bool)
        for key in keys:
            masks |= OBJECTS[key]
        return SimpleNamespace(
            found=bool(keys),
            answer="a",
            score=1.0,
            target_frame=0 if keys else None,
            masks=masks[: len(video)],
        )


def perfect(question):
    return MEANT[question]


def test_a_perfect_system_scores_one_and_refuses_only_what_is_absent(root):
    system = Fake(perfect)
    report = evaluate(system, root, name="perfect", progress=False)
    assert [name for name, _, _ in system.asked] == ["cats/one", "two"]
    assert len(report.scores) == 7
    for kind in ("referring", "reasoning"):
        group = report.kind(kind)
        assert (group.j, group.f, group.j_and_f, group.right, group.wrong, group.refused) == (
            1,
            1,
            1,
            1,
            0,
            0,
        )
    absent = report.kind("absent")
    assert absent.num_questions == 2
    assert (absent.refused, absent.robustness) == (1, 1)
    assert absent.j_and_f is absent.right is absent.wrong is None
    assert report.overall == 1


def test_the_wrong_object_is_told_from_the_right_one(root):
    other = {"0": "1", "1": "0", "2": "2"}
    report = evaluate(Fake(lambda question: [other[key] for key in perfect(question)]), root, progress=False)
    scores = {(score.video, score.question): score for score in report.scores}
    cat, dog, boat = (
        scores["cats/one", "the cat"],
        scores["cats/one", "the late dog"],
        scores["two", "the boat"],
    )
    assert (cat.right, cat.wrong) == (False, True)
    assert cat.other_ious == (1.0,)
    assert (dog.right, dog.wrong) == (False, True)
    assert (boat.right, boat.wrong, boat.other_ious) == (True, None, ())
    referring = report.kind("referring")
    assert referring.right == pytest.approx(1 / 3)
    assert referring.wrong == 1  # of the two questions whose video has another object


def test_both_objects_are_neither_right_nor_wrong_when_half_of_it_is_the_other(root):
    report = evaluate(Fake(lambda question: ["0", "1"]), root, num_videos=1, progress=False)
    scores = {score.question: score for score in report.scores}
    assert scores["the cat"].right_iou == pytest.approx(4 / 6)
    assert scores["the late dog"].right_iou == pytest.approx(2 / 6)
    assert (scores["the late dog"].right, scores["the late dog"].wrong) == (False, True)


def test_refusing_everything_scores_as_empty_masks(root):
    report = evaluate(Fake(lambda question: []), root, progress=False)
    assert report.kind("absent").refused == 1
    assert report.kind("referring").refused == 1
    assert report.kind("referring").right == 0
    dog = next(score for score in report.scores if score.question == "the late dog")
    assert dog.j == 0.5  # it is not visible in two of the four frames, where nothing is right
    assert dog.right_iou == 0
    assert dog.in_first_frame is False


def test_accepting_an_absent_object_costs_robustness(root):
    report = evaluate(Fake(lambda question: ["0"]), root, num_videos=1, progress=False)
    absent = report.kind("absent")
    assert absent.refused == 0
    assert 0 < absent.robustness < 1


def test_aspects_are_scored_apart(root):
    report = evaluate(Fake(perfect), root, progress=False)
    assert [group.name for group in report.aspects()] == [
        "referring / name",
        "referring / order",
        "reasoning / use",
    ]
    assert all(group.num_questions == 1 for group in report.aspects())


def test_fewer_frames_leave_out_what_is_not_visible(root):
    system = Fake(perfect)
    report = evaluate(system, root, num_frames=2, progress=False)
    assert system.asked[0] == ("cats/one", ("the cat", "what purrs?", "the unicorn"), 2)
    assert report.kind("referring").j_and_f == 1
    assert {score.num_frames for score in report.scores} == {2}


def test_select_is_given_the_object(root):
    def late(expression, target):
        return expression.kind != "absent" and not target[0].any()

    report = evaluate(Fake(perfect), root, select=late, progress=False)
    assert [score.question for score in report.scores] == ["the late dog"]
    with pytest.raises(ValueError, match="no question is left"):
        evaluate(Fake(perfect), root, select=lambda *_: False, progress=False)


def test_the_control_asks_another_clips_questions(root):
    system = Fake(lambda question: ["0"])
    evaluate(system, root, ask=another_clips_question(Revos(root)), progress=False)
    assert system.asked[0][1] == ("the boat", "what floats?", "the boat", "the train")
    assert system.asked[1][1] == ("the cat", "what purrs?", "the unicorn")


def test_the_control_never_borrows_from_a_clip_that_shares_a_question():
    def video(name, *texts):
        items = tuple(SimpleNamespace(text=text, kind="referring") for text in texts)
        return SimpleNamespace(name=name, expressions=items)

    clips = [video("a+b", "a", "b"), video("b+c", "b", "c"), video("c+d", "c", "d")]
    ask = another_clips_question(clips)
    assert [ask(clips[0], item) for item in clips[0].expressions] == ["c", "d"]
    with pytest.raises(ValueError, match=r"no other clip can lend 'b\+c'"):
        ask(clips[1], clips[1].expressions[0])


def test_table_and_json(root, tmp_path):
    report = evaluate(Fake(perfect), root, name="perfect", progress=False)
    lines = report.table().splitlines()
    assert "overall J&F 100.0" in lines[0]
    assert len({len(line) for line in lines[1:]}) == 1
    absent = next(line for line in lines if line.startswith("| absent"))
    assert [cell.strip() for cell in absent.strip("|").split("|")] == ["absent", "2", *["–"] * 5, "100.0"]
    written = json.loads(report.save(tmp_path / "new" / "report.json").read_text())
    assert written["overall"] == 1
    assert len(written["expressions"]) == 7
    assert written["expressions"][0]["right"] is True


def test_missing_and_misshapen_answers_are_errors(root):
    system = Fake(perfect)
    system.segment_many = lambda video, questions: []
    with pytest.raises(ValueError, match="'cats/one': expected 4 answers from the system, got 0"):
        evaluate(system, root, progress=False)
    system = Fake(perfect)
    system.answer = lambda video, keys: SimpleNamespace(
        found=True, answer="", score=0, target_frame=0, masks=np.zeros((2, *SIZE), bool)
    )
    with pytest.raises(ValueError, match=r"'cats/one', expression '0': expected masks bool \[4, 12, 20\]"):
        evaluate(system, root, progress=False)


def test_clips_hold_the_listed_frames_only(root):
    record = Revos(root)[0]
    clip = open_clip(record)
    assert len(clip) == NUM_FRAMES
    assert clip.frame_names == record.frame_names
    assert clip.frames(range(len(clip))).shape == (NUM_FRAMES, *SIZE, 3)
    assert abs(int(clip[2].mean()) - 20) <= 1
    cv2.imwrite(str(root / "JPEGImages/cats/one/00001.jpg"), np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(InputError, match=r"00001\.jpg: expected 20x12 pixels.*got 5x5"):
        open_clip(record)[1]


def test_tube_iou():
    assert tube_iou(OBJECTS["0"], OBJECTS["0"]) == 1
    assert tube_iou(OBJECTS["0"], OBJECTS["1"]) == 0
    assert tube_iou(OBJECTS["0"], OBJECTS["0"] & box(1, first=1)) == 0.75
    nothing = np.zeros((2, 3, 3), bool)
    assert tube_iou(nothing, nothing) == 1
