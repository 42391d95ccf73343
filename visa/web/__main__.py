"""The page's command line.

    python -m visa.web [--model embedded] [--port 7860]

Exit codes: 0 ended by Ctrl-C, 1 a public part of the model cannot be had, 2 bad usage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visa.commands.output import DONE, ended_by, speak_any_language
from visa.errors import DownloadError, InputError
from visa.preset_files import MODEL_HELP, check_model
from visa.web.limits import Limits

if TYPE_CHECKING:
    from visa.web.page import Example

EXAMPLES = (
    ("bigbuckbunny.mp4", "the rabbit"),
    ("bigbuckbunny.mp4", "the red bus"),
    ("bikes.mp4", "the man on the bicycle"),
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m visa.web",
        description="A page at http://127.0.0.1: upload a clip, ask about it, download the masks.",
    )
    parser.add_argument(
        "--model",
        default="embedded",
        help=MODEL_HELP,
    )
    parser.add_argument("--port", type=_port, default=7860, help="default: %(default)s")
    limits = Limits()
    about = {
        "megabytes": "size of an upload",
        "seconds": "length of a clip",
        "frames": "length of a clip",
        "megapixels": "pixels of all frames of a clip together",
    }
    for name, words in about.items():
        kind = type(getattr(limits, name))
        parser.add_argument(
            f"--max-{name}",
            type=_positive(kind),
            default=getattr(limits, name),
            metavar="N",
            help=f"the largest {words} (default: %(default)s)",
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C.

    Args:
        arguments: the command line without the program's name; None takes the process's own.
    """
    speak_any_language()
    options = build_parser().parse_args(arguments)
    limits = Limits(options.max_megabytes, options.max_seconds, options.max_frames, options.max_megapixels)
    try:
        from visa.web.server import StillAnsweringError, require_gradio, serving

        require_gradio()
        check_model(options.model)
        import visa

        print(f"loading {options.model} ...", file=sys.stderr)
        segmenter: Any = visa.load(options.model)
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        with serving(segmenter, options.port, limits, _examples()) as url:
            print(f"The page is at {url} (Ctrl-C ends it, and its files go)", flush=True)
            _wait(ended)
    except StillAnsweringError:
        sys.stdout.flush()
        os._exit(DONE)  # the files are gone already; joining the thread could take minutes
    except KeyboardInterrupt:  # while loading
        pass
    except (InputError, DownloadError, OSError) as error:
        return ended_by(error)
    return DONE


def _wait(ended: threading.Event) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        ended.wait()


def _examples() -> list[Example]:
    from visa.downloads import fetch
    from visa.web.page import Example

    return [
        Example(clip, question, lambda clip=clip: fetch(clip, progress=False)) for clip, question in EXAMPLES
    ]


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{port} is no port: expected 1 to 65535")
    return port


def _positive(kind: type) -> Any:
    def positive(text: str) -> Any:
        number = kind(text)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
        return number

    positive.__name__ = kind.__name__
    return positive


if __name__ == "__main__":
    sys.exit(main())
