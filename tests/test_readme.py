"""What README.md says can be done, can be done: its commands, its names and its pictures exist."""

import re
import shlex
from pathlib import Path

import pytest

import visa
from dataset import __main__ as dataset
from visa.commands import chat, inference, train
from visa.evaluation import __main__ as evaluation

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARSERS = {
    "inference.py": inference,
    "chat.py": chat,
    "train_ds.py": train,
    "-m dataset": dataset,
    "-m visa.evaluation": evaluation,
}


def commands(script: str) -> list[list[str]]:
    """The arguments of every call of a script in the README, placeholders in brackets left out."""
    lines = re.findall(rf"^ *python {re.escape(script)} (.*)$", README, re.MULTILINE)
    return [shlex.split(re.sub(r"\[.*?\]", "", line)) for line in lines]


@pytest.mark.parametrize("script", PARSERS)
def test_every_command_parses(script):
    found = commands(script)
    assert found, f"README.md shows no call of {script}"
    for arguments in found:
        PARSERS[script].build_parser().parse_args(arguments)


def test_the_two_commands_are_in_the_makefile():
    targets = re.findall(r"^    make (\w+)", README, re.MULTILINE)
    assert targets[:2] == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"the Makefile has no target {target}"


def test_links_and_pictures_are_there():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert any(target.endswith(".jpg") for target in targets)
    for target in targets:
        assert (ROOT / target).exists(), f"README.md points to {target}, which is not there"


def test_the_files_it_names_are_there():
    for name in re.findall(r"`([\w/.]+/[\w./]*)`", README):
        if not name.startswith((".venv/", "out/")):
            assert (ROOT / name).exists(), f"README.md names {name}, which is not there"


def test_the_python_example_uses_what_exists():
    from visa.segmenter import Segmenter
    from visa.tracklet import Tracklet

    fields = set(re.findall(r"tracklet\.(\w+)", README))
    assert {"found", "answer", "target_frame", "score", "masks", "save"} <= fields
    assert all(field in Tracklet.__dataclass_fields__ or hasattr(Tracklet, field) for field in fields)
    methods = set(re.findall(r"segmenter\.(\w+)\(", README))
    assert methods == {"segment", "segment_many"}
    assert all(callable(getattr(Segmenter, method)) for method in methods)
    assert callable(visa.load)
