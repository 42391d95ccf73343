"""Starts and ends the page's server, on this machine's own address and nowhere else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visa.errors import InputError
from visa.web.desk import Desk
from visa.web.limits import Limits
from visa.web.visitors import Visitors

if TYPE_CHECKING:
    from visa.web.page import Example

ADDRESS = "127.0.0.1"
INSTALL = "pip install --no-deps -r requirements-web.txt"


class StillAnsweringError(RuntimeError):
    """A thread is still in the middle of the model: Python cannot end in an orderly way."""


def require_gradio() -> None:
    """Say at once, and not after the model has been loaded, that Gradio is missing.

    Raises:
        InputError: it is.
    """
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(f"the page needs Gradio ({error}): {INSTALL}") from error


@contextmanager
def serving(
    segmenter: Any, port: int | None, limits: Limits | None = None, examples: Sequence[Example] = ()
) -> Iterator[str]:
    """The page, for as long as the context lasts; all files of all visitors go with it.

    Args:
        segmenter: as `visa.load` gives it.
        port: where; None takes a free one.
        limits: what is accepted.
        examples: to begin with.

    Yields:
        The page's address.

    Raises:
        InputError: Gradio is missing, or the port is taken.
        StillAnsweringError: on leaving, an answer could not be stopped.
    """
    with tempfile.TemporaryDirectory(prefix="visa-web-") as root:  # mode 0700
        uploads = Path(root) / "uploads"
        with _environment(GRADIO_TEMP_DIR=str(uploads), GRADIO_ANALYTICS_ENABLED="False"):
            yield from _serve(Path(root), segmenter, port, limits, examples)


def _serve(
    root: Path, segmenter: Any, port: int | None, limits: Limits | None, examples: Sequence[Example]
) -> Iterator[str]:
    require_gradio()
    import gradio as gr
    from starlette.middleware import Middleware

    from visa.web.guard import Guard
    from visa.web.markup import STYLE
    from visa.web.page import build_page

    visitors = Visitors(root)
    desk = Desk(segmenter, limits)
    page = build_page(desk, visitors, examples)
    fonts = ["system-ui", "sans-serif"]
    try:
        _, url, _ = page.launch(
            server_name=ADDRESS,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            show_error=False,
            max_file_size=desk.limits.bytes,
            theme=gr.themes.Soft(primary_hue="pink", font=fonts, font_mono=["monospace"]),
            css=STYLE,
            app_kwargs={"middleware": [Middleware(Guard, visitors=visitors)]},
        )
    except OSError as error:
        raise InputError(f"cannot open port {port} ({error}): pick another with --port") from error
    has_stopped = False
    try:
        yield url
    finally:
        has_stopped = desk.close()
        page.close(verbose=False)
    if not has_stopped:
        raise StillAnsweringError


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Variables of the process set for a while: Gradio reads them whenever it needs them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
