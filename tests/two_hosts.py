"""Two hosts on one machine: network namespaces joined by a cable of their own, an sshd in each, one disk.

Needs root and the programs of Debian's openssh-server, openssh-client, iproute2 and pdsh.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ADDRESSES = ("10.77.0.1", "10.77.0.2")
NOBODY = "10.77.0.9"
PREFIX = "visa-test"
# sshd is in none of the folders that an ordinary user searches.
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def missing() -> str:
    """Why two hosts cannot be had here; "" where they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if absent := [name for name in ("ip", "sshd", "ssh", "ssh-keygen", "pdsh") if not program(name)]:
        return f"not installed: {', '.join(absent)} (Debian: openssh-server openssh-client iproute2 pdsh)"
    if find_spec("deepspeed") is None:
        return "deepspeed is not installed (requirements-gpu.txt)"
    name = f"{PREFIX}-{os.getpid()}-0"
    tried = run("ip", "netns", "add", name, check=False)
    run("ip", "netns", "delete", name, check=False)
    return f"no network namespace can be made: {tried.stderr.strip()}" if tried.returncode else ""


def program(name: str) -> str | None:
    """Where a program is."""
    return shutil.which(name, path=SEARCHED)


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a short command; its output is kept."""
    found = program(command[0]) or command[0]
    done = subprocess.run([found, *command[1:]], capture_output=True, text=True, timeout=60, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done


class Host:
    """A network namespace with an address and an sshd, which lets in whoever has the key in ``folder``."""

    def __init__(self, name: str, address: str, folder: Path):
        self.name, self.address, self.folder = name, address, folder

    def inside(self, *command: str) -> list[str]:
        """The command that runs another one on this host."""
        return [program("ip") or "ip", "netns", "exec", self.name, *command]

    def boot(self) -> None:
        """Start its sshd, and wait until it answers."""
        options = {
            "ListenAddress": self.address,
            "PidFile": "none",
            "AuthorizedKeysFile": str(self.folder / "key.pub"),
            "StrictModes": "no",
            "UsePAM": "no",
        }
        told = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        log = self.folder / f"sshd-{self.address}.log"
        run(
            *self.inside(program("sshd") or "sshd", "-f", "/dev/null", "-h", str(self.folder / "host_key")),
            *("-E", str(log), *told),
        )
        for _ in range(100):
            tried = run(*self.inside(str(self.folder / "ssh"), self.address, "true"), check=False)
            if tried.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"no sshd at {self.address}: {tried.stderr}{log.read_text()}")

    def die(self) -> None:
        """End all that runs on it, at once and without a word."""
        # Those that were being started while the others were killed are seen in the next round.
        for _ in range(100):
            running = run("ip", "netns", "pids", self.name, check=False).stdout.split()
            if not running:
                return
            for process in running:
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            time.sleep(0.05)


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other and nothing else; they are gone when the block ends, however it ends.

    Args:
        folder: for keys, logs, and ``ssh``, which goes by that key and asks nothing.
    """
    _sweep()
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    quiet = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    ssh = folder / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {program("ssh")} -i {folder / "key"} {quiet} "$@"\n')
    ssh.chmod(0o755)
    # sshd refuses to start without the folder that its package's service makes.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    names = [f"{PREFIX}-{os.getpid()}-{number}" for number in (1, 2)]
    hosts = tuple(Host(*pair, folder) for pair in zip(names, ADDRESSES, strict=True))
    try:
        for name in names:
            run("ip", "netns", "add", name)
        cable = ["ip", "link", "add", "eth0", "netns", names[0], "type", "veth"]
        run(*cable, "peer", "name", "eth0", "netns", names[1])
        for host in hosts:
            run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", host.name, "link", "set", device, "up")
        for host in hosts:
            host.boot()
        yield hosts
    finally:
        for name in names:
            _remove(name)


class Launch:
    """`deepspeed --hostfile` on the first host, one process on each, the output in a file.

    Args:
        hosts: where.
        folder: for the hostfile and the output; the launcher's home.
        port: at which the processes could meet.
        command: a Python program and its arguments.
        environment: what the processes are told; they get little else of the launcher's.
        listed: the hosts that the hostfile names.
    """

    def __init__(
        self,
        hosts: tuple[Host, Host],
        folder: Path,
        port: int,
        command: Sequence[str | Path],
        environment: Mapping[str, object],
        listed: Sequence[str] = ADDRESSES,
    ):
        self.told = folder / f"told-{port}.txt"
        (folder / "hostfile").write_text("".join(f"{host} slots=1\n" for host in listed))
        settings = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", **environment}
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (folder / ".deepspeed_env").write_text("".join(lines))
        searched = os.pathsep.join([str(hosts[0].folder), SEARCHED])
        imported = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        # Another .deepspeed_env may be in the real home.
        own = {"PATH": searched, "PYTHONPATH": imported, "HOME": str(folder), "DS_ACCELERATOR": "cpu"}
        whole = hosts[0].inside(
            *(sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", "hostfile"),
            *("--master_addr", ADDRESSES[0], "--master_port", str(port), *map(str, command)),
        )
        with self.told.open("w") as told:
            self.process = subprocess.Popen(
                whole, cwd=folder, env={**os.environ, **own}, stdout=told, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            # What it started on the hosts ends with them.
            self.process.kill()
            self.process.wait()

    def output(self) -> str:
        """What the launcher and the processes have said so far."""
        return self.told.read_text(errors="replace")

    def wait(self, seconds: float) -> int:
        """The launcher's exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds} s:\n{self.output()[-4000:]}")


def _remove(name: str) -> None:
    """End all that runs in a namespace, then take it away; its end of the cable goes with it."""
    Host(name, "", Path()).die()
    run("ip", "netns", "delete", name, check=False)


def _sweep() -> None:
    """Remove what tests left that were killed before they could."""
    for line in run("ip", "netns", "list").stdout.splitlines():
        name = line.split()[0]
        if name.startswith(f"{PREFIX}-") and not Path(f"/proc/{name.split('-')[2]}").exists():
            _remove(name)
