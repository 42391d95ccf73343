"""The page itself, in Gradio: upload, question and examples on the left, the answer on the right."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from visa.errors import DownloadError, InputError
from visa.web import markup
from visa.web.desk import Desk
from visa.web.guard import COOKIE
from visa.web.limits import KINDS, SUFFIXES
from visa.web.visitors import Visitor, Visitors

# Visitors who may wait for the model.
WAITING = 16
# What may go wrong inside: a full disk, no memory left on the machine or its GPU, a fault in a model.
BROKEN = (OSError, RuntimeError, MemoryError)
STAGES = {
    "sample": "choosing frames",
    "reason": "reading them",
    "segment": "drawing the mask",
    "propagate": "carrying it through the clip",
    "save": "writing the pictures",
}


@dataclass(frozen=True)
class Example:
    """A clip and a question to begin with. path: gives the clip's file, fetching it if need be."""

    clip: str
    question: str
    path: Callable[[], Path]


class VisitorLeftError(RuntimeError):
    """The tab that asked is closed or loaded anew: nobody waits for the answer any more."""


class Handlers:
    """What the page's buttons do.

    Args:
        desk: answers. visitors: who may ask.
    """

    def __init__(self, desk: Desk, visitors: Visitors) -> None:
        self._desk, self._visitors = desk, visitors
        self._left: dict[str, threading.Event] = {}  # of every tab that waits for an answer

    def upload(self, path: str | None, request: gr.Request) -> tuple[str, str]:
        """Open what was uploaded; returns the clip's key, or "", and what is shown of it."""
        if path is None:
            return "", ""
        try:
            visitor = self._visitor(request)
            if path not in visitor.uploads:
                raise InputError("that file is not one of yours: upload it")
            clip = self._desk.open(visitor, Path(path), Path(path).name)
        except (InputError, *BROKEN) as error:
            return "", _said(error)
        return clip.key, markup.show_clip(clip)

    def pick(self, example: Example, request: gr.Request) -> tuple[str, str, str]:
        """Open an example; as `upload`, and its question."""
        try:
            clip = self._desk.open(self._visitor(request), example.path(), example.clip)
        except (InputError, DownloadError, *BROKEN) as error:
            return "", _said(error), example.question
        return clip.key, markup.show_clip(clip), example.question

    def ask(self, clip_key: str, question: str, progress: Any, request: gr.Request) -> str:
        """The answer, or one line that says why there is none."""
        left = self._left.setdefault(request.session_hash, threading.Event())

        def report(stage: str, done: int, total: int) -> None:
            if left.is_set():
                raise VisitorLeftError
            progress((done, total), desc=STAGES.get(stage, stage))

        try:
            shown = self._desk.ask(self._visitor(request), clip_key, question or "", report)
        except VisitorLeftError:
            return ""
        except (InputError, DownloadError, *BROKEN) as error:
            return _said(error)
        finally:
            self._left.pop(request.session_hash, None)
        return markup.show_answer(shown)

    def leave(self, request: gr.Request) -> None:
        """A tab is closed or loaded anew: its answer is not worked on further, for the next one waits.

        Gradio gives a function's place in the queue to the next question when its tab goes, but cannot end
        the function: that question would stand still until an answer is ready that nobody sees.
        """
        if left := self._left.get(request.session_hash):
            left.set()

    def _visitor(self, request: gr.Request) -> Visitor:
        visitor = self._visitors.get(request.cookies.get(COOKIE))
        if visitor is None:
            raise InputError("this page does not know you any more: load it again")
        return visitor


def build_page(desk: Desk, visitors: Visitors, examples: Sequence[Example] = ()) -> gr.Blocks:
    """The page; it has to be launched with the guard around it (`server.py`)."""
    handlers = Handlers(desk, visitors)
    limits = desk.limits
    with gr.Blocks(title="VISA", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(
            "# VISA\nGive it a clip and a question: it answers in words, and with a mask in every frame."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                upload = gr.File(label="Clip", file_types=list(SUFFIXES), elem_id="visa-upload", height=130)
                gr.Markdown(
                    f"One {KINDS}; up to {limits.megabytes} MB, {limits.seconds:g} s and {limits.frames} "
                    "frames. Only you see your files, and they go when the page's server ends."
                )
                clip = gr.HTML(elem_id="visa-clip", padding=False)
                question = gr.Textbox(
                    label="Question", placeholder="which one could fly?", elem_id="visa-question", max_lines=4
                )
                ask = gr.Button("Ask", variant="primary", elem_id="visa-ask")
                buttons = [
                    gr.Button(f"{example.clip} · {example.question}", size="sm", elem_classes="visa-example")
                    for example in examples
                ]
            with gr.Column(scale=5, min_width=480):
                answer = gr.HTML(
                    markup.message("The answer will stand here.", is_wrong=False),
                    elem_id="visa-answer",
                    min_height=200,
                )
        key = gr.State("")
        quiet = {"api_visibility": "private", "show_progress": "minimal"}

        upload.change(handlers.upload, [upload], [key, clip], concurrency_limit=2, **quiet)
        for button, example in zip(buttons, examples, strict=True):
            button.click(_pick(handlers, example), None, [key, clip, question], concurrency_limit=2, **quiet)

        def answer_question(
            clip_key: str,
            words: str,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> str:
            return handlers.ask(clip_key, words, progress, request)

        gr.on(
            [ask.click, question.submit],
            answer_question,
            [key, question],
            [answer],
            concurrency_limit=1,  # one model, one question at a time
            api_visibility="private",
        )
        page.unload(_leaving(handlers))
    return page.queue(max_size=WAITING, api_open=False)


def _said(error: Exception) -> str:
    """The visitor's line about an error; what only the owner of the machine can mend goes to the terminal."""
    if isinstance(error, (InputError, DownloadError)):
        return markup.message(error)
    traceback.print_exception(error)
    return markup.message("This went wrong inside; the terminal in which the page was started says more.")


def _leaving(handlers: Handlers) -> Callable[[gr.Request], None]:
    def leave(request: gr.Request) -> None:  # not a method: Gradio gives a request by its annotation
        handlers.leave(request)

    return leave


def _pick(handlers: Handlers, example: Example) -> Callable[[gr.Request], tuple[str, str, str]]:
    def pick(request: gr.Request) -> tuple[str, str, str]:
        return handlers.pick(example, request)

    return pick
