"""What the page accepts: how large, how long, and which kinds of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataset.counting import count_of
from visa.errors import InputError

if TYPE_CHECKING:
    from visa.video import Video

KINDS = "mp4, mov, mkv, webm, avi, gif, jpg, png or webp file"
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".jpg", ".jpeg", ".png", ".webp")
# The first atom of an mp4 or mov file: most begin with ftyp, old ones of QuickTime with another.
_MP4_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_SIGNATURES = (b"\x1a\x45\xdf\xa3", b"GIF87a", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_RIFF_FORMS = (b"AVI ", b"WEBP")


@dataclass(frozen=True)
class Limits:
    """How much one visitor may ask of the machine.

    megabytes: of an uploaded file, 2**20 bytes each.
    seconds: of a clip.
    frames: of a clip; its own, for a file may lie about its rate.
    megapixels: of all frames of a clip together, 10**6 each: a mask takes a byte for each pixel.
    """

    megabytes: int = 200
    seconds: float = 60.0
    frames: int = 2000
    megapixels: int = 1500

    @property
    def bytes(self) -> int:
        """The largest upload."""
        return self.megabytes * 2**20

    def check_file(self, path: Path, name: str) -> None:
        """Whether a file may be given to a decoder.

        Decoders go by a file's content and not by its name, and some kinds are lists of other files (HLS,
        DASH, ffconcat), which a decoder would read on the uploader's behalf. So only known signatures pass.

        Args:
            path: the file. name: as its owner calls it.

        Raises:
            InputError: it is empty, too large, or of another kind.
        """
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{name} is an empty file")
        if size > self.bytes:
            raise InputError(f"{name} has {size / 2**20:.0f} MB; this page takes at most {self.megabytes}")
        with path.open("rb") as file:
            start = file.read(16)
        is_known = (
            start[4:8] in _MP4_ATOMS
            or start.startswith(_SIGNATURES)
            or (start.startswith(b"RIFF") and start[8:12] in _RIFF_FORMS)
        )
        if not is_known:
            raise InputError(f"{name} is not a clip that this page reads: give one {KINDS}")

    def check_length(self, video: Video, name: str) -> None:
        """Whether a clip may be asked about.

        Raises:
            InputError: it is too long, or its frames are too large for their number.
        """
        seconds, frames = len(video) / video.fps, count_of(len(video), "frame")
        if len(video) > self.frames or seconds > self.seconds:
            raise InputError(
                f"{name} has {frames}, {seconds:.1f} s; this page takes at most "
                f"{count_of(self.frames, 'frame')} and {self.seconds:g} s: cut it, or run inference.py, "
                "which has no limit"
            )
        pixels = len(video) * video.height * video.width / 1e6
        if pixels > self.megapixels:
            raise InputError(
                f"{name} has {frames} of {video.width}×{video.height}, {pixels:.0f} megapixels "
                f"in all; this page takes at most {self.megapixels}: shrink or cut it"
            )
