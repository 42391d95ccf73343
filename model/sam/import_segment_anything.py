"""The one place that imports the `segment-anything` package, with or without torchvision.

`segment_anything/__init__.py` imports its predictor and mask generator, which need torchvision for
resizing and non-maximum suppression. The networks (`segment_anything.modeling`) and their builders
(`segment_anything.build_sam`) need torch alone, so without torchvision they are imported from under
an empty package object which stands in for `__init__` while the import runs.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def import_segment_anything() -> tuple[ModuleType, ModuleType]:
    """Import the package's networks and builders.

    Returns:
        The modules `segment_anything.modeling` and `segment_anything.build_sam`.

    Raises:
        ImportError: `segment-anything` is not installed.
    """
    spec = find_spec("segment_anything")
    if spec is None:
        raise ImportError(
            "SAM needs the package segment-anything; install it with: pip install segment-anything"
        )
    stand_in = "segment_anything" not in sys.modules and find_spec("torchvision") is None
    if stand_in:
        # Knows where the submodules lie, but its __init__ does not run.
        sys.modules["segment_anything"] = module_from_spec(spec)
    try:
        modeling = importlib.import_module("segment_anything.modeling")
        builders = importlib.import_module("segment_anything.build_sam")
    finally:
        if stand_in:
            # `import segment_anything` elsewhere must fail for want of torchvision, not find this shell.
            del sys.modules["segment_anything"]
    return modeling, builders


modeling, builders = import_segment_anything()
