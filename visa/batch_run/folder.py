"""The videos of a folder as a run's tasks, and how their answers are written."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dataset.counting import count_of
from visa.batch_run.task import Ask, VideoTask
from visa.errors import InputError
from visa.frame_sources import IMAGE_SUFFIXES, natural_key
from visa.video_signatures import looks_like_video

if TYPE_CHECKING:
    from visa.tracklet import Tracklet
    from visa.video import Video

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .gif .mpg .mpeg .mts .m2ts .ts .wmv .flv .ogv .3gp .h264 .hevc".split()
)
# Of the run's own files in the output folder.
RESERVED_NAMES = frozenset({"results.json", "run.json", "predictions.json"})
# A folder's name is at most 255 bytes long, and the run puts a few before and behind it.
MAX_NAME_BYTES = 200


def folder_tasks(
    folder: str | Path, queries: Sequence[str] | dict[str, list[str]], output: str | Path
) -> tuple[list[VideoTask], list[str]]:
    """What is to be done for a folder.

    Args:
        folder: holds videos, and folders of frames.
        queries: the questions of every video, or those of each by its name in the folder; a name may leave
            its suffix out.
        output: where the results go; not taken for a video if it lies in the folder.

    Returns:
        The tasks, one for each video that is asked about, and warnings. A video that is not there is a task
        that fails.

    Raises:
        InputError: there is no such folder, it holds none of the videos, or two names mean one video.
    """
    if not str(folder):  # `Path` would take the working folder
        raise InputError("the name of the folder of videos is empty; give a folder")
    folder = Path(folder)
    found, others = _videos_in(folder, Path(output))
    warnings = []
    if isinstance(queries, dict):
        asked = _named(folder, queries, found)
        if not any(path.exists() for path in asked):
            raise InputError(
                f"the questions name {count_of(len(asked), 'video')}, and none is in {folder}: "
                f"{', '.join(spoken(path) for path in list(asked)[:3])}"
            )
    else:
        asked = {path: list(queries) for path in found}
        if not found:
            raise InputError(f"{folder} holds no videos: expected such as clip.mp4, or folders of frames")
        if others:
            names = ", ".join(spoken(path.name) for path in others[:5])
            warnings.append(
                f"left out as no videos: {count_of(len(others), 'entry', 'entries')} of {folder}: {names}"
                + (", ..." if len(others) > 5 else "")
            )
    names = _output_names(list(asked))
    for path, questions in asked.items():
        if not questions:
            warnings.append(f"there are no questions about {spoken(path)}")
        if names[path] != spoken(path.stem) and not path.is_dir():
            warnings.append(f"the results of {spoken(path)} go to {names[path]}")
    tasks = [
        VideoTask(
            name=names[path],
            source=spoken(path),
            asks=tuple(Ask(str(number), question) for number, question in enumerate(questions)),
            open=partial(_open, path, tuple(found)),
            num_frames=_estimate_num_frames(path),
            fingerprint=_fingerprint(path),
        )
        for path, questions in asked.items()
    ]
    return tasks, warnings


def clip_task(path: str | Path, video: Video, queries: Sequence[str]) -> VideoTask:
    """What is to be done for one clip that is open already.

    Args:
        path: where it lies.
        video: the clip.
        queries: the questions about it.
    """
    path = Path(path)
    name = _output_names([path.resolve() if path.is_dir() else path])
    return VideoTask(
        name=next(iter(name.values())),
        source=spoken(path),
        # Half a character, as a terminal may pass it on, could not be written to any file.
        asks=tuple(
            Ask(str(number), query.encode("utf-8", "replace").decode("utf-8"))
            for number, query in enumerate(queries)
        ),
        open=lambda: video,
        num_frames=len(video),
        fingerprint=_fingerprint(path),
    )


def spoken(path: Path | str) -> str:
    """A path as text that any file can hold: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def write_tracklet(folder: Path, tracklet: Tracklet, *, cutout: bool = False) -> None:
    """Write an answer as `Tracklet.save` does, and the object cut out if that is wished."""
    tracklet.save(folder)
    if cutout:
        from visa.cutout import write_cutout

        write_cutout(folder, tracklet)


def _videos_in(folder: Path, output: Path) -> tuple[list[Path], list[Path]]:
    """Videos and folders of frames in natural order, and what else lies there; hidden entries are neither."""
    try:
        if not folder.is_dir():
            raise InputError(f"no such folder of videos: {folder}")
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    entries.sort(key=lambda path: (natural_key(path.name), path.name))
    videos, others = [], []
    for path in entries:
        if path.resolve() != output.resolve():
            (videos if _is_video(path) else others).append(path)
    return videos, others


def _is_video(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(_images_in(path))
        return path.is_file() and (path.suffix.lower() in VIDEO_SUFFIXES or looks_like_video(path))
    except OSError:
        return True  # it will fail, and be named, when its turn comes


def _images_in(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
        ]


def _named(folder: Path, queries: dict[str, list[str]], found: list[Path]) -> dict[Path, list[str]]:
    asked: dict[Path, list[str]] = {}
    for name, questions in queries.items():
        path = Path(os.path.normpath(folder / name))
        if "\0" in name or not name or not path.is_relative_to(os.path.normpath(folder)) or path == folder:
            raise InputError(f"the questions name {name!r}: expected the name of a video in {folder}")
        if not path.exists():
            of_that_stem = [other for other in found if other.stem == name]
            path = of_that_stem[0] if len(of_that_stem) == 1 else path
        if path in asked:
            raise InputError(f"the questions name {spoken(path)} twice: put all its questions into one list")
        asked[path] = questions
    return asked


def _output_names(paths: list[Path]) -> dict[Path, str]:
    """A folder's name for every video: its stem where no other has that, its whole name otherwise."""
    stems = [_short(path.name if path.is_dir() else path.stem) for path in paths]
    folded = [stem.lower() for stem in stems]
    names: dict[Path, str] = {}
    taken = set(RESERVED_NAMES)
    # Those whose stem is their own come first, so that they get it whatever the others are called.
    order = sorted(range(len(paths)), key=lambda place: folded.count(folded[place]) > 1)
    for place in order:
        path, name = paths[place], stems[place]
        if folded.count(folded[place]) > 1 or folded[place] in taken or name in (".", "..", ""):
            name = whole = _short(path.name)
            number = 2
            while name.lower() in taken or name in (".", "..", ""):
                name, number = f"{whole} ({number})", number + 1
        taken.add(name.lower())
        names[path] = name
    return names


def _short(name: str) -> str:
    name = spoken(name)
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[: MAX_NAME_BYTES - 13].decode("utf-8", "ignore") + "-" + digest


def _open(path: Path, found: tuple[Path, ...]) -> Video:
    from visa.video import Video

    try:
        return Video.open(path)
    except InputError as error:
        near = difflib.get_close_matches(path.name, [other.name for other in found], n=1)
        if near and str(error).startswith("no such video"):
            raise InputError(f"{error}; did you mean {near[0]!r}?") from error
        raise


def _estimate_num_frames(path: Path) -> int:
    """Frames by the file's header, or the number of images; 1 where neither tells."""
    try:
        if path.is_dir():
            return max(1, len(_images_in(path)))
        if not path.is_file() or (path.suffix.lower() in IMAGE_SUFFIXES and not looks_like_video(path)):
            return 1
        import av

        with av.open(str(path.absolute())) as container:
            stream = container.streams.video[0]
            by_duration = (container.duration or 0) / av.time_base * (stream.average_rate or 24)
            return max(1, stream.frames or int(by_duration))
    except (OSError, ValueError, LookupError, ArithmeticError, RuntimeError):
        return 1


def _fingerprint(path: Path) -> str:
    """Size and time of a file, or those of a folder's images together; "missing" if there is nothing."""
    try:
        if not path.is_dir():
            status = path.stat()
            return f"{status.st_size} bytes, {status.st_mtime_ns}"
        statuses = [entry.stat() for entry in _images_in(path)]
        size, latest = sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=0)
        return f"{len(statuses)} images, {size} bytes, {latest}"
    except (OSError, ValueError):
        return "missing"
