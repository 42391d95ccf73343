"""Is the glue reading? Figures on cached scenes whose names training never saw, with generated answers."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model.mllm.mllm import MLLM
from model.sam.segmenter import FrameFeatures, SamSegmenter
from visa.mask_drawing import MaskDrawing
from visa.training.engine.ranks import Ranks
from visa.training.scene_cache import load_scene
from visa.training.scene_examples import SceneExamples


@dataclass(frozen=True)
class GlueScore:
    """See `visa.training.engine.task.Assessment`. shares: [0, 1], by name, of `validate_glue`."""

    shares: Mapping[str, float]

    @property
    def merit(self) -> float:
        """Mean of how often what is there is found and right, over kinds of questions, and of how often what
        is not there is refused."""
        kinds = [name.removesuffix(" right") for name in self.shares if name.endswith(" right")]
        found = [(1 - self.shares[f"{kind} refused"]) * self.shares[f"{kind} right"] for kind in kinds]
        absent = self.shares.get("absent refused")
        parts = ([sum(found) / len(found)] if found else []) + ([] if absent is None else [absent])
        return sum(parts) / max(1, len(parts))

    @property
    def figures(self) -> Mapping[str, float]:
        return {"merit": self.merit, **self.shares}


def validate_glue(
    mllm: MLLM,
    sam: SamSegmenter,
    examples: SceneExamples,
    *,
    scenes: int = 40,
    draw_masks: bool = False,
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """Shares [0, 1] over the first ``scenes`` of those given.

    Args:
        ranks: all of them call it, and each looks at some of the scenes.

    Returns:
        For each kind of present question: how often the right object is hottest (among scenes with others),
        how often the answer refuses, and the mean IoU of the heat and of the masks, if they are drawn; for
        absent ones how often it refuses.
    """
    rank, count = (ranks.rank, ranks.count) if ranks else (0, 1)
    mine = dict(list(enumerate(examples.paths[:scenes]))[rank::count])
    judged = _judge(mllm, sam, examples, mine, draw_masks)
    together: dict[str, list[float]] = defaultdict(list)
    for one in ranks.gathered(judged) if ranks else [judged]:
        for name, values in one.items():
            together[name] += values
    return {name: float(np.mean(values)) for name, values in sorted(together.items())}


@torch.inference_mode()
def _judge(
    mllm: MLLM, sam: SamSegmenter, examples: SceneExamples, paths: Mapping[int, Path], draw_masks: bool
) -> dict[str, list[float]]:
    """What came of each question about scenes, by what is looked at; ``paths`` by the scenes' numbers."""
    drawing = MaskDrawing(sam, sam, num_peaks=0)
    sums: dict[str, list[float]] = defaultdict(list)
    for number, path in paths.items():
        cached = load_scene(path)
        rng = np.random.default_rng([number, 99])
        turns = examples.turns(cached, rng)
        example = examples.example(cached, rng, alone=False).to(mllm.device)
        with torch.autocast(mllm.device.type, torch.bfloat16):
            reading = mllm.read(example.frames, example.percents)
            for turn, taught in [turns[k] for k in rng.permutation(len(turns))[:6]]:
                answer = mllm.answer(reading, taught.question)
                if not taught.meant:
                    sums["absent refused"].append(not answer.found)
                    continue
                sums[f"{turn.kind} refused"].append(not answer.found)
                if not answer.found:
                    continue
                grid = example.masks_on_grid()
                heat = mllm.ground(reading, answer, example.sam_features).heat_logits[0].float()
                mean = torch.einsum("hw,khw->k", heat, grid) / grid.flatten(1).sum(1).clamp(min=1e-6)
                mean[grid.flatten(1).sum(1) == 0] = -torch.inf
                if len(grid) > len(taught.meant):
                    sums[f"{turn.kind} right"].append(int(mean.argmax()) in taught.meant)
                target = grid[list(taught.meant)].sum(0).clamp(max=1)
                sums[f"{turn.kind} heat iou"].append(_iou(heat > 0, target > 0.5))
                if draw_masks:
                    size = example.input_size
                    features = FrameFeatures(
                        example.sam_features[None], (), size, (size[0] // 4, size[1] // 4)
                    )
                    drawn = torch.from_numpy(drawing.draw(mllm, reading, answer, features).masks[0])
                    truth = (
                        example.object_masks[list(taught.meant)].sum(0)[: drawn.shape[0], : drawn.shape[1]]
                        > 0.5
                    )
                    sums[f"{turn.kind} mask iou"].append(_iou(drawn, truth))
    return dict(sums)


def _iou(one: torch.Tensor, other: torch.Tensor) -> float:
    union = (one | other).sum().item()
    return (one & other).sum().item() / union if union else 1.0
