"""What the loop asks of that which it trains, whatever the system: a step, micro-batches, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterGroup:
    """Trained parameters that share a learning rate.

    parameters: by their names in the step's ``model``.
    rate: their learning rate relative to the run's. begins: share of the run [0, 1] after which they learn.
    """

    parameters: Mapping[str, nn.Parameter]
    rate: float = 1.0
    begins: float = 0.0

    def rate_at(self, share: float) -> float:
        """The relative learning rate when ``share`` [0, 1] of the run is over."""
        return self.rate if share >= self.begins else 0.0


class MicroBatch(Protocol):
    """What one rank takes through the network at once.

    index: global number of its first sample; what happens to it by chance follows from it.
    names: of its samples, for messages.
    """

    index: int

    @property
    def names(self) -> Sequence[str]: ...

    def to(self, device: torch.device | str) -> Any:
        """The same on a device."""
        ...


class StepResult(Protocol):
    """What came of a micro-batch. num_positions: tokens that the language model read, padding included."""

    num_positions: int

    @property
    def parts(self) -> Mapping[str, Tensor]:
        """The parts of the loss as they count, scalars with their graph; the loss is their sum."""
        ...


class Step(Protocol):
    """A network with its losses: an ``nn.Module`` from a micro-batch to a `StepResult`.

    model: holds the trained parameters and whatever else is on the device.
    """

    model: nn.Module

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """All that is trained, each parameter in one group."""
        ...

    def begin(self, share: float) -> None:
        """An optimiser step begins, when ``share`` [0, 1] of the run is over."""
        ...

    def counts(self, batch: Any) -> Mapping[str, float]:
        """Over how many things each part's loss of a micro-batch is a mean, before anything is computed.

        Asked where losses are averaged over a whole step, see `RunSettings.average`.
        """
        ...


class Assessment(Protocol):
    """What a validation found.

    figures: by name, the one to be told first. merit: the higher, the better the weights.
    """

    @property
    def figures(self) -> Mapping[str, float]: ...

    @property
    def merit(self) -> float: ...


def trained_parameters(step: Step) -> dict[str, nn.Parameter]:
    """The trained parameters by name, group by group."""
    return {
        name: parameter for group in step.parameter_groups() for name, parameter in group.parameters.items()
    }
