"""Reader of MeViS: expressions of motion, each about any number of objects.

    ROOT/<split>/JPEGImages/<video>/<frame>.jpg
    ROOT/<split>/meta_expressions.json          as `rle_layout` says
    ROOT/<split>/mask_dict.json                 as `rle_layout` says; "valid" has none, being secret

In the second release some expressions mean nothing that is seen (empty "anno_id"): they are of kind absent.

Source: Ding et al., "MeViS: A Large-scale Benchmark for Video Segmentation with Motion Expressions",
ICCV 2023.
"""

from __future__ import annotations

from dataset.rle_layout import RleReader


class Mevis(RleReader):
    """MeViS.

    Args:
        root: The folder of the splits' folders.
        split: "valid_u" (to evaluate here), "valid" (to send to the benchmark's server) or "train".
        lenient: As for every reader.

    Raises:
        DatasetError: A file is missing or not of the layout, or a name climbs out of the root.
    """

    splits = ("valid_u", "valid", "train")

    @property
    def has_masks(self) -> bool:
        """Whether this split's masks are public."""
        return self.split != "valid"

    def _find_files(self) -> None:
        folder = self.root / self.split
        self.meta_path = folder / "meta_expressions.json"
        self.mask_path = folder / "mask_dict.json"
        self.frames_path = folder / "JPEGImages"
