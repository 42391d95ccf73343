"""Other processes of the run that are gone, or say nothing any more, as gloo and NCCL tell it."""

import re

from torch import distributed

# What gloo's and the store's errors, plain RuntimeErrors, say when a connection ends or is silent.
LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "connection refused",
    "timed out waiting",
    "gloo/transport",
)


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error says that another process of the run cannot be reached any more."""
    told = str(error).lower()
    return isinstance(error, (distributed.DistBackendError, distributed.DistNetworkError)) or (
        isinstance(error, RuntimeError) and any(words in told for words in LOST)
    )


def told_lost_rank(error: BaseException, step: int, saved: int | None) -> str:
    """What happened and what to do.

    Args:
        step: the one that was being done. saved: the step of the last checkpoint; None: there is none.
    """
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # Neither the place in PyTorch's source nor its advice.
    reason = re.sub(r"^\[\S+:\d+\] *", "", line).split(". ")[0].rstrip(".")
    last = "there is no checkpoint yet" if saved is None else f"the last checkpoint is step {saved}"
    way = "begins anew" if saved is None else "goes on from there"
    return (
        f"another process of the run was lost in step {step} ({reason}); {last}: see which host or process "
        f"ended and why, then start the same command, which {way}"
    )
