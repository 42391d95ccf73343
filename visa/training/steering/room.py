"""Whether a backbone shows frames in as few tokens as the settings leave it; it is told before anything else.

Most families always show a frame in the same number of tokens, or in one of a few; fewer they refuse. Without
this it would come out after hours: the video stream is trained last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dataset.clip import Clip
from dataset.errors import DatasetError
from model.backbones.backbone import Backbone
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import Stream
from visa.errors import InputError
from visa.steerseg.attention import Looking
from visa.training.steering.settings import STREAMS, SteeringSettings


def check_room(backbone: Backbone, clips: Sequence[Clip], settings: SteeringSettings) -> None:
    """Pack a frame of a clip as each stream will be.

    Raises:
        InputError: a stream's ``max_tokens`` is too small for the backbone.
    """
    frame = _some_frame(clips)
    for stream in STREAMS:
        if frame is None or not _is_read(stream, settings):
            continue
        max_tokens = settings.stream(stream).max_tokens or None
        looking = Looking(backbone, RolloutSettings(), max_tokens={stream: max_tokens})
        with refusals_told(stream, max_tokens):
            looking.pack(frame[None], "?", stream, None if stream == "frame" else [0.0])


@contextmanager
def refusals_told(stream: Stream, max_tokens: int | None) -> Iterator[None]:
    """What a backbone refuses to pack, in one line that names the setting.

    Raises:
        InputError: in place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        name = f"the {stream} stream" if max_tokens is None else f"{stream}.max_tokens={max_tokens}"
        raise InputError(f"{name}: {' '.join(str(error).split())}") from error


def _is_read(stream: Stream, settings: SteeringSettings) -> bool:
    """Attributes are asked for about a video."""
    return stream in settings.streams or (stream == "video" and bool(settings.data.attributes.file))


def _some_frame(clips: Sequence[Clip]) -> np.ndarray | None:
    """The first frame uint8 [H, W, 3] that can be read; None: there is none."""
    for clip in clips:
        try:
            return np.asarray(clip.frames[0])
        except DatasetError:
            continue
    return None
