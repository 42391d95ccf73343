"""What turns losses into new weights: torch alone, or DeepSpeed; the loop does not know which.

Both keep the trained weights and AdamW's moments in float32, and hand them out and take them back by the
parameters' names, whole, so that a checkpoint of one is a checkpoint of the other, for any number of ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from visa.errors import InputError
from visa.training.engine.settings import OptimiserSettings
from visa.training.engine.task import MicroBatch, StepResult

MOMENTS = ("exp_avg", "exp_avg_sq")
# torch's own choice; DeepSpeed is told the same.
FIRST_SCALE_POWER, SCALE_WINDOW = 16, 2000


@dataclass(frozen=True)
class LossScale:
    """What losses are multiplied with so that float16 holds their gradients (Micikevicius et al. 2018, arXiv
    1710.03740, section 3.2): halved when one overflows, doubled after `SCALE_WINDOW` updates without.

    steady: updates since it last changed.
    """

    value: float
    steady: int


@dataclass(frozen=True)
class TrainState:
    """The numbers that training has changed.

    weights: float32, trained parameters by name. moments: float32, ``<parameter>.exp_avg`` and
    ``.exp_avg_sq``; none before the first update. updates: how many updates made them.
    scale: of float16's losses, None in other precisions.
    """

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    updates: int
    scale: LossScale | None = None


@dataclass(frozen=True)
class Update:
    """How an optimiser step went. norm: of the gradient before clipping. taken: False if it was not finite
    and the weights are as before."""

    norm: float
    taken: bool


class Driver(Protocol):
    """Forward, backward and update of one rank.

    in_pieces: whether ranks hold pieces of the network, so that it goes forward only in this driver.
    """

    in_pieces: bool

    def forward(self, batch: MicroBatch) -> StepResult:
        """A micro-batch on the rank's device through the network."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a micro-batch's loss, which counts 1 / accumulation."""
        ...

    def update(self, learning_rates: Sequence[float]) -> Update:
        """Average gradients over ranks, clip, and change the weights, each group at its learning rate."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """All ranks call it, and all get the trained weights: float32, whole, on the CPU, by name."""
        ...

    def state(self) -> TrainState | None:
        """All ranks call it; the first gets the numbers, on the CPU."""
        ...


@torch.no_grad()
def put_weights(parameters: Mapping[str, Tensor], state: TrainState) -> None:
    """Trained weights into a network, in its own precision.

    Raises:
        InputError: the state is of another network, or of other trained parts.
    """
    if odd := sorted(parameters.keys() ^ state.weights.keys()):
        where = "the checkpoint" if odd[0] in parameters else "the network"
        raise InputError(f"the checkpoint does not fit: {where} has no trained {odd[0]} ({len(odd)} such)")
    for name, parameter in parameters.items():
        if parameter.shape != state.weights[name].shape:
            raise InputError(
                f"the checkpoint does not fit: its {name} is {list(state.weights[name].shape)}, "
                f"the network's {list(parameter.shape)}"
            )
        parameter.copy_(state.weights[name])


def make_adamw(groups: Sequence[Sequence[Tensor]], settings: OptimiserSettings) -> torch.optim.AdamW:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101), as both drivers use it."""
    return torch.optim.AdamW(
        [{"params": list(parameters)} for parameters in groups],
        lr=settings.learning_rate,
        betas=tuple(settings.betas),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
