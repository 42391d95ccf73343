"""Tiny video data sets on disk in the official layouts, with the masks that a reader must find in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (12, 16)
FRAMES = ("00000", "00005", "00010")
VIDEOS = ("0a1b2c", "кошка на стене")
CATEGORIES = ("person", "giant_panda")
TEXTS = ("the one on the left", "最右边的熊猫", "le plus âgé", "a cat’s toy")
PALETTE = [0, 0, 0, 236, 95, 103, 249, 145, 87, 250, 200, 99]


@dataclass
class Tiny:
    """What was written.

    Attributes:
        name: The data set's name in the registry.
        split: Which split.
        root: Its folder.
        meta: The file that lists the videos.
        expected: For every video and expression id: text, kind and what is meant, bool [T, H, W].
        frames: The folder of every video's frames.
    """

    name: str
    split: str
    root: Path
    meta: Path
    expected: dict[str, dict[str, tuple[str, str, np.ndarray]]] = field(default_factory=dict)
    frames: dict[str, Path] = field(default_factory=dict)

    def change(self, change: Callable[[dict], object], path: Path | None = None) -> None:
        """Rewrites a JSON file, the meta file by default."""
        path = path or self.meta
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        write_json(path, content)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_frames(folder: Path, names=FRAMES, size=SIZE) -> Path:
    folder.mkdir(parents=True)
    for shade, name in enumerate(names):
        coded, content = cv2.imencode(".jpg", np.full((*size, 3), 40 + 60 * shade, np.uint8))
        assert coded
        (folder / f"{name}.jpg").write_bytes(content.tobytes())  # OpenCV cannot write every name
    return folder


def write_labels(folder: Path, labels: np.ndarray, names=FRAMES, mode: str = "P") -> None:
    """uint8 [T, H, W] as palette (or grey) PNGs."""
    folder.mkdir(parents=True)
    for name, values in zip(names, labels, strict=True):
        image = Image.fromarray(values.astype(np.uint8), "L")
        if mode == "P":
            image.putpalette(PALETTE)
        image.save(folder / f"{name}.png")


def objects(video: str) -> dict[int, np.ndarray]:
    """Objects 1 and 2 of a video, bool [T, H, W]; disjoint; the first leaves before the last frame."""
    shift = VIDEOS.index(video)
    masks = {number: np.zeros((len(FRAMES), *SIZE), bool) for number in (1, 2)}
    for time in range(len(FRAMES)):
        masks[1][time, 1 + time : 4 + time, shift : 5 + shift] = time < 2
        masks[2][time, 5 - time : 11, 8 + shift : 14] = True
    return masks


def label_maps(video: str) -> np.ndarray:
    return sum(number * mask.astype(np.uint8) for number, mask in objects(video).items())


def encode(mask: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}


def encode_runs(mask: np.ndarray) -> dict:
    """COCO's run lengths without compression."""
    values = mask.T.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *edges, values.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if values[0] else runs}


def encode_tube(masks: np.ndarray) -> list[dict | None]:
    return [encode(mask) if mask.any() else None for mask in masks]


def write_revos(root: Path) -> Tiny:
    tiny = Tiny("revos", "valid", root, root / "meta_expressions_valid_.json")
    videos, lists = {}, {}
    for index, video in enumerate(VIDEOS):
        masks = objects(video)
        name = f"UVO/all/{video}"
        keys = {number: 10 * index + number for number in masks}
        lists |= {str(key): encode_tube(masks[number]) for number, key in keys.items()}
        told = {
            "0": (TEXTS[0], "referring", masks[1], [1]),
            "1": (TEXTS[1], "reasoning", masks[1] | masks[2], [1, 2]),
            "2": (TEXTS[2], "absent", masks[1] & False, []),
        }
        videos[name] = {
            "vid_id": index,
            "height": SIZE[0],
            "width": SIZE[1],
            "frames": list(FRAMES),
            "expressions": {
                key: {
                    "exp": text,
                    "type_id": ("referring", "reasoning", "absent").index(kind),
                    "obj_id": numbers,
                    "anno_id": [keys[number] for number in numbers],
                }
                for key, (text, kind, _, numbers) in told.items()
            },
        }
        tiny.expected[name] = {key: value[:3] for key, value in told.items()}
        tiny.frames[name] = write_frames(root / "JPEGImages" / name)
    write_json(tiny.meta, {"videos": videos})
    write_json(root / "mask_dict.json", lists)
    return tiny


def write_mevis(root: Path, split: str = "valid_u") -> Tiny:
    folder = root / split
    tiny = Tiny("mevis", split, root, folder / "meta_expressions.json")
    videos, lists = {}, {}
    for index, video in enumerate(VIDEOS):
        masks = objects(video)
        keys = {number: 10 * index + number for number in masks}
        lists |= {str(key): encode_tube(masks[number]) for number, key in keys.items()}
        meant = {"0": [1], "1": [2, 1], "2": []}
        expressions = {
            key: {
                "exp": TEXTS[int(key)],
                "obj_id": numbers,
                "anno_id": [keys[number] for number in numbers],
            }
            for key, numbers in meant.items()
        }
        if split == "valid":
            expressions = {key: {"exp": item["exp"]} for key, item in expressions.items()}
        videos[video] = {"vid_id": index, "frames": list(FRAMES), "expressions": expressions}
        empty = masks[1] & False
        tiny.expected[video] = {
            key: (
                TEXTS[int(key)],
                "referring" if numbers or split == "valid" else "absent",
                empty if split == "valid" else sum((masks[number] for number in numbers), empty),
            )
            for key, numbers in meant.items()
        }
        tiny.frames[video] = write_frames(folder / "JPEGImages" / video)
    write_json(tiny.meta, {"videos": videos})
    if split != "valid":
        write_json(folder / "mask_dict.json", lists)
    return tiny


def write_ref_youtube_vos(root: Path, split: str = "train", videos=VIDEOS) -> Tiny:
    tiny = Tiny("ref_youtube_vos", split, root, root / "meta_expressions" / split / "meta_expressions.json")
    return _write_labelled(tiny, videos, {"0": 1, "1": 2, "2": 1}, has_masks=split == "train")


def write_ref_davis17(root: Path, split: str = "valid") -> Tiny:
    tiny = Tiny("ref_davis17", split, root, root / "meta_expressions" / split / "meta_expressions.json")
    return _write_labelled(tiny, VIDEOS, {str(index): 1 + index // 4 for index in range(8)}, has_masks=True)


def _write_labelled(tiny: Tiny, videos, meant: dict[str, int], *, has_masks: bool) -> Tiny:
    records, described = {}, {}
    for video in videos:
        masks = objects(video) if video in VIDEOS else objects(VIDEOS[0])
        records[video] = {
            "frames": list(FRAMES),
            "expressions": {
                key: {"exp": TEXTS[int(key) % 4], **({"obj_id": str(number)} if has_masks else {})}
                for key, number in meant.items()
            },
        }
        described[video] = {"objects": {str(n): {"category": CATEGORIES[n - 1]} for n in masks}}
        tiny.expected[video] = {
            key: (TEXTS[int(key) % 4], "referring", masks[number] & has_masks)
            for key, number in meant.items()
        }
        folder = tiny.root / tiny.split
        tiny.frames[video] = write_frames(folder / "JPEGImages" / video)
        if has_masks:
            write_labels(folder / "Annotations" / video, label_maps(video))
    write_json(tiny.meta, {"videos": records})
    if has_masks:
        write_json(tiny.root / tiny.split / "meta.json", {"videos": described})
    return tiny


def write_ref_davis17_download(root: Path) -> Tiny:
    """As DAVIS's and the descriptions' archives unpack: nothing converted, annotator 2 in Latin-1."""
    davis = root / "DAVIS"
    tiny = Tiny("ref_davis17", "valid", root, davis / "ImageSets" / "2017" / "val.txt")
    videos = {"classic-car": VIDEOS[0], "dogs-scale": VIDEOS[1]}  # misspelt in the descriptions
    tiny.meta.parent.mkdir(parents=True)
    tiny.meta.write_text("\n".join(videos) + "\n")
    texts = root / "davis_text_annotations"
    texts.mkdir()
    words = ("the old one", "the one that drives off", "un vieux camarade à l'arrêt", "l'élève au fond")
    names = ("annot1", "annot1_full_video", "annot2", "annot2_full_video")
    for annotator, name in enumerate(names):
        lines = [
            f'{video} {number} "{words[annotator]} {number}"'
            for number in (2, 1)
            for video in ("clasic-car", "dog-scale")
        ]
        encoding = "utf-8" if annotator < 2 else "latin-1"
        (texts / f"Davis17_{name}.txt").write_text("\n".join(lines) + "\n", encoding=encoding)
    for video, like in videos.items():
        masks = objects(like)
        tiny.expected[video] = {
            str(4 * place + annotator): (f"{words[annotator]} {number}", "referring", masks[number])
            for place, number in enumerate((1, 2))
            for annotator in range(4)
        }
        tiny.frames[video] = write_frames(davis / "JPEGImages" / "480p" / video)
        write_labels(davis / "Annotations_unsupervised" / "480p" / video, label_maps(like))
    return tiny


def write_reason_vos(root: Path, release: int = 1) -> Tiny:
    tiny = Tiny("reason_vos", "test", root, root / "meta_expressions.json")
    videos = {}
    for video, source in zip(VIDEOS, ("vipseg", "MeViS"), strict=True):
        masks = objects(video)
        record = {"source": source, "frames": list(FRAMES)}
        listed = [
            {"obj_id": number, "exp_id": number + 4, "exp_text": TEXTS[number], "is_sent": number == 1}
            for number in masks
        ]
        if release == 1:
            record["expressions"] = listed
        else:
            record["is_sent"] = True
            record["expressions"] = {
                str(item["exp_id"]): {"obj_id": str(item["obj_id"]), "exp_text": item["exp_text"]}
                for item in listed
            }
        videos[video] = record
        tiny.expected[video] = {
            str(number + 4): (TEXTS[number], "reasoning", mask) for number, mask in masks.items()
        }
        tiny.frames[video] = write_frames(root / "JPEGImages" / video)
        for number, mask in masks.items():
            folder = root / "Annotations" / f"{source.lower()}_{video}_{number}"
            write_labels(folder, 255 * mask.astype(np.uint8), mode="L")
    write_json(tiny.meta, {"videos": videos})
    return tiny


def write_reason_vos_again(root: Path) -> Tiny:
    return write_reason_vos(root, release=2)


def _by_category(video: str) -> dict[str, tuple[str, str, np.ndarray]]:
    return {
        str(number - 1): (CATEGORIES[number - 1].replace("_", " "), "referring", mask)
        for number, mask in objects(video).items()
    }


def write_youtube_vos(root: Path) -> Tiny:
    tiny = Tiny("youtube_vos", "train", root, root / "train" / "meta.json")
    videos = {}
    for video in VIDEOS:
        videos[video] = {
            "objects": {
                str(number): {"category": CATEGORIES[number - 1], "frames": list(FRAMES)}
                for number in objects(video)
            }
        }
        tiny.expected[video] = _by_category(video)
        tiny.frames[video] = write_frames(root / "train" / "JPEGImages" / video)
        write_labels(root / "train" / "Annotations" / video, label_maps(video))
    write_json(tiny.meta, {"videos": videos})
    return tiny


def write_lv_vis(root: Path) -> Tiny:
    """The official file; masks in both of COCO's run-length forms."""
    tiny = Tiny("lv_vis", "train", root, root / "train_instances.json")
    content = {
        "categories": [{"id": 7 + index, "name": name} for index, name in enumerate(CATEGORIES)],
        "videos": [],
        "annotations": [],
    }
    for index, video in enumerate(VIDEOS):
        names = [f"{video}/{name}.jpg" for name in FRAMES]
        content["videos"].append(
            {"id": 100 + index, "file_names": names, "height": SIZE[0], "width": SIZE[1], "length": 3}
        )
        for number, masks in objects(video).items():
            tube = [encode_runs(mask) if mask.any() else None for mask in masks]
            content["annotations"].append(
                {
                    "id": 10 * index + number,
                    "video_id": 100 + index,
                    "category_id": 6 + number,
                    "segmentations": tube if number == 1 else encode_tube(masks),
                }
            )
        tiny.expected[video] = _by_category(video)
        tiny.frames[video] = write_frames(root / "train" / "JPEGImages" / video)
    write_json(tiny.meta, content)
    return tiny


def write_lv_vis_as_visa(root: Path) -> Tiny:
    tiny = Tiny("lv_vis", "train", root, root / "train" / "meta_expressions.json")
    videos, lists = {}, {}
    for index, video in enumerate(VIDEOS):
        masks = objects(video)
        lists |= {str(10 * index + number): encode_tube(mask) for number, mask in masks.items()}
        videos[video] = {
            "vid_id": index,
            "frames": list(FRAMES),
            "expressions": {
                str(number - 1): {
                    "exp": CATEGORIES[number - 1],
                    "obj_id": [number],
                    "anno_id": [10 * index + number],
                }
                for number in masks
            },
        }
        tiny.expected[video] = _by_category(video)
        tiny.frames[video] = write_frames(root / "train" / "JPEGImages" / video)
    write_json(tiny.meta, {"videos": videos})
    write_json(root / "train" / "mask_dict.json", lists)
    return tiny


WRITERS: dict[str, Callable[[Path], Tiny]] = {
    "revos": write_revos,
    "mevis": write_mevis,
    "ref_youtube_vos": write_ref_youtube_vos,
    "ref_davis17": write_ref_davis17,
    "ref_davis17 as downloaded": write_ref_davis17_download,
    "reason_vos": write_reason_vos,
    "reason_vos again": write_reason_vos_again,
    "youtube_vos": write_youtube_vos,
    "lv_vis": write_lv_vis,
    "lv_vis as VISA": write_lv_vis_as_visa,
}
