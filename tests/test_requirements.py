"""requirements.txt pins exactly what pyproject.toml asks for, on every supported Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = (
    {"sys_platform": "linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_machine": "arm64"},
    {"sys_platform": "win32", "platform_machine": "AMD64"},
)


def requirement_lines() -> list[str]:
    return (ROOT / "requirements.txt").read_text().splitlines()


def declared() -> list[Requirement]:
    """The dependencies of pyproject.toml, `dev` included (read without tomllib, which Python 3.10 lacks)."""
    text = (ROOT / "pyproject.toml").read_text()
    needed = text.partition("\ndependencies = [")[2].partition("\n]")[0].splitlines()
    extra = text.partition("\ndev = [")[2].partition("]")[0].split(",")
    entries = [line.strip().rstrip(",").strip('"') for line in needed] + [
        item.strip().strip('"') for item in extra
    ]
    return [Requirement(entry) for entry in entries if entry]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(machine.values()))
@pytest.mark.parametrize("python", PYTHONS)
def test_pins_are_exact_and_within_the_ranges(python: str, machine: dict[str, str]) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.1", **machine}

    def applies(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate(environment)

    lines = [line for line in requirement_lines() if line.strip() and not line.startswith("#")]
    pins = [requirement for requirement in map(Requirement, lines) if applies(requirement)]
    versions = {}
    for pin in pins:
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} is not an exact pin"
        assert canonicalize_name(pin.name) not in versions, f"{pin.name} is pinned twice on Python {python}"
        versions[canonicalize_name(pin.name)] = specifier.version
    ranges = {
        canonicalize_name(requirement.name): requirement for requirement in declared() if applies(requirement)
    }
    assert "torch" in ranges
    assert "pytest" in ranges
    assert versions.keys() == ranges.keys()
    for name, requirement in ranges.items():
        assert requirement.specifier.contains(versions[name]), (
            f"{name} {versions[name]} against {requirement}"
        )


def test_every_pin_has_its_reason() -> None:
    previous = ""
    for line in requirement_lines():
        if "==" in line:
            name = line.partition("==")[0]
            assert previous.startswith(("# ", f"{name}==")), f"no comment above {line}"
        previous = line


def test_no_torchvision() -> None:
    assert not any(line.startswith("torchvision") for line in requirement_lines())
