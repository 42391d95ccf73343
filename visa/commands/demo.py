"""The main job on a real clip, for a newcomer: what `make demo` does.

    python -m visa.commands.demo

Asks two questions about a clip of Big Buck Bunny: one thing that is there and one that is not. The pictures
go to `out/demo`, and their paths are printed at the end.
"""

import sys
from pathlib import Path

from visa.commands import inference
from visa.commands.output import DONE, FAILED
from visa.errors import DownloadError

CLIP = "bigbuckbunny.mp4"
QUESTIONS = ("the rabbit", "the red bus")
OUTPUT = Path("out/demo")


def main() -> int:
    """Fetch the clip and answer the questions; exit code as `inference.py`."""
    from visa.downloads import fetch

    try:
        clip = fetch(CLIP)
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    queries = [part for question in QUESTIONS for part in ("--query", question)]
    code = inference.main(["--video", str(clip), *queries, "--output", str(OUTPUT)])
    if code == DONE:
        print("\nLook at:")
        for number in range(len(QUESTIONS)):
            folder = OUTPUT / clip.stem / str(number)
            print(f"  {folder / 'contact_sheet.png'}\n  {folder / 'overlay.mp4'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
