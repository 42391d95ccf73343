"""What kind of synthetic video to make."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoSpec:
    """What kind of video to make.

    Attributes:
        height, width: H and W, pixels.
        num_frames: T, 1 or more.
        split: "train" or "held-out": which names may occur.
        max_objects: Objects of a plain scene, 1..6; two scenes side by side have up to twice as many.
        pace: How much of each course the video covers, in (0, 1]; small for dense video, None to draw it.
        side_by_side: Share of videos made of two scenes with a hard seam.
        two_shots: Share of videos with a cut to another scene.
        compound: Share of objects made of several parts.
        absent_first: Share of videos in which some object is not there in the first frame.
        jpeg: Whether frames may be compressed.
    """

    height: int = 288
    width: int = 480
    num_frames: int = 4
    split: str = "train"
    max_objects: int = 5
    pace: float | None = None
    side_by_side: float = 0.15
    two_shots: float = 0.08
    compound: float = 0.25
    absent_first: float = 0.35
    jpeg: bool = True

    def __post_init__(self):
        if self.num_frames < 1 or self.height < 16 or self.width < 16:
            raise ValueError(
                f"expected at least 1 frame of at least 16x16 pixels, got {self.num_frames} of "
                f"{self.width}x{self.height}"
            )
        if not 1 <= self.max_objects <= 6:
            raise ValueError(f"max_objects must be in 1..6, got {self.max_objects}")
