"""The learning rate's course, as the published runs had it from DeepSpeed's schedulers."""

import math

from visa.training.engine.settings import ScheduleSettings


def learning_rate_share(schedule: ScheduleSettings, step: int, share: float = 0.0) -> float:
    """What part of the full learning rate a step has, [0, 1].

    It rises in a straight line over the warm-up, then falls to nothing at the last step ("linear",
    DeepSpeed's WarmupDecayLR), falls along half a cosine ("cosine", WarmupCosineLR), or stays ("constant").
    As there, a scheduler learns of a step when it is done: the first two steps have the same rate, which is 0
    with a warm-up.

    Args:
        step: 0 is the first.
        share: of the run [0, 1] that is over at least: where time is short, the rate falls faster.
    """
    done = max(step - 1, 0)
    if done < schedule.warmup:
        return done / schedule.warmup
    # A warm-up takes its steps, however short the time.
    done = max(done, share * schedule.steps - 1)
    falling = max(1, schedule.steps - schedule.warmup)
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "linear":
        return max(0.0, (schedule.steps - done) / falling)
    progress = min(1.0, (done - schedule.warmup + 1) / falling)
    return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * progress)) / 2
