"""Image and talk data sets of two or three pictures, written to disk in their official layouts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (6, 8)


def write_picture(path: Path, size: tuple[int, int] = SIZE, value: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def write_labels(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def write_json(path: Path, content: object, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def polygon(top: int, left: int, bottom: int, right: int) -> list[float]:
    """The corners of a box, x before y."""
    return [left, top, right, top, right, bottom, left, bottom]


def rle(mask: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}


def sentences(first: int, *texts: str) -> list[dict]:
    return [
        {"sent_id": first + place, "sent": text, "raw": text, "tokens": text.split()}
        for place, text in enumerate(texts)
    ]


def refer_records() -> list[dict]:
    return [
        {
            "ref_id": 1,
            "ann_id": 11,
            "image_id": 1,
            "split": "train",
            "sentences": sentences(0, "Left CUP", "cup"),
        },
        {"ref_id": 2, "ann_id": 12, "image_id": 1, "split": "train", "sentences": sentences(2, "tasse café")},
        {"ref_id": 3, "ann_id": 21, "image_id": 2, "split": "val", "sentences": sentences(3, "dog")},
        {"ref_id": 4, "ann_id": 31, "image_id": 3, "split": "train", "sentences": sentences(4, "the sky")},
    ]


def instances() -> dict:
    height, width = SIZE
    return {
        "images": [
            {"id": key, "file_name": f"COCO_train2014_{key:012d}.jpg", "height": height, "width": width}
            for key in (1, 2, 3)
        ],
        "annotations": [
            {
                "id": 11,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [polygon(0, 0, 3, 2), polygon(4, 0, 6, 2)],
            },
            {"id": 12, "image_id": 1, "category_id": 1, "segmentation": rle(box(0, 4, 6, 8))},
            {
                "id": 21,
                "image_id": 2,
                "category_id": 2,
                "segmentation": [rle(box(0, 0, 1, 1)), rle(box(2, 2, 3, 3))],
            },
            {"id": 31, "image_id": 3, "category_id": 3, "segmentation": [polygon(0, 0, 2, 8)]},
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "sky"}],
    }


def write_refer(
    root: Path, folder: str = "refcoco", references: str = "refs(unc).p", records: object = None
) -> None:
    """Below a `refer_seg` folder."""
    records = refer_records() if records is None else records
    write_json(root / folder / "instances.json", instances())
    if references.endswith(".p"):
        (root / folder / references).write_bytes(pickle.dumps(records, protocol=2))
    else:
        write_json(root / folder / references, records)
    for key in (1, 2, 3):
        write_picture(root / "images/mscoco/images/train2014" / f"COCO_train2014_{key:012d}.jpg")


def square(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    """Corner points of a box whose last row and column are inside, as outlines are drawn."""
    return [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]


def write_reason_seg(root: Path) -> None:
    """As a `ReasonSeg` folder: a sentence with reasons and a phrase in train, one image in val."""
    shapes = [
        {"label": "ignore", "points": square(1, 1, 3, 3)},
        {"label": "target", "points": square(0, 0, 6, 4)},
        {"label": "flag", "points": [[5, 5]]},
    ]
    for split, name, sentence, texts in (
        ("train", "a", True, ["Who pours the tea?", "Which one “serves”?"]),
        ("train", "b", False, ["something To drink"]),
        ("val", "c", True, ["What is it for?"]),
    ):
        write_picture(root / split / f"{name}.jpg")
        encoding = "cp1252" if name == "a" else "utf-8"
        content = {"text": texts, "is_sentence": sentence, "shapes": shapes}
        write_json(root / split / f"{name}.json", content, encoding)
    reasons = [{"image": "a.jpg", "query": "Who pours the tea?", "outputs": "The host serves guests."}]
    write_json(root / "explanatory" / "train.json", reasons)


def write_ade20k(root: Path, split: str = "training") -> np.ndarray:
    """As the folder of all data sets; returns the label map of its one image."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:3], labels[3:, :4] = 1, 2
    write_picture(root / "ade20k" / "images" / split / "ADE_1.jpg")
    write_labels(root / "ade20k" / "annotations" / split / "ADE_1.png", labels)
    table = (
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.15\t11664\t1172\twall\n2 \t0.1\t6046\t612\tbuilding, edifice \n"
    )
    (root / "ade20k" / "objectInfo150.txt").write_text(table)
    return labels


def write_cocostuff(root: Path) -> np.ndarray:
    labels = np.full(SIZE, 255, np.uint8)
    labels[0], labels[1], labels[2], labels[3] = 0, 95, 181, 11
    write_picture(root / "coco" / "train2017" / "000000000009.jpg")
    write_labels(root / "cocostuff" / "train2017" / "000000000009.png", labels)
    return labels


def write_mapillary(root: Path) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[2:], labels[4:] = 1, 2
    write_picture(root / "mapillary" / "training" / "images" / "street.jpg")
    write_labels(root / "mapillary" / "training" / "v2.0" / "labels" / "street.png", labels)
    names = [
        {"name": "animal--bird", "readable": "Bird", "evaluate": True},
        {"name": "nature--sky", "readable": "Sky", "evaluate": True},
        {"name": "void--unlabeled", "readable": "Unlabeled", "evaluate": False},
    ]
    write_json(root / "mapillary" / "config_v2.0.json", {"labels": names})
    return labels


def parts_table(folder: str = "") -> dict:
    height, width = SIZE
    return {
        "images": [
            {"id": key, "file_name": f"{folder}{key}.jpg", "height": height, "width": width} for key in (1, 2)
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon(0, 0, 2, 2)]},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": rle(box(0, 0, 1, 1))},
            {"id": 3, "image_id": 1, "category_id": 2, "segmentation": rle(box(4, 4, 6, 8))},
        ],
        "categories": [
            {"id": 1, "name": "mug_(container)"},
            {"id": 2, "name": "mug_(container):inner_handle"},
        ],
    }


def write_paco(root: Path) -> None:
    write_json(root / "vlpart/paco/annotations/paco_lvis_v1_train.json", parts_table("train2017/"))
    write_picture(root / "coco" / "train2017" / "1.jpg")


def write_pascal_part(root: Path) -> None:
    table = parts_table()
    table["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog:head"}]
    write_json(root / "vlpart/pascal_part/train.json", table)
    write_picture(root / "vlpart/pascal_part/VOCdevkit/VOC2010/JPEGImages/1.jpg")


def talk(image: object, *pairs: tuple[str, str], key: str = "image", name: str = "x") -> dict:
    said = [
        {"from": who, "value": text}
        for pair in pairs
        for who, text in zip(("human", "gpt"), pair, strict=True)
    ]
    return {"id": name, **({key: image} if image is not None else {}), "conversations": said}


def write_llava(root: Path) -> None:
    write_picture(root / "coco" / "train2017" / "000000000009.jpg")
    records = [
        talk("000000000009.jpg", ("What is this?\n<image>", "A bowl."), ("Is it full?", "Yes.")),
        talk("000000000009.jpg", ("<image>\nDescribe it.", "Soup.")),
    ]
    write_json(root / "llava_dataset" / "llava_instruct_150k.json", records)


def write_chat_univi(root: Path) -> None:
    """Images of both other kinds; the videos are written by the tests that need them."""
    mimic = root / "Fine-tuning" / "MIMIC_imageonly"
    write_picture(mimic / "CGD" / "images" / "CGD_IMG_1.png", (4, 5))
    write_picture(mimic / "CGD" / "images" / "CGD_IMG_2.png", (7, 3))
    write_picture(mimic / "SD" / "images" / "SD_IMG_1.png")
    pair = ["CGD_IMG_1.png", "CGD_IMG_2.png"]
    records = [
        talk(pair, ("<image><image>\nWhat differs?", "The hat."), ("And the sky?", "It is darker.")),
        talk("SD_IMG_1.png", ("<image>\nWhat is here?", "A field.")),
    ]
    write_json(mimic / "MIMIC-IT-imageonly.json", records)
    school = root / "ScienceQA_tuning"
    write_picture(school / "train" / "7" / "image.png")
    records = [
        talk("7\\image.png", ("Which force?\n<image>", "The answer is B.")),
        talk(None, ("No picture here?", "None.")),
    ]
    write_json(school / "llava_train_QCM-LEA.json", records)


def write_mevis(root: Path, lengths: dict[str, int], split: str = "train") -> None:
    """Videos whose object 0 is the upper half in even frames, and object 1 a corner in all of them."""
    videos, masks = {}, {}
    for number, (name, length) in enumerate(lengths.items()):
        frames = [f"{index:05d}" for index in range(length)]
        for index, frame in enumerate(frames):
            write_picture(root / split / "JPEGImages" / name / f"{frame}.jpg", value=60 * number + index + 5)
        masks[str(2 * number)] = [None if index % 2 else rle(box(0, 0, 3, 8)) for index in range(length)]
        masks[str(2 * number + 1)] = [rle(box(4, 6, 6, 8)) for _ in frames]
        expressions = {
            str(place): {"exp": f"{text} {name}", "obj_id": [place], "anno_id": [2 * number + place]}
            for place, text in enumerate(("Upper half of", "corner of"))
        }
        videos[name] = {"expressions": expressions, "vid_id": number, "frames": frames}
    write_json(root / split / "meta_expressions.json", {"videos": videos})
    write_json(root / split / "mask_dict.json", masks)
