"""Public files fetched once, checked by sha256 and kept in a cache: weights, clips, packages of pictures.

    weights_path = visa.downloads.fetch("mobile_sam.pt")

The cache is $VISA_CACHE, or ~/.cache/visa. A file stands there under its own name in a folder named after its
hash, so one put there by hand is as good as one that was fetched.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from tqdm import tqdm

from visa.download_sources import CHUNK_BYTES, SOURCE_ERRORS, download
from visa.errors import DownloadError
from visa.public_files import FILES, PublicFile, cache_folder

__all__ = ["FILES", "PublicFile", "cache_folder", "fetch", "fetch_file", "fetch_package"]


def fetch(name: str, *, progress: bool = True) -> Path:
    """The path of a public file of `FILES`, downloaded if it is not in the cache.

    Args:
        name: a key of `FILES`.
        progress: draw a progress bar on stderr while downloading.

    Raises:
        ValueError: no such name.
        DownloadError: no source gave the file with the right hash. Nothing half-written is left behind.
    """
    if name not in FILES:
        raise ValueError(f"no public file is called {name!r}; known: {', '.join(FILES)}")
    return fetch_file(FILES[name], progress=progress)


def fetch_package(
    source: str, sha256: str, *, size: int = 0, licence: str = "", progress: bool = True
) -> Path:
    """The path of a whole archive, such as an npm tarball or a wheel, kept and checked as `fetch` does.

    Args:
        source: one source as `PublicFile` has them, without a path inside it: `npm://lodash@4.17.21`.
        sha256: hash of the archive.
        size: its bytes, if known.
        licence: as in `PublicFile`.
        progress: draw a progress bar on stderr while downloading.

    Raises:
        DownloadError: as `fetch`.
    """
    scheme, _, rest = source.partition("://")
    name = rest.rpartition("/")[2] + {"npm": ".tgz", "wheel": ".whl"}.get(scheme, "")
    return fetch_file(PublicFile(name, sha256, size, (source,), licence), progress=progress)


def fetch_file(file: PublicFile, *, progress: bool = True) -> Path:
    """As `fetch`, for a file that `FILES` does not name."""
    failures: list[str] = []
    if file.path.is_file():
        fault = _fault(file.path, file)
        if fault is None:
            return file.path
        failures.append(f"{file.path}: {fault}")
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        # Inside the cache, so that the last step is a rename within one file system; one for each call, so
        # that several processes may fetch the same file at once.
        scratch = tempfile.TemporaryDirectory(prefix=".fetching-", dir=file.path.parent)
    except OSError as error:
        raise DownloadError(
            f"cannot write to the cache {cache_folder()} ({error.strerror}): set VISA_CACHE to another folder"
        ) from error
    with scratch as scratch_folder:
        part_path = Path(scratch_folder) / "part"
        for source in file.sources:
            fault = _try_source(source, part_path, file, progress)
            if fault is None:
                part_path.replace(file.path)
                return file.path
            failures.append(f"{source}: {fault}")
    raise DownloadError(
        f"cannot fetch {file.name} (sha256 {file.sha256}). Tried {'; '.join(failures)}. "
        f"Check the network, or put the file by hand at {file.path}"
    )


def _try_source(source: str, part_path: Path, file: PublicFile, progress: bool) -> str | None:
    """Download from one source; what went wrong on one line, or None."""
    try:
        with tqdm(
            total=file.size or None, desc=file.name, unit="B", unit_scale=True, disable=not progress
        ) as bar:
            download(source, part_path, bar)
    except SOURCE_ERRORS as error:
        return " ".join(str(error).split()) or type(error).__name__
    return _fault(part_path, file)


def _fault(path: Path, file: PublicFile) -> str | None:
    """What is wrong with a file that came, or None."""
    size = path.stat().st_size
    if file.size and size != file.size:
        return f"{size} bytes came, expected {file.size}"
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return None if digest.hexdigest() == file.sha256 else f"wrong content, its sha256 is {digest.hexdigest()}"
