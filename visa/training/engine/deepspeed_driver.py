"""Training under DeepSpeed: ZeRO 1 to 3 (Rajbhandari et al. 2020, arXiv 1910.02054), with or without offload.

Its own scheduler and checkpoints are not used: the loop sets the learning rate, and weights and moments are
handed out whole, so that a run may go on with another number of ranks, another stage, or without DeepSpeed.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visa.errors import InputError
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


def configuration(settings: RunSettings, accumulation: int) -> dict[str, Any]:
    """What DeepSpeed is told."""
    own, precision = settings.deepspeed, settings.weights_precision
    zero: dict[str, Any] = {
        "stage": own.stage,
        "contiguous_gradients": True,
        "overlap_comm": True,
        "reduce_scatter": True,
        "reduce_bucket_size": own.bucket,
        "allgather_bucket_size": own.bucket,
    }
    if own.offload == "cpu":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        if own.stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    # Asked for float32 sums, ZeRO-1 would take another optimiser, which does not look for overflows.
    sums = {"data_types": {"grad_accum_dtype": "fp32"}} if own.stage > 1 else {}
    return {
        "train_micro_batch_size_per_gpu": settings.batch.videos,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": settings.optimiser.clip,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {
            "enabled": precision == "fp16",
            "initial_scale_power": FIRST_SCALE_POWER,
            "loss_scale_window": SCALE_WINDOW,
            "hysteresis": 1,
        },
        **sums,
        "zero_optimization": zero,
        # Ours is torch's AdamW, which DeepSpeed would otherwise exchange for one that it compiles.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        **own.extra,
    }


def forget_shared_buffer(ranks: Ranks, folder: Path = Path("/dev/shm")) -> None:
    """Take the name of this rank's shared buffer away; all ranks call it, DeepSpeed being set up in all.

    Ranks of one host, started by its launcher, exchange sums on a CPU through files of 69 MB in memory, which
    DeepSpeed (0.19.8) never removes, however a run ends. A buffer that all have mapped needs no name any
    more: without, it goes with the last process that has it, also where that is killed.
    """
    ranks.wait()
    address, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{ranks.rank}"
    (folder / name).unlink(missing_ok=True)


class _Shown(nn.Module):
    """A step whose losses DeepSpeed finds in what comes out, looking into tuples but not into dataclasses.

    It begins its backward pass with a hook on them. Without, it would learn only afterwards whether a
    micro-batch was a step's last, and ZeRO-1 would average the first micro-batch's gradient in its place.
    """

    def __init__(self, step: nn.Module):
        super().__init__()
        self.step = step

    def forward(self, batch: MicroBatch) -> tuple[StepResult, dict[str, Tensor]]:
        result = self.step(batch)
        return result, dict(result.parts)


class _Handed:
    """A step's result with the losses that DeepSpeed handed on: under ZeRO-3 others, with its hooks."""

    def __init__(self, result: StepResult, parts: dict[str, Tensor]):
        self._result, self.parts = result, parts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)


class DeepSpeedDriver:
    """See `Driver`.

    Args:
        step: on the rank's device, its trained parameters marked.
        accumulation: micro-batches of an update.
        start: where an earlier run stood.

    Raises:
        InputError: deepspeed cannot be imported.
    """

    def __init__(
        self,
        step: Step,
        settings: RunSettings,
        ranks: Ranks,
        accumulation: int,
        start: TrainState | None = None,
    ):
        try:
            import deepspeed
        except ImportError as error:
            raise InputError(f"deepspeed cannot be imported ({error}): pip install deepspeed") from error
        from deepspeed import utils

        self.ranks, self.utils, self.stage = ranks, utils, settings.deepspeed.stage
        self.in_pieces = self.stage == 3
        self.trained = trained_parameters(step)
        groups = [list(group.parameters.values()) for group in step.parameter_groups()]
        if start is not None:
            put_weights(self.trained, start)
        # DeepSpeed cannot send scalars to the other ranks (0.19.8 views them as bytes). All have the same
        # ones already, and what bears this mark it leaves alone.
        scalars = [parameter for parameter in step.model.parameters() if not parameter.dim()]
        for parameter in scalars:
            parameter.ds_optim_param = True
        self.engine, *_ = deepspeed.initialize(
            model=_Shown(step),
            optimizer=make_adamw(groups, settings.optimiser),
            config=configuration(settings, accumulation),
            dist_init_required=False,
        )
        forget_shared_buffer(ranks)
        for parameter in scalars:
            del parameter.ds_optim_param
        # In float32 DeepSpeed would step on a gradient that is not finite.
        self.engine.optimizer.check_grad_overflow = True
        self.updates, self.has_scale = 0, settings.weights_precision == "fp16"
        if start is not None:
            self._restore(start)
        if len(groups) > 1 and not (start and start.moments):
            # DeepSpeed looks for moments once, when the first of the groups has been updated.
            self._make_moments(0)

    def forward(self, batch: MicroBatch) -> StepResult:
        return _Handed(*self.engine(batch))

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss)
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()

    def update(self, learning_rates: Sequence[float]) -> Update:
        for group, rate in zip(self.engine.optimizer.param_groups, learning_rates, strict=True):
            group["lr"] = rate
        self.engine.step()
        norm = float(self.engine.get_global_grad_norm())
        taken = self.engine.was_step_applied() and math.isfinite(norm)
        self.updates += taken
        return Update(norm, taken)

    def weights(self) -> dict[str, Tensor]:
        whole = self.utils.safe_get_full_fp32_param
        return {name: whole(one).detach().float().cpu().clone() for name, one in self.trained.items()}

    def state(self) -> TrainState | None:
        weights, moments = {}, {}
        for name, parameter in self.trained.items():
            # All ranks take part in putting a tensor together, and only the first keeps it.
            whole = {"": self.utils.safe_get_full_fp32_param(parameter)}
            if self.updates:
                whole |= {key: self.utils.safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            if self.ranks.is_first:
                whole = {key: value.detach().float().cpu().clone() for key, value in whole.items()}
                weights[name] = whole.pop("")
                moments |= {f"{name}.{key}": value for key, value in whole.items()}
        return TrainState(weights, moments, self.updates, self._scale()) if self.ranks.is_first else None

    def _scale(self) -> LossScale | None:
        scaler = self.engine.optimizer.loss_scaler if self.has_scale else None
        return scaler and LossScale(scaler.cur_scale, scaler.cur_iter - scaler.last_overflow_iter - 1)

    @torch.no_grad()
    def _restore(self, state: TrainState) -> None:
        """Weights as float32 (the network has them already, in its own precision), moments, losses' scale."""
        for name, parameter in self.trained.items():
            self._put(parameter, state.weights[name])
        self.updates = state.updates
        if state.scale is not None and self.has_scale:
            scaler = self.engine.optimizer.loss_scaler
            scaler.cur_scale, scaler.cur_iter = state.scale.value, state.scale.steady
            scaler.last_overflow_iter = -1
        if not state.moments:
            return
        self._make_moments(state.updates)
        for name, parameter in self.trained.items():
            for key in MOMENTS:
                self._put(parameter, state.moments[f"{name}.{key}"], key)

    def _put(self, parameter: Tensor, value: Tensor, key: str | None = None) -> None:
        """Set one parameter's float32 weight, or its moment ``key``, where this rank holds a piece of it."""
        value = value.to(self.ranks.device)
        utils = self.utils
        if self.stage < 3:
            given = (parameter, value) if key is None else (parameter, value, key)
            (utils.safe_set_full_fp32_param if key is None else utils.safe_set_full_optimizer_state)(*given)
            return
        # ZeRO-3 cuts every parameter in equal pieces and fills up the last one.
        held = utils.safe_get_local_fp32_param(parameter).numel()
        flat = torch.nn.functional.pad(value.flatten(), (0, held * self.ranks.count - value.numel()))
        piece = flat[held * self.ranks.rank : held * (self.ranks.rank + 1)]
        if key is None:
            utils.safe_set_local_fp32_param(parameter, piece)
        else:
            utils.safe_set_local_optimizer_state(parameter, piece, key)

    def _make_moments(self, updates: int) -> None:
        """Room for moments, which AdamW itself makes at its first update."""
        zero = self.engine.optimizer
        flat = zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups
        for part in flat:
            zero.optimizer.state[part] = {"step": torch.tensor(float(updates))} | {
                key: torch.zeros_like(part) for key in MOMENTS
            }
        if self.stage < 3:
            zero._lazy_init_hp_params_optimizer_state()
