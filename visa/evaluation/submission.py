"""Archives for the servers of MeViS and Ref-YouTube-VOS, whose true masks are not public.

    MeViS              <video>/<expression id>/<frame>.png
    Ref-YouTube-VOS    Annotations/<video>/<expression id>/<frame>.png

Every mask is an 8 bit grey PNG of the frame's size, 0 or 255.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dataset import registry
from dataset.clip import Clip, Expression
from dataset.counting import count_of
from dataset.reader import Reader
from visa.errors import InputError
from visa.evaluation.predictions import Predictions

PREFIXES = {"mevis": "", "ref_youtube_vos": "Annotations/"}
SPLIT = "valid"  # what both servers score
MAX_NAMED = 5


def prefix_for(name: str) -> str:
    """What stands before the video's name in the archive of a data set.

    Raises:
        InputError: The data set has no server.
    """
    known = registry.registered_name(name)
    if known not in PREFIXES:
        raise InputError(f"there are archives for {' and '.join(PREFIXES)} only, not for {name}")
    return PREFIXES[known]


def write_submission(
    path: Path, predictions: Predictions, name: str, reader: Reader, *, progress=True
) -> int:
    """Writes an archive and checks it against the official layout.

    Args:
        path: The archive; it appears only when it is whole and has passed.
        predictions: What goes into it.
        name: The data set.
        reader: Its split that the server scores.
        progress: Draw a progress bar on stderr.

    Returns:
        The number of masks.

    Raises:
        InputError: Predictions are missing or broken; the first of them are named, and nothing is written.
    """
    from tqdm import tqdm

    prefix = prefix_for(name)
    faults = [str(error) for error in reader.skipped]
    partial = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:  # a PNG is packed already
            for clip in tqdm(reader, "packing", unit="clip", disable=not progress):
                for expression in clip.expressions:
                    try:
                        _add(archive, prefix, clip, expression, predictions)
                    except (ValueError, OSError) as error:
                        faults.append(f"{clip.name}, expression {expression.id!r}: {error}")
        if faults:
            more = f" and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
            raise InputError(
                f"no archive written, {count_of(len(faults), 'fault')}: {'; '.join(faults[:MAX_NAMED])}{more}"
            )
        if faults := check_submission(partial, name, reader):
            raise InputError(f"no archive written: {faults[0]}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(list(_entries(prefix, reader)))


def check_submission(path: Path, name: str, reader: Reader) -> list[str]:
    """What is wrong with an archive, a line each; nothing if it has the official layout."""
    from PIL import Image

    expected = dict(_entries(prefix_for(name), reader))
    faults = []
    try:
        with zipfile.ZipFile(path) as archive:
            entries = Counter(entry for entry in archive.namelist() if not entry.endswith("/"))
            faults += [
                f"{path}: {entry} is in it {count} times" for entry, count in entries.items() if count > 1
            ]
            faults += [f"{path}: {entry} is missing" for entry in expected if entry not in entries]
            faults += [f"{path}: {entry} does not belong in it" for entry in entries if entry not in expected]
            for entry in entries.keys() & expected.keys():
                try:
                    with Image.open(io.BytesIO(archive.read(entry))) as image:
                        image.load()
                        mode, size = image.mode, (image.height, image.width)
                except (OSError, ValueError, SyntaxError) as error:
                    faults.append(f"{path}: {entry} is no picture ({error})")
                    continue
                clip = expected[entry]
                if mode not in ("L", "P", "1") or size != (clip.height, clip.width):
                    faults.append(
                        f"{path}: {entry}: expected a grey mask of {clip.width}x{clip.height}, "
                        f"got {mode} {size[1]}x{size[0]}"
                    )
    except (OSError, zipfile.BadZipFile) as error:
        return [f"{path}: not a whole archive ({error})"]
    return faults


def _entries(prefix: str, reader: Reader) -> Iterator[tuple[str, Clip]]:
    for clip in reader:
        for expression in clip.expressions:
            for frame in clip.frame_names:
                yield f"{prefix}{clip.name}/{expression.id}/{frame}.png", clip


def _add(
    archive: zipfile.ZipFile, prefix: str, clip: Clip, expression: Expression, predictions: Predictions
) -> None:
    """Adds one expression's masks, all of them or none."""
    from PIL import Image

    masks = predictions.find(clip, expression)
    encoded = []
    for index in range(len(clip.frame_names)):
        mask = (masks.read([index])[0] != 0).astype(np.uint8) * np.uint8(255)
        png = io.BytesIO()
        Image.fromarray(mask).save(png, "PNG")
        encoded.append(png.getvalue())
    for frame, content in zip(clip.frame_names, encoded, strict=True):
        # a fixed date, so that the same masks make the same archive
        info = zipfile.ZipInfo(f"{prefix}{clip.name}/{expression.id}/{frame}.png", (1980, 1, 1, 0, 0, 0))
        info.external_attr = 0o644 << 16
        archive.writestr(info, content)
