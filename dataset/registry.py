"""Every data set by name: what the command lines and the training mixtures open."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dataset.errors import DatasetError

if TYPE_CHECKING:
    from dataset.reader import Reader


@dataclass(frozen=True)
class Entry:
    """A data set that can be opened.

    Attributes:
        reader: "module:Class" below `dataset`; imported when opened.
        about: What it is, in a line.
    """

    reader: str
    about: str


VIDEOS: dict[str, Entry] = {
    "revos": Entry("revos:Revos", "ReVOS, and our own benchmark: reasoning about videos"),
    "mevis": Entry("mevis:Mevis", "MeViS: expressions of motion"),
    "ref_youtube_vos": Entry("ref_youtube_vos:RefYoutubeVos", "Ref-YouTube-VOS: descriptions of objects"),
    "ref_davis17": Entry("ref_davis17:RefDavis17", "Ref-DAVIS17: descriptions by four annotators"),
    "reason_vos": Entry("reason_vos:ReasonVos", "ReasonVOS: reasoning about videos, for testing"),
    "lv_vis": Entry("lv_vis:LvVis", "LV-VIS: names of 1,196 categories"),
    "youtube_vos": Entry("youtube_vos:YoutubeVos", "YouTube-VOS: names of categories"),
}

# Images and questions in words: one line each.
IMAGES: dict[str, Entry] = {
    "refcoco": Entry("refer:Refcoco", "RefCOCO: phrases about objects in images"),
    "refcoco+": Entry("refer:RefcocoPlus", "RefCOCO+: such phrases without words of place"),
    "refcocog": Entry("refer:Refcocog", "RefCOCOg: longer phrases"),
    "refclef": Entry("refer:Refclef", "RefCLEF: phrases about regions of tourists' photographs"),
    "grefcoco": Entry("refer:Grefcoco", "gRefCOCO: phrases that mean several objects, or none"),
    "reason_seg": Entry("reason_seg:ReasonSeg", "ReasonSeg: reasoning about images"),
    "ade20k": Entry("semantic:Ade20k", "ADE20K: 150 classes of scenes"),
    "cocostuff": Entry("semantic:CocoStuff", "COCO-Stuff: things and stuff"),
    "mapillary": Entry("semantic:Mapillary", "Mapillary Vistas 2.0: streets"),
    "paco_lvis": Entry("parts:PacoLvis", "PACO-LVIS: objects and their parts"),
    "pascal_part": Entry("parts:PascalPart", "Pascal-Part: animals, vehicles and their parts"),
    "llava_instruct": Entry("llava_instruct:LlavaInstruct", "LLaVA-Instruct: talk about images"),
    "chat_univi_mimic": Entry("chat_univi:Mimic", "Chat-UniVi's MIMIC-IT: talk about one or more images"),
    "chat_univi_sqa": Entry("chat_univi:ScienceQa", "Chat-UniVi's ScienceQA: questions with a picture"),
    "chat_univi_video": Entry("chat_univi:VideoTalk", "Chat-UniVi's talk about videos"),
}


def names() -> tuple[str, ...]:
    """All names that `open_dataset` takes."""
    return (*VIDEOS, *IMAGES)


def registered_name(name: str) -> str:
    """The one of `names()` that is meant; capitals, "-" and "_" do not matter: "ReasonSeg" is "reason_seg".

    Raises:
        DatasetError: No such data set.
    """
    known = {_plain(key): key for key in names()}
    if _plain(name) not in known:
        close = get_close_matches(name.lower().replace("-", "_"), names(), 1)
        hint = f"did you mean {close[0]!r}?" if close else f"it may be {', '.join(names())}"
        raise DatasetError(f"no data set {name!r}: {hint}", "unknown data set")
    return known[_plain(name)]


def entry(name: str) -> Entry:
    """What stands under a name, as `registered_name` takes it.

    Raises:
        DatasetError: No such data set.
    """
    return {**VIDEOS, **IMAGES}[registered_name(name)]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def reader_class(name: str) -> type[Reader]:
    """The reader of a name; its `splits` tell which there are.

    Raises:
        DatasetError: No such data set.
    """
    module, _, attribute = entry(name).reader.partition(":")
    return getattr(import_module(f"dataset.{module}"), attribute)


def open_dataset(name: str, root: str | Path, split: str | None = None, *, lenient: bool = False) -> Reader:
    """Opens a data set on disk.

    Args:
        name: One of `names()`.
        root: Its folder.
        split: One of its splits; None for the one that is evaluated on.
        lenient: Leave broken clips and expressions out (they are in `skipped`) instead of raising.

    Raises:
        DatasetError: No such name or split, or the folder is not as the data set's layout says.
    """
    return reader_class(name)(root, split, lenient=lenient)
