"""python -m visa.web: its options, what it says when it cannot start, and what it needs installed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from visa.commands.output import BAD_USAGE
from visa.web import server
from visa.web.__main__ import build_parser, main

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "requirements-web.txt").read_text().splitlines()
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Gradio's upper bounds that we know to be too strict; see requirements-web.txt.
TOO_STRICT = {("gradio", "pillow")}


def test_help_loads_neither_torch_nor_gradio() -> None:
    code = (
        "import runpy, sys, atexit; sys.argv = ['web', '--help'];"
        "atexit.register(lambda: print('LOADED', {'torch', 'gradio', 'numpy'} & set(sys.modules)));"
        "runpy.run_module('visa.web', run_name='__main__')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "--max-megabytes" in run.stdout
    assert "LOADED set()" in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--port", "0"], ["--port", "x"], ["--max-frames", "0"], ["--max-seconds", "nan"], ["--share"]],
)
def test_bad_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(arguments)
    assert ended.value.code == BAD_USAGE
    assert "error: " in capsys.readouterr().err


def test_without_gradio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main([]) == BAD_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the page needs Gradio")
    assert server.INSTALL in line


def test_a_folder_that_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "require_gradio", lambda: None)
    assert main(["--model", str(tmp_path)]) == BAD_USAGE
    assert f"error: the folder {tmp_path} holds no model" in capsys.readouterr().err


def test_it_is_bound_to_this_machine() -> None:
    assert server.ADDRESS == "127.0.0.1"
    assert "address" not in build_parser().format_help().replace("--port", "")


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISA_WAS", "before")
    monkeypatch.delenv("VISA_NEW", raising=False)
    with server._environment(VISA_WAS="now", VISA_NEW="now"):
        assert (os.environ["VISA_WAS"], os.environ["VISA_NEW"]) == ("now", "now")
    assert os.environ["VISA_WAS"] == "before"
    assert "VISA_NEW" not in os.environ


def pins(python: str, lines: list[str]) -> dict[str, str]:
    """Exact versions by name, on Linux with a version of Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    environment |= {"platform_machine": "x86_64"}
    versions: dict[str, str] = {}
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            (specifier,) = pin.specifier
            assert specifier.operator == "==", f"{pin} is not an exact pin"
            name = canonicalize_name(pin.name)
            assert name not in versions, f"{name} is pinned twice on Python {python}"
            versions[name] = specifier.version
    return versions


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_leave_the_others_alone(python: str) -> None:
    of_the_page = pins(python, LINES)
    of_the_rest = pins(python, (ROOT / "requirements.txt").read_text().splitlines())
    assert "gradio" in of_the_page
    assert of_the_page.keys() & of_the_rest.keys() == set()
    assert "torchvision" not in of_the_page


@pytest.mark.parametrize("python", PYTHONS)
def test_the_extra_asks_for_what_is_pinned(python: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extra = [
        Requirement(part.strip(' "'))
        for part in text.partition("\nweb = [")[2].partition("]")[0].split('", ')
    ]
    assert [requirement.name for requirement in extra] == ["gradio"]
    assert extra[0].specifier.contains(pins(python, LINES)["gradio"])


def test_every_pin_has_its_reason() -> None:
    previous = ""
    for line in LINES:
        if "==" in line:
            assert previous.startswith(("# ", f"{line.partition('==')[0]}==")), f"no comment above {line}"
        previous = line


def needs(names: set[str]) -> tuple[set[str], list[str]]:
    """All that some installed distributions ask for, themselves too, and what of it does not fit."""
    faults, waiting, seen = [], sorted(names), set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            try:
                version = importlib.metadata.version(needed.name)
            except importlib.metadata.PackageNotFoundError:
                faults.append(f"{name} needs {needed}, which is not installed")
                continue
            fits = needed.specifier.contains(version, prereleases=True)
            if not fits and (name, canonicalize_name(needed.name)) not in TOO_STRICT:
                faults.append(f"{name} needs {needed}, and {version} is installed")
            waiting.append(needed.name)
    return seen, faults


def test_the_pins_are_all_that_is_needed() -> None:
    """--no-deps installs no more than is named: what gradio asks for is named, or is there without it."""
    pytest.importorskip("gradio", reason=f"no gradio: {server.INSTALL}")
    pytest.importorskip("playwright", reason=f"no playwright: {server.INSTALL}")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    rest = pins(python, (ROOT / "requirements.txt").read_text().splitlines()).keys()
    there, _ = needs({name for name in rest if name not in ("ruff", "scikit-image")})
    needed, faults = needs({"gradio", "playwright"})
    assert faults == []
    assert {"fastapi", "starlette", "pillow", "greenlet"} <= needed
    named = pins(python, LINES).keys()
    assert needed - there == named, "all that is needed is named, and nothing else"
