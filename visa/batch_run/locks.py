"""Locks between processes, also of several hosts, that end with the process that holds them.

A lock is a file, held through the operating system (flock; NFS passes it on to the server) and removed when
it is released. One left by a killed process locks nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HELD, BUSY, UNSUPPORTED = "held", "busy", "unsupported"


@contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[str]:
    """Try to hold a lock for the time of the block.

    Args:
        path: the lock's file; its folder must be there.
        wait: wait for another process that holds it, instead of giving BUSY.

    Yields:
        HELD; BUSY, if another process holds it; or UNSUPPORTED, if the file system knows no locks.
    """
    descriptor, state = _acquire(path, wait)
    try:
        yield state
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)


def _acquire(path: Path, wait: bool) -> tuple[int | None, str]:
    if fcntl is None:
        return None, UNSUPPORTED
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            ours = os.fstat(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None, BUSY
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            return None, UNSUPPORTED
        except BaseException:
            os.close(descriptor)
            raise
        # The holder before may have removed the very file that was opened: then the lock is another file.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), ours):  # noqa: PTH116 - the two must be compared as they are
                return descriptor, HELD
        os.close(descriptor)
