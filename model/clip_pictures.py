"""CLIP's image tower: a picture becomes a point in the space that CLIP shares with words.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision". The public file
is the ViT-B/16 tower, its matrices in 8 bits; ONNX Runtime runs it, on the CPU. There are no words beside it:
what a point is called is told by `model.name_table`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

SIDE = 224  # pixels along each side of the picture that the tower takes
WIDTH = 512
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # of CLIP's training pictures, in [0, 1]
_SPREAD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_INPUT, _OUTPUT = "pixel_values", "image_embeds"


class ClipPictures:
    """The tower, ready to run.

    Args:
        path: the ONNX file. It runs on as many cores as torch takes.

    Raises:
        ValueError: ONNX Runtime is not installed, or the file is not such a tower.
    """

    def __init__(self, path: Path):
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                "the look at what was drawn needs ONNX Runtime: pip install onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; it warns of every matrix in 8 bits
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own kinds have no common base
            raise ValueError(f"{path} cannot be read as an ONNX network: {error}") from error
        inputs = {given.name for given in self._session.get_inputs()}
        outputs = {made.name for made in self._session.get_outputs()}
        if _INPUT not in inputs or _OUTPUT not in outputs:
            raise ValueError(f"{path} is no CLIP image tower: it takes {inputs} and gives {outputs}")

    def __call__(self, pictures: np.ndarray) -> torch.Tensor:
        """Points of pictures.

        Args:
            pictures: uint8 [N, 224, 224, 3], RGB.

        Returns:
            float32 [N, 512], not normalised.
        """
        if pictures.ndim != 4 or pictures.shape[1:] != (SIDE, SIDE, 3) or pictures.dtype != np.uint8:
            raise ValueError(
                f"pictures must be uint8 [N, {SIDE}, {SIDE}, 3], got {pictures.dtype} {pictures.shape}"
            )
        points = [self._one(picture) for picture in pictures]
        return torch.stack(points) if points else torch.zeros(0, WIDTH)

    def _one(self, picture: np.ndarray) -> torch.Tensor:
        """A picture alone: in a batch its scale of 8 bits would hang on its neighbours."""
        values = (picture.astype(np.float32) / 255 - _MEAN) / _SPREAD
        (point,) = self._session.run(
            [_OUTPUT], {_INPUT: np.ascontiguousarray(values.transpose(2, 0, 1)[None])}
        )
        return torch.from_numpy(point[0])
