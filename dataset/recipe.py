"""Recipes of training mixtures: how often each data set is drawn, and how a draw becomes a sample.

They are YAML files; those of the papers lie in `dataset/mixtures`. For example:

    balanced: true
    turns: 3
    frames: {rule: stretches, fewest: 8, most: 12}
    negatives: 0.05
    groups:
      rvos: {weight: 12, sources: {mevis: 4000, "revos:train": 3000}}

A group is drawn by its weight, then one of its sources by its own; a source is a data set's registered name,
and its split after ":" ("train" if not said). `like: NAME` takes from another recipe what is not said.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from dataset import registry

FOLDER = Path(__file__).parent / "mixtures"
RULES = ("stretches", "anywhere", "anchor")


@dataclass(frozen=True)
class Source:
    """A data set's split. weight: against the other sources of its group."""

    name: str
    split: str
    weight: float

    @property
    def is_video(self) -> bool:
        """Whether it asks for objects in videos, so that frames are to be chosen."""
        return self.name in registry.VIDEOS


@dataclass(frozen=True)
class Group:
    """Sources that are drawn as one kind.

    weight: against the other groups.
    reasons: None if the data sets' own words are no reasons for a mask. Otherwise, where there are such: how
        often they are the whole answer; in half of the other cases they come with the mask.
    seen_first: ask for what the first reference frame shows.
    """

    name: str
    weight: float
    sources: tuple[Source, ...]
    reasons: float | None = None
    seen_first: bool = False


@dataclass(frozen=True)
class FrameRule:
    """How frames are chosen from a video.

    rule: of `training_frames`: "stretches" (VISA), "anywhere", or "anchor" (VideoLISA).
    fewest, most: reference frames, each number as often.
    targets: how many of them are targets.
    """

    rule: str = "stretches"
    fewest: int = 8
    most: int = 12
    targets: int = 1


@dataclass(frozen=True)
class Recipe:
    """A whole mixture.

    balanced: the group follows from the sample's number, so that all ranks draw the same one at a time.
    turns: questions about one clip at most; talk keeps all of its own.
    negatives: share of a video's samples whose target frame is another video's.
    """

    groups: tuple[Group, ...]
    balanced: bool = True
    turns: int = 3
    frames: FrameRule = field(default_factory=FrameRule)
    negatives: float = 0.0

    def __post_init__(self) -> None:
        rule = self.frames
        sources = [source for group in self.groups for source in group.sources]
        weights = [item.weight for item in (*self.groups, *sources)]
        checks = {
            "a group with a source at least": self.groups and all(group.sources for group in self.groups),
            "weights above 0": all(weight > 0 for weight in weights),
            f"a frame rule among {', '.join(RULES)}": rule.rule in RULES,
            "0 < fewest <= most frames": 0 < rule.fewest <= rule.most,
            "targets from 1 to fewest, and 1 unless the rule is anchor": (
                1 <= rule.targets <= rule.fewest and (rule.rule == "anchor" or rule.targets == 1)
            ),
            "one turn at least": self.turns >= 1,
            "negatives from 0 to 1": 0 <= self.negatives <= 1,
            "reasons from 0 to 1": all(0 <= (group.reasons or 0) <= 1 for group in self.groups),
        }
        for expected, holds in checks.items():
            if not holds:
                raise ValueError(f"a mixture's recipe needs {expected}")

    def only(self, names: set[tuple[str, str]]) -> Recipe:
        """The same without the sources whose (name, split) is not among these, and without empty groups.

        Raises:
            ValueError: Nothing is left.
        """
        kept = [
            replace(group, sources=tuple(item for item in group.sources if (item.name, item.split) in names))
            for group in self.groups
        ]
        return replace(self, groups=tuple(group for group in kept if group.sources))


def names() -> tuple[str, ...]:
    """The recipes that come with the project."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read_recipe(recipe: str | Path) -> Recipe:
    """A recipe by name, or from a file.

    Args:
        recipe: One of `names()`, or the path of a YAML file.

    Raises:
        ValueError: No such recipe, or it is not as described above; names the file and the key.
    """
    path = _find(recipe)
    content = _read(path)
    unknown = content.keys() - {item.name for item in fields(Recipe)}
    if unknown:
        raise ValueError(f"{path}: unknown {sorted(unknown)}; {_hint(unknown, fields(Recipe))}")
    arguments = dict(content)
    arguments["groups"] = tuple(
        _group(name, group, f"{path}: group {name!r}")
        for name, group in (content.get("groups") or {}).items()
    )
    if "frames" in content:
        arguments["frames"] = _make(FrameRule, content["frames"], f"{path}: frames")
    try:
        return Recipe(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _find(recipe: str | Path) -> Path:
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        if str(recipe) not in names():
            close = get_close_matches(str(recipe), names(), 1) or names()
            raise ValueError(f"no mixture {str(recipe)!r}; there is {', '.join(close)}, or give a .yaml file")
        path = FOLDER / f"{recipe}.yaml"
    if not path.is_file():
        raise ValueError(f"expected a mixture's file {path}, found none")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("groups", {}), dict):
        raise ValueError(f"{path}: expected the fields of a mixture, with groups by name")
    base = content.pop("like", None)
    if base is None:
        return content
    if base not in names() or base == path.stem:
        raise ValueError(f"{path}: like must be one of {', '.join(names())}, got {base!r}")
    inherited = _read(_find(base))
    groups = {**inherited["groups"], **content.get("groups", {})}
    return {**inherited, **content, "groups": groups}


def _group(name: str, content: Any, where: str) -> Group:
    if not isinstance(content, dict) or not isinstance(content.get("sources"), dict):
        raise ValueError(f"{where}: expected weight and sources")
    sources = []
    for key, weight in content["sources"].items():
        source, _, split = str(key).partition(":")
        try:
            source = registry.registered_name(source)
            splits = registry.reader_class(source).splits
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        split = split or "train"
        if split not in splits:
            raise ValueError(f"{where}: {source} has the splits {', '.join(splits)}, not {split!r}")
        sources.append(Source(source, split, _number(weight, f"{where}, {key}")))
    content = {**content, "name": name, "sources": tuple(sources)}
    content["weight"] = _number(content.get("weight"), f"{where}, weight")
    return _make(Group, content, where)


def _make(kind: type, content: Any, where: str) -> Any:
    known = fields(kind)
    if not isinstance(content, dict) or content.keys() - {item.name for item in known}:
        raise ValueError(f"{where}: expected {', '.join(item.name for item in known)}, got {content!r}")
    return kind(**content)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: expected a number, got {value!r}")
    return value


def _hint(unknown: set[str], known: Any) -> str:
    possible = [item.name for item in known] + ["like"]
    close = get_close_matches(sorted(unknown)[0], possible, 1)
    return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(possible)}"
