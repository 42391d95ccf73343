"""What is finished of one video, on disk: `<output>/<video>/manifest.json`.

The file is replaced as a whole, so at any moment it is true: an answer stands in it once its folder is
complete. Only the process that holds the video's lock writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visa.batch_run.task import Ask, VideoTask
from visa.commands.output import write_json

MANIFEST_NAME = "manifest.json"
RESULT_NAME = "result.json"


@dataclass
class Manifest:
    """The state of one video.

    Attributes:
        folder: the video's folder of results.
        fingerprint: that of the video the answers belong to.
        warnings: what was wrong with the video but could be lived with.
        error: why the video could not be worked on; "" if it could.
        answered: what `results.json` tells of an answer, by its question's key.
        failed: {"question", "error"} of questions that could not be answered, by key.
        written: when the file was written, by the file system's clock; 0 if it is not there.
    """

    folder: Path
    fingerprint: str = ""
    warnings: list[str] = field(default_factory=list)
    error: str = ""
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    written: float = 0.0

    @classmethod
    def read(cls, output: Path, task: VideoTask) -> Manifest:
        """The video's manifest; an empty one where there is none, or none that belongs to this video."""
        manifest = cls(output / task.name, task.fingerprint)
        path = manifest.folder / MANIFEST_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            written = path.stat().st_mtime
        except (OSError, ValueError, RecursionError):
            return manifest
        if not isinstance(content, dict) or content.get("fingerprint") != task.fingerprint:
            return manifest
        manifest.written = written
        manifest.warnings = list(content.get("warnings") or [])
        manifest.error = str(content.get("error") or "")
        manifest.answered = dict(content.get("answered") or {})
        manifest.failed = dict(content.get("failed") or {})
        return manifest

    def write(self) -> None:
        """Replace the file; its folder is there since `begin`.

        Raises:
            OSError: the folder cannot be written.
        """
        content = {
            "fingerprint": self.fingerprint,
            "warnings": self.warnings,
            "error": self.error,
            "answered": self.answered,
            "failed": self.failed,
        }
        write_json(self.folder / MANIFEST_NAME, content, indent=None)
        self.written = (self.folder / MANIFEST_NAME).stat().st_mtime

    def begin(self, task: VideoTask) -> None:
        """Make ready for answers: what lies there of another video is not taken for this one's.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if task.fingerprint and not self.written:
            for ask in task.asks:
                (self.folder / ask.key / RESULT_NAME).unlink(missing_ok=True)
        self.error, self.failed = "", {}
        self.write()

    def replaced_by(self, task: VideoTask) -> list[str]:
        """What earlier answers the run is about to replace, one line each; to be asked before `begin`."""
        is_new = task.fingerprint and not self.written
        if is_new and any((self.folder / ask.key / RESULT_NAME).exists() for ask in task.asks):
            return ["its answers are about another video, or about this one as it was, and are replaced"]
        earlier = ((self.answered.get(ask.key), ask) for ask in task.asks)
        return [
            f"the answer to {entry.get('asked')!r} is replaced by that to {ask.text!r}"
            for entry, ask in earlier
            if isinstance(entry, dict) and entry.get("asked") != ask.text
        ]

    def tidy(self) -> None:
        """Remove what a killed process left half written."""
        (self.folder / f".{MANIFEST_NAME}.part").unlink(missing_ok=True)

    def has(self, ask: Ask) -> bool:
        """Whether this very question is answered, and the answer still there."""
        entry = self.answered.get(ask.key)
        return (
            isinstance(entry, dict)
            and entry.get("asked") == ask.text
            and (self.folder / ask.key / RESULT_NAME).is_file()
        )

    def waiting(self, task: VideoTask) -> list[Ask]:
        """The questions that have no answer yet."""
        return [ask for ask in task.asks if not self.has(ask)]

    def gave_up_since(self, moment: float) -> bool:
        """Whether the video, or some of its questions, failed after that moment."""
        return bool(self.error or self.failed) and self.written >= moment

    def adopt(self, ask: Ask, root: Path) -> bool:
        """Note an answer that is there and whole, but that a killed process had no time to note.

        Args:
            ask: the question.
            root: the run's output folder.

        Returns:
            Whether there was one.
        """
        try:
            result = json.loads((self.folder / ask.key / RESULT_NAME).read_text(encoding="utf-8"))
            if result.get("asked", ask.text) != ask.text or result["question"] != ask.question:
                return False
            self.answered[ask.key] = entry_of(ask, result, self.folder / ask.key, root)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        return True


def entry_of(ask: Ask, result: dict[str, Any], folder: Path, root: Path) -> dict[str, Any]:
    """What `results.json` tells of an answer.

    Args:
        ask: the question.
        result: has "question", "answer", "found", "score" and "target_frame".
        folder: where the answer lies.
        root: the run's output folder.
    """
    return {
        "number": int(ask.key) if ask.key.isdecimal() else ask.key,
        "asked": ask.text,
        "question": result["question"],
        "answer": result["answer"],
        "found": bool(result["found"]),
        "score": float(result["score"]),
        "target_frame": int(result["target_frame"]),
        "folder": folder.relative_to(root).as_posix(),
    }
