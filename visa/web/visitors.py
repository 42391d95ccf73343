"""Who is at the page: each visitor has a folder, found by a secret in a cookie and by nothing else."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# What is kept of one visitor; the oldest goes first.
MAX_CLIPS = 4
MAX_ANSWERS = 8


@dataclass
class Visitor:
    """One browser.

    Attributes:
        folder: holds this visitor's clips and answers.
        uploads: paths at which Gradio has put files that this visitor sent.
        sessions: Gradio's names for the visitor's open tabs.
    """

    folder: Path
    uploads: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    seen_at: float = 0.0

    def new_folder(self, kind: str, keep: int) -> Path:
        """An empty folder with a name that cannot be guessed; of its kind, only the newest `keep` stay."""
        parent = self.folder / kind
        parent.mkdir(exist_ok=True)
        earlier = sorted(parent.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in earlier[: max(0, len(earlier) + 1 - keep)]:
            shutil.rmtree(path, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=secrets.token_hex(8) + "-", dir=parent))

    def find(self, kind: str, name: str, file_name: str = "") -> Path | None:
        """This visitor's folder of that kind and name, or a file in it; None where there is no such thing.

        The names come from the browser: they are compared with what is there, and never become a path
        themselves.
        """
        path: Path | None = self.folder / kind
        for part in (name, file_name) if file_name else (name,):
            there = path.iterdir() if path is not None and path.is_dir() else ()
            path = next((entry for entry in there if entry.name == part), None)
        return path


class Visitors:
    """All visitors.

    Args:
        root: where their folders are made; private to the user who runs the page.
        idle_seconds: a visitor who has not been seen for so long is forgotten, files and all.
        capacity: how many there may be; those without files go first, then those not seen the longest.
        clock: seconds.
    """

    def __init__(
        self,
        root: Path,
        idle_seconds: float = 3600.0,
        capacity: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._idle_seconds, self._capacity, self._clock = idle_seconds, capacity, clock
        self._by_token: dict[str, Visitor] = {}
        self._session_owner: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_token)

    def welcome(self) -> str:
        """Make a visitor; the secret that finds them again."""
        with self._lock:
            self._forget_some()
            token = secrets.token_urlsafe(32)
            folder = Path(tempfile.mkdtemp(prefix="visitor-", dir=self._root))
            self._by_token[token] = Visitor(folder, seen_at=self._clock())
            return token

    def get(self, token: str | None) -> Visitor | None:
        """The visitor with that secret; None if there is none, or no longer."""
        with self._lock:
            visitor = self._by_token.get(token or "")
            if visitor is not None:
                visitor.seen_at = self._clock()
            return visitor

    def owns_session(self, visitor: Visitor, session: str) -> bool:
        """Whether a tab is this visitor's; who names it first owns it."""
        with self._lock:
            owner = self._session_owner.setdefault(session, visitor)
            if owner is visitor:
                visitor.sessions.add(session)
            return owner is visitor

    def _forget_some(self) -> None:
        now = self._clock()
        order = sorted(self._by_token, key=lambda token: self._worth(self._by_token[token]))
        surplus = len(order) + 1 - self._capacity
        for place, token in enumerate(order):
            if place < surplus or now - self._by_token[token].seen_at > self._idle_seconds:
                visitor = self._by_token.pop(token)
                for session in visitor.sessions:
                    del self._session_owner[session]
                for path in visitor.uploads:
                    if not any(path in other.uploads for other in self._by_token.values()):
                        Path(path).unlink(missing_ok=True)
                shutil.rmtree(visitor.folder, ignore_errors=True)

    @staticmethod
    def _worth(visitor: Visitor) -> tuple[bool, float]:
        return any(visitor.folder.iterdir()), visitor.seen_at
