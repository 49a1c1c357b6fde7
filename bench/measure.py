"""What a run of a consumer took.

Owns: the consumer's processes while they run.
Does not: know what they do.
Holds: CPU and memory are what the kernel counted for the processes, not samples of it.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import resource
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Taken:
    wall: float
    user: float
    system: float
    # Peak resident memory in bytes, of all processes together; None if it is less than what this runner had itself, which is what
    # the kernel says of a child then.
    memory: int | None
    server: float
    # Cores that were busy with neither the consumer nor the server.
    elsewhere: float

    @property
    def cpu(self) -> float:
        return self.user + self.system

    @property
    def all_cpu(self) -> float:
        return self.cpu + self.server


def measure(server, commands: list[list[str]], environment: dict[str, str], log: pathlib.Path) -> Taken:
    """Runs commands at the same time, each in a process of its own."""
    processes_before, server_before = server.processes(), server.cpu_seconds()
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    busy_before, begun = busy_seconds(), time.monotonic()
    with log.open("w") as errors:
        running = [
            subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
            for words in commands
        ]
    used = []
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        used.append(usage)
    wall, busy = time.monotonic() - begun, busy_seconds() - busy_before
    if any(process.returncode for process in running):
        raise SystemExit(f"error: {' '.join(map(str, commands[0]))}: {log.read_text()[-2000:]}")
    user, system = (sum(getattr(usage, key) for usage in used) for key in ("ru_utime", "ru_stime"))
    peaks = [usage.ru_maxrss for usage in used]
    server_used = server.cpu_seconds(processes_before) - server_before
    return Taken(
        wall=wall,
        user=user,
        system=system,
        memory=sum(peaks) * 1024 if min(peaks) > own_peak else None,
        server=server_used,
        elsewhere=max(0.0, busy - user - system - server_used) / wall,
    )


def busy_seconds() -> float:
    """What all cores of the machine have worked, and what its host took away."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS
