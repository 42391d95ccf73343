"""Ctrl-C at a bad moment waits for a better one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def postponed_interrupts() -> Iterator[None]:
    """Let an interrupt take effect only at the end of the block.

    For what breaks when it is left half done, as the import of a native library does: the next import of it
    in the same process then fails.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # interrupts go to the main thread alone, and only it may say what they do
        return
    pending: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
    if pending and before is not signal.SIG_IGN:
        raise KeyboardInterrupt
