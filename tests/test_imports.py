"""The shape of the code: who may import whom, what importing costs, and how large and how named files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("visa", "model", "dataset")
# Root scripts use the system as anybody does; benchmarks and tests may look inside.
ALLOWED = {
    "model": {"model"},
    "dataset": {"dataset"},
    "visa": {"visa", "model", "dataset"},
    "benchmarks": {"visa", "model", "dataset", "benchmarks"},
    "script": {"visa"},
}
MAX_LINES = 400
BANNED_NAMES = {"utils", "util", "helpers", "helper", "misc", "common", "data", "info"}
HEAVY = {"torch", "transformers", "peft", "cv2", "scipy", "av", "decord"}


def project_files(root: Path = ROOT) -> list[Path]:
    files = [path for folder in (*PACKAGES, "benchmarks") for path in (root / folder).rglob("*.py")]
    return sorted([*files, *root.glob("*.py")])


def imported_modules(source: str, package: str) -> set[str]:
    """Full names of all modules a source file imports, at any depth; relative ones count from `package`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            names.add(".".join([*parents, *([node.module] if node.module else [])]))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            if function in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def forbidden_arrows(root: Path) -> list[str]:
    """Every import between parts of the project that its rule does not allow."""
    project = {*PACKAGES, "benchmarks", "tests", *(path.stem for path in root.glob("*.py"))}
    arrows = []
    for path in project_files(root):
        relative = path.relative_to(root)
        part = relative.parts[0] if len(relative.parts) > 1 else "script"
        for name in imported_modules(path.read_text(), ".".join(relative.parent.parts)):
            target = name.partition(".")[0]
            if target in project and target not in ALLOWED[part]:
                arrows.append(f"{relative} imports {name}")
    return sorted(arrows)


def loaded_by(code: str) -> set[str]:
    """The heavy modules in memory when a fresh Python ends that was started with this code."""
    report = "import atexit, sys; atexit.register(lambda: print('\\nLOADED', *sys.modules))"
    command = [sys.executable, "-c", f"{report}; {code}"]
    result = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.rpartition("LOADED")[2].split())
    assert "sys" in loaded
    return HEAVY & loaded


def test_packages_import_only_what_they_may() -> None:
    files = project_files()
    for package in PACKAGES:
        assert ROOT / package / "__init__.py" in files
    assert forbidden_arrows(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/net.py", "import visa.video"),
        ("model/net.py", "from dataset.sample import Sample"),
        ("model/sam/net.py", "def late():\n    from visa import video"),
        ("model/sam/net.py", "import importlib\nimportlib.import_module('dataset')"),
        ("dataset/files.py", "import torch, model.sam as sam"),
        ("dataset/files.py", "try:\n    import visa\nexcept ImportError:\n    visa = None"),
        ("visa/segmenter.py", "import inference"),
        ("visa/segmenter.py", "from tests import test_imports"),
        ("visa/segmenter.py", "from benchmarks import clips"),
        ("inference.py", "from model.sam import build_sam"),
        ("chat.py", "import inference"),
        ("benchmarks/clips.py", "from tests import test_imports"),
    ],
)
def test_the_rule_catches(tmp_path: Path, path: str, source: str) -> None:
    for name in ("inference.py", "chat.py", path):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import os\n")
    assert forbidden_arrows(tmp_path) == []
    (tmp_path / path).write_text(source)
    assert len(forbidden_arrows(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/net.py", "import torch\nfrom model.sam import build_sam\nimport datasets, visage"),
        ("model/sam/net.py", "from . import image_encoder\nfrom ..xmem import memory"),
        ("visa/segmenter.py", "import model, dataset\nfrom visa.video import Video"),
        ("inference.py", "import visa\nfrom visa.commands import inference"),
    ],
)
def test_the_rule_allows(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(source)
    assert forbidden_arrows(tmp_path) == []


def test_importing_visa_is_light() -> None:
    assert loaded_by("import visa") == set()
    assert loaded_by("import scipy") == {"scipy"}, "the check must see what is loaded"


@pytest.mark.parametrize("script", [path.name for path in sorted(ROOT.glob("*.py"))])
def test_help_is_light(script: str) -> None:
    run = f"import runpy; sys.argv = [{script!r}, '--help']; runpy.run_path({script!r}, run_name='__main__')"
    assert loaded_by(run) == set()


def test_the_scripts_are_there() -> None:
    scripts = {path.name: len(path.read_text().splitlines()) for path in ROOT.glob("*.py")}
    assert {"inference.py", "chat.py", "train_ds.py"} <= scripts.keys()
    assert {name: lines for name, lines in scripts.items() if lines >= 80} == {}


def test_public_names_resolve() -> None:
    import visa

    for name in visa.__all__:
        assert getattr(visa, name) is not None
        assert name in dir(visa)
    with pytest.raises(AttributeError, match="no attribute 'segmentor'; it offers .*load"):
        _ = visa.segmentor


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in project_files()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_files_say_what_they_are() -> None:
    silent = [path for path in project_files() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_packages_are_marked() -> None:
    folders = {path.parent for path in project_files() if path.parent not in (ROOT, ROOT / "benchmarks")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_no_name_that_says_nothing() -> None:
    names = {part for path in project_files() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert names & BANNED_NAMES == set()
