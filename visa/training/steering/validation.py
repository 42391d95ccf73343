"""Do the maps point? Figures on items that training never sees, in training and afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import torch

from visa.training.engine.ranks import Ranks
from visa.training.steering.items import SteeringBatch, SteeringItem
from visa.training.steering.map_quality import MapQuality, map_quality, mean_quality
from visa.training.steering.sources import HeldOut
from visa.training.steering.step import SteeringStep


@dataclass(frozen=True)
class SteeringScore:
    """See `visa.training.engine.task.Assessment`. quality: the mean over ``maps`` maps."""

    quality: MapQuality
    maps: int

    @property
    def figures(self) -> Mapping[str, float]:
        return asdict(self.quality)

    @property
    def merit(self) -> float:
        return self.quality.iou


@torch.no_grad()
def qualities(step: SteeringStep, items: Iterable[SteeringItem]) -> list[MapQuality]:
    """Of every map of the items that shows something and is not filled by it."""
    found = []
    for item in items:
        seen = step.look(SteeringBatch(0, (item,)).to(step.backbone.device))
        for heat, share in zip(seen.maps, seen.shares, strict=True):
            if 0 < float(share.mean()) < 1:
                found.append(map_quality(heat.float().cpu().numpy(), share.float().cpu().numpy()))
    return found


def score_steering(step: SteeringStep, items: HeldOut, ranks: Ranks) -> SteeringScore:
    """All ranks together; each looks at some of the items."""
    mine = (items[place] for place in range(ranks.rank, len(items), ranks.count))
    gathered = ranks.gathered(qualities(step, mine))
    together = [quality for some in gathered for quality in some]
    return SteeringScore(mean_quality(together), len(together))
