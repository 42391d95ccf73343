"""The ablation in one command, and attention before and after steering in one picture, with fakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

import visa
from tests.steerseg_fakes import ColourBackbone, squares
from tests.test_steerseg_pipeline import NUM_FRAMES, path, prompt, system
from visa.errors import InputError
from visa.steerseg.picture import compare_steering, draw_attention, draw_rows

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class Dazzled(ColourBackbone):
    """Looks at the wrong colour unless it is steered."""

    def forward(self, packed, *, soft_prompt=None, return_attention=None):
        if soft_prompt is None:
            packed.inputs["question"] = "the blue one"
        return super().forward(packed, soft_prompt=soft_prompt, return_attention=return_attention)


def written(root: Path) -> Path:
    """Two clips in the ReVOS layout, the red and the green square asked for in each."""
    videos, lists = {}, {}
    for name, top, other in (("high", 4, 40), ("low", 40, 4)):
        places = {"red": path(2, top), "green": path(72, other, -4), "blue": [(40, 22)] * NUM_FRAMES}
        video, masks = squares(places)
        folder = root / "JPEGImages" / name
        folder.mkdir(parents=True)
        names = [f"{index:05d}" for index in range(NUM_FRAMES)]
        for index, frame in enumerate(names):
            Image.fromarray(video[index]).save(folder / f"{frame}.png")
        expressions = {}
        for number, colour in enumerate(("red", "green")):
            key = str(len(lists))
            lists[key] = [
                {
                    "size": list(mask.shape),
                    "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode(),
                }
                for mask in masks[colour].astype(np.uint8)
            ]
            expressions[str(number)] = {
                "exp": f"the {colour} square", "type_id": 0, "obj_id": [int(key)], "anno_id": [int(key)]
            }  # fmt: skip
        videos[name] = {
            "frames": names, "height": video.height, "width": video.width, "expressions": expressions
        }  # fmt: skip
    (root / "meta_expressions_valid_.json").write_text(json.dumps({"videos": videos}))
    (root / "mask_dict.json").write_text(json.dumps(lists))
    return root


@pytest.fixture
def ablation(monkeypatch, tmp_path):
    """Runs the command over the two clips; returns the backbone that was asked."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("VISA_CACHE", str(tmp_path / "cache"))
    import steerseg

    def run(*arguments: str):
        backbone = Dazzled()

        def load(model, **options):
            if model == "other":
                raise InputError("no model is called 'other'")
            return system(
                backbone, prompts=[prompt("frame"), prompt("video")], ranking={"absent_below": None}
            )

        monkeypatch.setattr(visa, "load", load)
        root = tmp_path / "data"
        code = steerseg.main([str(root if root.exists() else written(root)), *arguments])
        return code, backbone

    return run


def table(text: str) -> dict[str, float]:
    """J&F of each row that was printed."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("row "))
    rows = {}
    for line in lines[begin + 1 :]:
        if not line.strip():
            break
        rows[line[:16].strip()] = float(line[16:].split()[1])
    return rows


def test_one_command_makes_the_table(ablation, capsys):
    code, backbone = ablation()
    assert code == 0
    rows = table(capsys.readouterr().out)
    assert list(rows) == [
        "as loaded", "no prompt", "attributes", "both streams", "frame only", "video only",
        "threshold 0.5", "threshold 0.65", "threshold 0.9", "argmax",
    ]  # fmt: skip
    assert rows["as loaded"] == 100
    assert rows["no prompt"] == 0
    # Two clips, two questions: each is looked at once steered and once not, whatever the number of rows.
    steered = [size for _, size in backbone.forwards if size is not None]
    assert len(steered) == len(backbone.forwards) - len(steered) == 2 * 2 * (5 + 1)


def test_rows_can_be_chosen(ablation, capsys):
    code, _ = ablation("--only", "argmax", "threshold 0.5", "--keyframes", "3")
    assert code == 0
    assert list(table(capsys.readouterr().out)) == ["as loaded", "threshold 0.5", "argmax"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "everything"), "no row 'everything'"),
        (("--beside", "other"), "no model is called 'other'"),
    ],
)
def test_a_mistake_gives_one_line(ablation, capsys, arguments, said):
    code, _ = ablation(*arguments)
    assert code == 2
    assert said in capsys.readouterr().err


def test_attention_is_drawn_where_it_is():
    frame = np.full((40, 80, 3), 120, np.uint8)
    attention = torch.zeros(4, 8)
    attention[1, 6] = 1
    drawn = draw_attention(frame, attention).astype(int)
    assert drawn.shape == frame.shape
    row, col = np.unravel_index(drawn[..., 0].argmax(), drawn.shape[:2])
    assert 10 <= row < 20
    assert 60 <= col < 70
    assert (drawn[30:, :20] < 120).all()


@pytest.mark.parametrize(("frames", "size"), [(4, (64, 96)), (1, (96, 64))])
def test_a_picture_has_a_row_for_each_attention(frames, size):
    shown = np.zeros((frames, *size, 3), np.uint8)
    rows = {"before": torch.zeros(frames, 3, 4), "after": torch.ones(frames, 3, 4)}
    one = draw_rows("a question " * 30, shown, {"before": rows["before"]})
    both = draw_rows("a question " * 30, shown, rows)
    assert one.width == both.width == 1280
    assert both.height > one.height + 100


def test_steering_is_compared_on_the_same_frames():
    video, _ = squares({"red": path(2, 4), "blue": [(40, 44)] * NUM_FRAMES})
    backbone = Dazzled()
    picture = compare_steering(
        system(backbone, prompts=[prompt("frame"), prompt("video")]), video, "the red one"
    )
    assert picture.width == 1280
    assert {size for _, size in backbone.forwards} == {None, (4, 8)}
    pixels = np.asarray(picture).astype(int)
    half = len(pixels) // 2
    assert (pixels[:half] != pixels[half : 2 * half]).any()


def test_without_prompts_there_is_nothing_to_compare():
    video, _ = squares({"red": path(2, 4)})
    with pytest.raises(InputError, match="no soft prompts"):
        compare_steering(system(), video, "the red one")
