"""How each benchmark is scored: what is measured for an expression, and how the measures are averaged."""

from __future__ import annotations

from dataset import registry
from visa.errors import InputError
from visa.evaluation.protocols.images import ImageProtocol
from visa.evaluation.protocols.protocol import Protocol
from visa.evaluation.protocols.ref_davis17 import RefDavis17Protocol
from visa.evaluation.protocols.revos import RevosProtocol
from visa.evaluation.protocols.videos import VideoProtocol

__all__ = ["Protocol", "protocol_for"]


def protocol_for(name: str, *, legacy: bool = False) -> Protocol:
    """The protocol of a data set.

    Args:
        name: One of `dataset.registry.names()`.
        legacy: Add the reference's own arithmetic, to compare with published columns (ReVOS only).

    Raises:
        ValueError: No such data set, or it has no such arithmetic.
    """
    known = registry.registered_name(name)
    if known == "revos":
        return RevosProtocol(legacy=legacy)
    if legacy:
        raise InputError(f"there is no other arithmetic published for {name}: leave --legacy out")
    if known == "ref_davis17":
        return RefDavis17Protocol()
    return VideoProtocol() if known in registry.VIDEOS else ImageProtocol()
