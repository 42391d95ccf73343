"""A folder run on a disk that is really full: it stops with what is done, and goes on where there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic_clips import write_clip
from tests.test_folder_resume import asked_in

ROOT = Path(__file__).parent.parent
QUESTIONS = [f"thing {number}" for number in range(6)]
# A disk of its own for the program, in a mount namespace that goes with it; what was written is carried over.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=$SIZE tmpfs "$DISK" || exit 99
[ -d "$KEPT" ] && cp -a "$KEPT" "$DISK/out"
"$@"
code=$?
rm -rf "$KEPT"
cp -a "$DISK/out" "$KEPT"
exit $code
"""


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    write_clip(folder / "a.mp4", 8, height=240, width=320)
    (tmp_path / "queries.json").write_text(json.dumps(QUESTIONS))
    return folder


def run(films: Path, size: str) -> subprocess.CompletedProcess[str]:
    """The command with the fake segmenter, writing to a disk of that size; its output is in `kept`."""
    folder = films.parent
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.folder_fakes", "--video-folder", str(films), "--queries"]
    command += [str(folder / "queries.json"), "--output", str(disk / "out")]
    settings = {"SIZE": size, "DISK": str(disk), "KEPT": str(folder / "kept"), "ASKED": str(folder / "asked")}
    whole = ["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", *command]
    done = subprocess.run(
        whole,
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 99 or "unshare failed" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    return done


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="a disk is mounted by root on Linux",
)
def test_a_full_disk_ends_the_run_and_keeps_what_is_done(films: Path, tmp_path: Path) -> None:
    first = run(films, "400k")
    assert first.returncode == 1, first.stderr
    (error,) = [line for line in first.stderr.splitlines() if "error: " in line]
    assert error.endswith(": No space left on device; what is done is kept")
    kept = tmp_path / "kept"
    answered = json.loads((kept / "a" / "manifest.json").read_text())["answered"]
    assert 0 < len(answered) < len(QUESTIONS)
    for number in answered:
        assert json.loads((kept / "a" / number / "result.json").read_text())["found"] is True
    assert {path.name for path in (kept / "a").iterdir()} == {"manifest.json", *answered}, "no halves"

    num_asked = len(asked_in(tmp_path / "asked"))
    second = run(films, "40m")
    assert second.returncode == 0, second.stderr
    again = [words for _, words in asked_in(tmp_path / "asked")[num_asked:]]
    assert again == [f"a: {words}" for words in QUESTIONS[len(answered) :]]
    assert json.loads((kept / "results.json").read_text())["done"] is True
