"""How reference frames are laid around a target frame: one rule a name.

The rules are those of VISA (Yan et al. 2024, arXiv 2407.11325, section 3.2 and the ablation of its sampling):
"global" spreads the references over the video, "local" takes the frames around the target, "global_local"
half of each, and "strided" is what the released code does. The paper gives no formula for the others; here a
window that would leave the video is moved inside, frames are not repeated, and all stand in order of time.
"""

from collections.abc import Callable

from visa.sampling.choice import uniform_indices


def strided(num_frames: int, target: int, count: int) -> tuple[int, ...]:
    """Every k-th frame with k as small as at most ``count`` frames allow, shifted to hit the target."""
    step = -(-num_frames // count)
    return tuple(range(target % step, num_frames, step))


def local(num_frames: int, target: int, count: int) -> tuple[int, ...]:
    """``count`` neighbouring frames with the target in their middle (of an even number: just behind it)."""
    count = min(count, num_frames)
    start = min(max(0, target - count // 2), num_frames - count)
    return tuple(range(start, start + count))


def global_local(num_frames: int, target: int, count: int) -> tuple[int, ...]:
    """Half spread over the video, half (the larger one) around the target; shared frames count once."""
    far = uniform_indices(num_frames, count // 2) if count > 1 else ()
    return tuple(sorted({*far, *local(num_frames, target, count - count // 2)}))


REFERENCE_RULES: dict[str, Callable[[int, int, int], tuple[int, ...]]] = {
    "strided": strided,
    "global": lambda num_frames, target, count: uniform_indices(num_frames, count),
    "local": local,
    "global_local": global_local,
}


def require_rule(rule: str, count: int) -> None:
    """Raise ValueError unless ``rule`` is one of `REFERENCE_RULES` and ``count`` a number of frames."""
    if rule not in REFERENCE_RULES:
        raise ValueError(f"references must be one of {', '.join(REFERENCE_RULES)}, not {rule!r}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"num_references must be a whole number from 0 on, not {count!r}")


def reference_frames(rule: str, num_frames: int, target: int, count: int) -> tuple[int, ...]:
    """Reference frames, ascending, each once.

    Args:
        rule: a name in `REFERENCE_RULES`.
        num_frames: frames of the video, >= 1.
        target: the target frame's index.
        count: references at most; fewer where the video is shorter or the rule says so. With 0 the target is
            its own and only reference, as in the released code; that code's ``max_image_token`` counts the
            target image too, so its 12 is 11 here.

    Raises:
        ValueError: an unknown rule, a negative count, or a target outside the video.
    """
    require_rule(rule, count)
    if not 0 <= target < num_frames:
        raise ValueError(f"the target frame must be one of the video's {num_frames}, got {target}")
    return REFERENCE_RULES[rule](num_frames, target, count) if count else (target,)
