"""Validation inside a run: J and F of teacher-forced answers on videos held out, and pictures of some.

Legend: F frames, N objects, H W pixels.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from model.sam.build import PIXEL_MEAN, PIXEL_STD
from visa import metrics
from visa.training.engine.batch import BatchReader, TrainingBatch, TrainingVideo
from visa.training.engine.driver import Driver
from visa.training.engine.ranks import Ranks
from visa.training.engine.report import picture_folder
from visa.training.engine.settings import TrainSettings

TINTS = {"truth": (40, 200, 90), "prediction": (235, 60, 60)}


@dataclass(frozen=True)
class Score:
    """Means over all masks of all frames, [0, 1]; loss as in training. masks: how many."""

    j: float
    f: float
    loss: float
    masks: int

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2

    @property
    def merit(self) -> float:
        """See `visa.training.engine.task.Assessment`."""
        return self.jf

    @property
    def figures(self) -> Mapping[str, float]:
        """See `visa.training.engine.task.Assessment`."""
        return {"J&F": self.jf, "J": self.j, "F": self.f, "loss": self.loss}


def validate_held_out(
    driver: Driver,
    settings: TrainSettings,
    open_reader: Callable[[Mapping[str, Any], int], BatchReader],
    ranks: Ranks,
    number: int,
) -> Score:
    """`validate` with the first batches of the validation's own reader, which are the same each time.

    Args:
        open_reader: opens what a section ``data`` describes, with a seed. number: of the step, for pictures.
    """
    wanted = settings.validation
    # Other samples than are trained on, though from the same source where it has no other.
    with closing(open_reader(wanted.data or settings.data, settings.seed + 1)) as reader:
        batches = islice(reader, wanted.batches)
        return validate(driver, batches, ranks, wanted.pictures, picture_folder(Path(settings.out), number))


@torch.no_grad()
def validate(
    driver: Driver,
    batches: Iterable[TrainingBatch],
    ranks: Ranks,
    pictures: int = 0,
    folder: Path | None = None,
) -> Score:
    """Score this rank's batches together with those of the others, which must have as many.

    Args:
        pictures: the first rank writes so many predictions into ``folder``, truth beside prediction.
    """
    sums = np.zeros(5)
    drawn = 0
    for batch in batches:
        torch.manual_seed(batch.index)
        moved = batch.to(ranks.device)
        result = driver.forward(moved)
        sums += [0, 0, 0, float(result.loss.total), 1]
        for video, logits in zip(moved.videos, result.mask_logits, strict=True):
            if not len(logits):
                continue
            truth, prediction = video.masks.flatten(0, 1).cpu().numpy(), (logits > 0).cpu().numpy()
            j = metrics.region_similarity(truth, prediction)
            f = metrics.contour_accuracy(truth, prediction)
            sums += [j.sum(), f.sum(), len(truth), 0, 0]
            if folder is not None and ranks.is_first and drawn < pictures:
                folder.mkdir(parents=True, exist_ok=True)
                picture(video, truth, prediction).save(folder / f"{drawn:02d}.png")
                drawn += 1
    j, f, masks, loss, count = ranks.sums(sums.tolist())
    return Score(j / max(masks, 1), f / max(masks, 1), loss / max(count, 1), int(masks))


def picture(video: TrainingVideo, truth: np.ndarray, prediction: np.ndarray) -> Image.Image:
    """The first drawn frame twice, the objects' truth on the left, the prediction on the right."""
    height, width = video.input_size
    image = video.images_sam[video.drawn[0], :, :height, :width].float().cpu()
    image = image * torch.tensor(PIXEL_STD).view(3, 1, 1) + torch.tensor(PIXEL_MEAN).view(3, 1, 1)
    frame = Image.fromarray(image.clamp(0, 255).byte().permute(1, 2, 0).numpy())
    frame = np.asarray(frame.resize(truth.shape[:0:-1]))
    objects = video.masks.shape[1]
    sides = []
    for masks, tint in ((truth, TINTS["truth"]), (prediction, TINTS["prediction"])):
        side = frame.copy()
        inside = masks[:objects].any(0)
        side[inside] = (0.5 * side[inside] + 0.5 * np.array(tint)).astype(np.uint8)
        sides.append(side)
    return Image.fromarray(np.concatenate(sides, axis=1))
