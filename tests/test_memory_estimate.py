"""What a model will take is told part by part, and what cannot fit is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from visa import memory_estimate
from visa.errors import InputError
from visa.memory_estimate import RESERVE, MemoryEstimate, Need, free_memory

NEEDS = (Need("language", "cuda:0", 13.5e9), Need("tower", "cuda:0", 0.6e9), Need("sam", "cuda:1", 1.3e9))
ESTIMATE = MemoryEstimate("visa-7b", NEEDS)


def test_what_it_says() -> None:
    assert str(ESTIMATE) == (
        "visa-7b will take 14.10 GB on cuda:0, 1.30 GB on cuda:1 (language 13.50, tower 0.60, sam 1.30)"
    )


def test_what_does_not_fit_is_refused() -> None:
    ESTIMATE.check({"cuda:0": 14.1e9 + RESERVE, "cuda:1": 2e9})
    with pytest.raises(InputError) as caught:
        ESTIMATE.check({"cuda:0": 12e9 + RESERVE, "cuda:1": 2e9})
    message = str(caught.value)
    assert "cuda:0 has 12.0 GB to spare" in message
    assert "bits=8" in message
    assert "\n" not in message
    with pytest.raises(InputError, match="cuda:1 has 0.0 GB to spare"):
        ESTIMATE.check({"cuda:0": 80e9, "cuda:1": 1e8})


def test_this_machines_free_memory() -> None:
    free = free_memory("cpu")
    assert free is None or free > 1e8
    assert free_memory("meta") is None
    with pytest.raises(InputError, match="to spare"):
        MemoryEstimate("huge", (Need("language", "cpu", 1e15),)).check()


def test_a_machines_and_a_containers_limit(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   64 kB\n")
    assert memory_estimate._free_of_machine(tmp_path / "meminfo") == 65536
    assert memory_estimate._free_of_machine(tmp_path / "absent") is None
    assert memory_estimate._free_of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_estimate._free_of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 50\n")
    assert memory_estimate._free_of_group(tmp_path) == 550


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_free_memory() -> None:
    free = free_memory("cuda")
    assert 0 < free <= torch.cuda.get_device_properties(0).total_memory
