"""Training with torch alone: one process, or several that average their gradients."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, distributed, nn

from visa.training.engine.driver import (
    FIRST_SCALE_POWER,
    MOMENTS,
    SCALE_WINDOW,
    LossScale,
    TrainState,
    Update,
    make_adamw,
    put_weights,
)
from visa.training.engine.ranks import Ranks
from visa.training.engine.settings import RunSettings
from visa.training.engine.task import MicroBatch, Step, StepResult, trained_parameters


class MasterWeights:
    """float32 twins of trained parameters, in which gradients add up and updates are made.

    Args:
        parameters: by name, in any floating dtype; one that is float32 is its own twin.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]):
        self.parameters = dict(parameters)
        self.masters = {}
        for name, parameter in self.parameters.items():
            if parameter.dtype == torch.float32:
                self.masters[name] = parameter
                continue
            master = nn.Parameter(parameter.detach().float())
            self.masters[name] = master
            parameter.register_post_accumulate_grad_hook(_collector(master))
        self.clear()

    def clear(self) -> None:
        """Gradients to zero; a parameter that the loss does not reach has zeros too, on every rank."""
        for master in self.masters.values():
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            else:
                master.grad.zero_()

    @torch.no_grad()
    def publish(self) -> None:
        """What the twins have become, into the network."""
        for name, parameter in self.parameters.items():
            if parameter is not self.masters[name]:
                parameter.copy_(self.masters[name])


def _collector(master: nn.Parameter):
    def collect(parameter: nn.Parameter) -> None:
        master.grad += parameter.grad
        parameter.grad = None

    return collect


class PlainDriver:
    """See `Driver`.

    Args:
        step: on the rank's device, its trained parameters marked.
        accumulation: micro-batches of an update.
        start: where an earlier run stood.
    """

    in_pieces = False

    def __init__(
        self,
        step: Step,
        settings: RunSettings,
        ranks: Ranks,
        accumulation: int,
        start: TrainState | None = None,
    ):
        self.step, self.ranks, self.accumulation = step, ranks, accumulation
        self.clip = settings.optimiser.clip or math.inf
        self.masters = MasterWeights(trained_parameters(step))
        groups = [[self.masters.masters[name] for name in one.parameters] for one in step.parameter_groups()]
        self.optimiser = make_adamw(groups, settings.optimiser)
        self.scaler = torch.amp.GradScaler(
            ranks.device.type,
            init_scale=2.0**FIRST_SCALE_POWER,
            growth_interval=SCALE_WINDOW,
            enabled=settings.weights_precision == "fp16",
        )
        self.updates = 0
        if start is not None:
            self._restore(start)

    def forward(self, batch: MicroBatch) -> StepResult:
        return self.step(batch)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss / self.accumulation).backward()

    def update(self, learning_rates: Sequence[float]) -> Update:
        masters = list(self.masters.masters.values())
        if self.ranks.count > 1:
            for master in masters:
                distributed.all_reduce(master.grad)
                master.grad /= self.ranks.count
        self.scaler.unscale_(self.optimiser)
        norm = float(nn.utils.clip_grad_norm_(masters, self.clip))
        taken = math.isfinite(norm)
        if taken:
            for group, rate in zip(self.optimiser.param_groups, learning_rates, strict=True):
                group["lr"] = rate
            self.optimiser.step()
            self.masters.publish()
            self.updates += 1
        self.scaler.update()
        self.masters.clear()
        return Update(norm, taken)

    def weights(self) -> dict[str, Tensor]:
        return {name: master.detach().cpu() for name, master in self.masters.masters.items()}

    def state(self) -> TrainState | None:
        if not self.ranks.is_first:
            return None
        moments = {
            f"{name}.{key}": self.optimiser.state[master][key].cpu()
            for name, master in self.masters.masters.items()
            if master in self.optimiser.state
            for key in MOMENTS
        }
        return TrainState(self.weights(), moments, self.updates, self._scale())

    def _scale(self) -> LossScale | None:
        held = self.scaler.state_dict()
        return LossScale(held["scale"], held["_growth_tracker"]) if held else None

    def _restore(self, state: TrainState) -> None:
        """Set weights, moments and the losses' scale."""
        put_weights(self.masters.masters, state)
        for name, master in self.masters.masters.items():
            if state.moments:
                moments = {
                    key: state.moments[f"{name}.{key}"].to(master.device, copy=True) for key in MOMENTS
                }
                self.optimiser.state[master] = {"step": torch.tensor(float(state.updates)), **moments}
        self.masters.publish()
        self.updates = state.updates
        if state.scale is not None and self.scaler.is_enabled():
            held = {"scale": state.scale.value, "_growth_tracker": state.scale.steady}
            self.scaler.load_state_dict(self.scaler.state_dict() | held)
