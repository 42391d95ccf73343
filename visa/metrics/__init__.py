"""The field's mask metrics. Values are fractions, not percent.

For every frame of a video, float64 [T]:

    region_similarity   J: intersection over union
    contour_accuracy    F: precision and recall of the boundary
    pixel_accuracy      A: pixels on which both masks agree
    robustness          R: 1 less the wrongly found pixels, in pixels of the foreground

For a whole video, a number:

    temporal_iou        tIoU: the frames in which the object is found, against those in which it is
    volume_iou          vIoU: J over the frames in which both are, of those in which either is

For a set of images, a number:

    mean_iou            gIoU: mean of every image's IoU
    cumulative_iou      cIoU: all intersections over all unions
    no_target_accuracy  N-acc: of the questions about nothing, the share answered with nothing
    target_accuracy     T-acc: of the questions about something, the share answered with something

Legend: T frames, N images, H W pixels. Masks hold bool, 0/1 or 0/255.
"""

from visa.metrics.contours import contour_accuracy
from visa.metrics.images import cumulative_iou, mean_iou, no_target_accuracy, overlap, target_accuracy
from visa.metrics.regions import pixel_accuracy, region_similarity, robustness
from visa.metrics.tubes import temporal_iou, volume_iou

__all__ = [
    "contour_accuracy",
    "cumulative_iou",
    "mean_iou",
    "no_target_accuracy",
    "overlap",
    "pixel_accuracy",
    "region_similarity",
    "robustness",
    "target_accuracy",
    "temporal_iou",
    "volume_iou",
]
