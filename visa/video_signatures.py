"""Whether a file is a video by its first bytes, whatever its name says."""

from __future__ import annotations

from pathlib import Path

# ISO base media files that hold a picture or sound only, by their brand.
_NOT_FILMS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"M4A ", b"M4B ")
_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"GIF8",
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x00\x00\x01\xba",  # MPEG program stream
)


def looks_like_video(path: Path) -> bool:
    """Whether a file starts as one of the common video containers does; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(200)
    except OSError:
        return False
    if start[4:8] == b"ftyp":
        return start[8:12] not in _NOT_FILMS
    if start[:4] == b"RIFF":
        return start[8:11] == b"AVI"
    is_transport_stream = len(start) > 188 and start[0] == start[188] == 0x47
    return start.startswith(_STARTS) or is_transport_stream
