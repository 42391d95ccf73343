"""Works through videos and questions: opens each video once, asks all, and keeps every answer as it comes.

An answer's folder is made beside its place and renamed when it is whole; then the video's manifest names it.
So whatever ends the process, nothing half done is taken for an answer, and no answer is made twice.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataset.counting import count_of
from visa.batch_run.bar import RunBar
from visa.batch_run.locks import BUSY, HELD, lock
from visa.batch_run.manifest import Manifest, entry_of
from visa.batch_run.ranks import Rank, share_out
from visa.batch_run.task import Ask, VideoTask
from visa.errors import DownloadError, InputError

if TYPE_CHECKING:
    from visa.tracklet import Tracklet
    from visa.video import Video

# What a video or question may bring about; it is noted, and the run goes on.
FAULTS = (ValueError, RuntimeError, LookupError, ArithmeticError, MemoryError, EOFError, OSError)
# Failures to write that have to do with one name only; any other, such as a full disk, ends the run.
ABOUT_ONE_NAME = {
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
}
# Questions asked together of a system that gives its answers only at the end of a call: so many are lost when
# it is broken off. The others see for themselves which go through a video together.
MAX_TOGETHER = 16
# So many questions of one video may fail in the same words; then the others are not tried.
MAX_SAME_FAILURES = 3

# write(folder, ask, tracklet): writes an answer into an empty folder, with a result.json.
Write = Callable[[Path, Ask, "Tracklet"], None]


class OutputError(OSError):
    """The output cannot be written any more; what is done is kept."""


class BatchRun:
    """A run over many videos, or this process's part of it.

    Args:
        tasks: all videos of the run, the same in all its processes.
        output: the folder for the results; it must be there.
        write: writes an answer into a folder.
        rank: this process among the run's.
        bar: what shows a person how it goes, made for a rank; see `RunBar` for its methods.

    Attributes:
        started: when, by the file system's clock.
        had_work: whether any question was waiting for this process.
    """

    def __init__(
        self,
        tasks: Sequence[VideoTask],
        output: Path,
        write: Write,
        rank: Rank,
        bar: Callable[[Rank], Any] = RunBar,
    ) -> None:
        self.tasks = tuple(tasks)
        self.output = output
        self.rank = rank
        self._write = write
        self._bar = bar
        self.unwritable: dict[str, str] = {}  # videos whose folder cannot be made, and why
        self.had_work = False
        self._settled: set[str] = set()
        with tempfile.TemporaryFile(dir=output) as file:  # the clock of the file system counts
            self.started = os.fstat(file.fileno()).st_mtime

    def waiting(self) -> int:
        """How many questions have no answer yet, of all ranks."""
        return sum(len(Manifest.read(self.output, task).waiting(task)) for task in self.tasks)

    def is_settled(self, task: VideoTask, manifest: Manifest) -> bool:
        """Whether nothing is left to do for a video: all is answered, or what is not failed in this run."""
        gave_up = manifest.gave_up_since(self.started) or task.name in self.unwritable
        return gave_up or not manifest.waiting(task)

    def answer_all(self, segmenter: Any) -> None:
        """Do this process's videos, then those of others that nobody has begun.

        Args:
            segmenter: has `segment_each`, or `segment_many`, as `visa.segmenter.Segmenter`.

        Raises:
            OutputError: the output cannot be written any more.
        """
        self.had_work = True
        shares = share_out(self.tasks, self.rank.count)
        own = shares[self.rank.index]
        others = [task for share in shares if share is not own for task in share]
        others.sort(key=lambda task: (-task.work, task.name))
        with self._bar(self.rank) as bar:
            for task in own:
                manifest = Manifest.read(self.output, task)
                bar.expect(task, len(manifest.waiting(task)))
            for task in own:
                self._do(segmenter, task, bar, is_own=True)
            # Each time over, for another process may have been lost since.
            while any(self._do(segmenter, task, bar, is_own=False) for task in [*own, *others]):
                pass

    def _do(self, segmenter: Any, task: VideoTask, bar: RunBar, *, is_own: bool) -> bool:
        """Does what is left of a video, unless another process is at it; returns whether there was any."""
        if task.name in self._settled:
            return False
        place = self.output / task.name
        lock_path = place.with_name(f".{place.name}.lock")
        manifest = Manifest.read(self.output, task)
        if self.is_settled(task, manifest) and not lock_path.exists():
            self._settled.add(task.name)
            return False
        try:
            with self._writing(lock_path):
                place.parent.mkdir(parents=True, exist_ok=True)
            with lock(lock_path) as state:
                if state == BUSY or (state != HELD and not is_own):
                    return False
                self._settled.add(task.name)
                manifest = Manifest.read(self.output, task)
                if self.is_settled(task, manifest):
                    manifest.tidy()  # after a kill at its very last step
                    return False
                bar.begin(task, len(manifest.waiting(task)), is_own=is_own)
                self._do_locked(segmenter, task, manifest, bar)
                bar.end(task)
        except OutputError:
            raise
        except OSError as error:  # of the lock's file, or of a manifest in a place that cannot be one
            self._settled.add(task.name)
            self.unwritable[task.name] = _words(error)
            bar.complain(f"{task.source}: {_words(error)}")
            bar.end(task)
        return True

    def _do_locked(self, segmenter: Any, task: VideoTask, manifest: Manifest, bar: RunBar) -> None:
        if manifest.written or not task.fingerprint:
            for ask in manifest.waiting(task):
                manifest.adopt(ask, self.output)
        with self._writing(manifest.folder):
            for line in manifest.replaced_by(task):
                bar.warn(f"{manifest.folder}: {line}")
            manifest.begin(task)
        if not manifest.waiting(task):
            return
        try:
            video = task.open()
        except FAULTS as error:
            manifest.error = _words(error)
            named = task.source in manifest.error
            bar.complain(manifest.error if named else f"{task.source}: {manifest.error}")
        else:
            _Asking(self, segmenter, task, video, manifest, bar).ask_all()
        with self._writing(manifest.folder):
            manifest.write()

    def save(self, manifest: Manifest, ask: Ask, tracklet: Tracklet) -> Path:
        """Keep an answer, all of it or nothing; its folder."""
        folder = manifest.folder / ask.key
        partial = folder.with_name(f".{folder.name}.part")
        result = {
            "question": ask.question,
            "answer": tracklet.answer,
            "found": tracklet.found,
            "score": tracklet.score,
            "target_frame": -1 if tracklet.target_frame is None else tracklet.target_frame,
        }
        try:
            with self._writing(folder):
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                self._write(partial, ask, tracklet)
                shutil.rmtree(folder, ignore_errors=True)
                partial.replace(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)  # it may be what fills the disk
            raise
        manifest.answered[ask.key] = entry_of(ask, result, folder, self.output)
        manifest.failed.pop(ask.key, None)
        with self._writing(folder):
            manifest.write()
        return folder

    @contextmanager
    def _writing(self, place: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in ABOUT_ONE_NAME:
                raise
            raise OutputError(error.errno, error.strerror or _words(error), str(place)) from error


class _Asking:
    """All questions of one video."""

    def __init__(
        self,
        run: BatchRun,
        segmenter: Any,
        task: VideoTask,
        video: Video,
        manifest: Manifest,
        bar: RunBar,
    ) -> None:
        self._run = run
        self._task = task
        self._video = video
        self._manifest = manifest
        self._bar = bar
        # One by one as they are made where the system can, else all at the end of a call.
        each = getattr(segmenter, "segment_each", None)
        self._segment = each or segmenter.segment_many
        self._one_by_one = each is not None
        self._same_failures = 0

    def ask_all(self) -> None:
        self._pass_on_warnings()
        waiting = self._manifest.waiting(self._task)
        together = max(1, len(waiting)) if self._one_by_one else MAX_TOGETHER
        while waiting:
            done, error = self._ask(waiting[:together])
            if error is not None and (self._one_by_one or together == 1):
                self._note_failure(waiting[done], error)
                done += 1
            elif error is not None:
                together = 1  # one of them: those that remain are asked alone
            waiting = waiting[done:]
            if self._same_failures >= MAX_SAME_FAILURES:
                break
        for ask in waiting:
            last = next(reversed(self._manifest.failed.values()))["error"]
            self._manifest.failed[ask.key] = {"question": ask.text, "error": f"not tried after: {last}"}
        if waiting:
            self._bar.complain(
                f"{self._task.source}: {count_of(len(waiting), 'more question')} not tried, "
                f"as {MAX_SAME_FAILURES} in a row failed in the same way"
            )

    def _ask(self, asks: list[Ask]) -> tuple[int, Exception | None]:
        """Asks and keeps; returns how many are done, and what stopped it there."""
        done = 0
        try:
            questions = [ask.question for ask in asks]
            tracklets = iter(self._segment(self._video, questions, progress=self._bar.stage))
            for ask in asks:
                tracklet = next(tracklets, None)
                if tracklet is None:
                    raise ValueError(f"expected {len(asks)} answers from the system, got {done}")
                self._pass_on_warnings()
                self._bar.stage("save", 0, 1)
                folder = self._run.save(self._manifest, ask, tracklet)
                self._bar.stage("save", 1, 1)
                done += 1
                self._same_failures = 0
                self._bar.answered(ask, tracklet, folder)
        except OutputError:
            raise
        except FAULTS as error:
            return done, error
        return done, None

    def _note_failure(self, ask: Ask, error: Exception) -> None:
        words = _words(error)
        failed = self._manifest.failed
        same = bool(failed) and next(reversed(failed.values()))["error"] == words
        self._same_failures = self._same_failures + 1 if same else 1
        failed[ask.key] = {"question": ask.text, "error": words}
        self._pass_on_warnings()
        place = f"{self._task.name}/{ask.key}"
        self._bar.complain(f"{self._task.source}, {ask.named!r} ({place}): {words}")
        self._bar.passed_over()

    def _pass_on_warnings(self) -> None:
        """Say and keep new warnings: some damage shows only as frames are read."""
        for line in self._video.warnings:
            if line not in self._manifest.warnings:
                self._manifest.warnings.append(line)
                self._bar.warn(f"{self._task.source}: {line}")


def _words(error: BaseException) -> str:
    """Why, in one line; with the kind of error where it is none that is raised for people to read."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    for_people = isinstance(error, InputError | DownloadError | OSError) or type(error) is ValueError
    return text if for_people and text else f"{type(error).__name__}: {text}".rstrip(": ")
