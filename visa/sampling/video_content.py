"""A video's identity: what its frames show, not what its file is called."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

from visa.video import Video

_HASHES: WeakKeyDictionary[Video, str] = WeakKeyDictionary()


def content_hash(video: Video) -> str:
    """sha256 of the frames' size, number and every pixel, 64 hexadecimal digits.

    Reads the whole video, once as long as it is open.
    """
    if video not in _HASHES:
        digest = hashlib.sha256(f"{len(video)}x{video.height}x{video.width}".encode())
        for index in range(len(video)):
            digest.update(video[index].tobytes())
        _HASHES[video] = digest.hexdigest()
    return _HASHES[video]
