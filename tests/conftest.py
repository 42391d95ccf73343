"""Options and fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples in every run, however slow the machine: a test that fails here fails everywhere.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

OWN_GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        metavar="DIR",
        type=Path,
        default=OWN_GOLDEN,
        help="folder of golden cases: xmem/, visa/, videolisa/, metrics/, each with cases.json and its arrays"
        " (default: tests/golden)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--golden").is_dir():
        raise pytest.UsageError(f"--golden: no folder {config.getoption('--golden')}")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one core: small networks are faster so, and sums come out the same on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def golden_root(pytestconfig: pytest.Config) -> Path:
    """The folder of golden cases: `--golden DIR`, or tests/golden.

    A golden test has `golden` in its name, reads `golden_root / "<part>" / "cases.json"` and knows no case by
    its name, so that it also runs over cases it has never seen. To make one test per case, read
    `metafunc.config.getoption("--golden")` in the file's own `pytest_generate_tests`.
    """
    return pytestconfig.getoption("--golden").resolve()
