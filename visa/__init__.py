"""VISA: a question about a video becomes words and a mask of the object in every frame.

    import visa

    segmenter = visa.load("embedded")
    tracklet = segmenter.segment("clip.mp4", "which one could fly?")
    tracklet.save("out/clip/0")

Importing this package costs no PyTorch import: each public name is resolved when it is first read.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["ChatSession", "Tracklet", "Video", "errors", "load", "metrics"]

# Public name -> (module, attribute in it); None stands for the module itself.
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "load": ("visa.loading", "load"),
    "ChatSession": ("visa.chat_session", "ChatSession"),
    "Video": ("visa.video", "Video"),
    "Tracklet": ("visa.tracklet", "Tracklet"),
    "metrics": ("visa.metrics", None),
    "errors": ("visa.errors", None),
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'visa' has no attribute {name!r}; it offers {', '.join(__all__)}")
    module_name, attribute = _PUBLIC[name]
    module = importlib.import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
