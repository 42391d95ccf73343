"""From what a run was made: code, packages, machine, data, and the settings with all defaults filled in."""

import json
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from visa.training.engine.ranks import Ranks
from visa.training.engine.settings import RunSettings, plain

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "safetensors", "numpy", "segment-anything")
ROOT = Path(__file__).parents[3]


def git_state(root: Path = ROOT) -> dict[str, Any]:
    """The commit of the code, and whether files were changed since; nulls outside a git checkout."""

    def ask(*arguments: str) -> str | None:
        try:
            run = subprocess.run(
                ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return run.stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": ask("rev-parse", "HEAD"), "changed": None if changed is None else bool(changed)}


def package_versions() -> dict[str, str | None]:
    """Versions of what the numbers depend on; None for what is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def write_provenance(out: Path, settings: RunSettings, ranks: Ranks, fingerprint: str, step: int) -> None:
    """Write ``settings.yaml``, and add this start to ``starts.jsonl``."""
    resolved = yaml.safe_dump(plain(settings), sort_keys=False)
    (out / "settings.yaml").write_text(resolved, encoding="utf-8")
    cuda = ranks.device.type == "cuda"
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "from_step": step,
        "code": git_state(),
        "packages": package_versions(),
        "data": fingerprint,
        "ranks": ranks.count,
        "device": torch.cuda.get_device_name(ranks.device) if cuda else platform.machine(),
        "settings": plain(settings),
    }
    with (out / "starts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")
