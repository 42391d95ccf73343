"""Time and peak memory of a program by stage, by wrapping the calls in which the stages begin."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import machine

INTERVAL = 0.01  # seconds between two looks at the memory


class StageClock:
    """Measures named stages.

    A stage that begins inside another one either takes over until it ends (those in `inner`) or counts as
    part of the other. So looking at frames while sampling is "sample", but decoding them is "decode".
    What another thread does meanwhile, such as reading ahead, costs no time and is not on the clock.

    Args:
        inner: Stages that take over inside others.
        now: What tells the seconds; the clock on the wall by default.

    Attributes:
        seconds: By stage, what is spent in it and in no inner one.
        whole_seconds: By stage, inner ones included.
        peak_bytes: By stage, the most memory that the process held.
    """

    def __init__(self, inner: tuple[str, ...] = (), now: Callable[[], float] | None = None) -> None:
        self.now = now or time.perf_counter
        self.seconds: Counter[str] = Counter()
        self.whole_seconds: Counter[str] = Counter()
        self.peak_bytes: dict[str, int] = {}
        self._inner = inner
        self._stack: list[str] = []
        self._mark = self.now()
        self._thread = threading.current_thread()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything inside counts for that stage."""
        elsewhere = threading.current_thread() is not self._thread
        if elsewhere or (self._stack and (name not in self._inner or name in self._stack)):
            yield
            return
        self._turn()
        self._stack.append(name)
        start = self.now()
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()
            self.whole_seconds[name] += self.now() - start

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches the memory, from a thread of its own."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(INTERVAL):
                self._note_memory()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @contextmanager
    def wrapping(self, *calls: tuple[str, Any, str]) -> Iterator[None]:
        """Counts every call of a class's method for a stage: (stage, class, method's name)."""
        before = []
        for stage, owner, name in calls:
            before.append((owner, name, owner.__dict__.get(name)))
            bound_to_class = isinstance(owner.__dict__.get(name), classmethod | staticmethod)
            timed = self._timed(stage, getattr(owner, name))
            setattr(owner, name, staticmethod(timed) if bound_to_class else timed)
        try:
            yield
        finally:
            for owner, name, original in reversed(before):
                if original is None:  # it was inherited
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)

    def table(self, stages: tuple[str, ...]) -> str:
        """One line for each stage that took place."""
        total = sum(self.seconds.values())
        lines = [f"{'stage':10} {'seconds':>9} {'share':>7} {'with inner':>11} {'peak MiB':>9}"]
        for stage in stages:
            if stage in self.seconds:
                lines.append(
                    f"{stage:10} {self.seconds[stage]:9.2f} {self.seconds[stage] / total:7.1%} "
                    f"{self.whole_seconds[stage]:11.2f} {self.peak_bytes.get(stage, 0) / 2**20:9.0f}"
                )
        lines.append(f"{'all':10} {total:9.2f} {1:7.1%} {'':11} {machine.peak_bytes() / 2**20:9.0f}")
        return "\n".join(lines)

    def _timed(self, stage: str, call: Callable) -> Callable:
        @functools.wraps(call)
        def timed(*arguments, **options):
            with self.stage(stage):
                return call(*arguments, **options)

        return timed

    def _turn(self) -> None:
        """Books the time since the last turn for the stage that is on."""
        self._note_memory()
        now = self.now()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._mark
        self._mark = now

    def _note_memory(self) -> None:
        if stack := self._stack[-1:]:
            self.peak_bytes[stack[0]] = max(self.peak_bytes.get(stack[0], 0), machine.resident_bytes())
