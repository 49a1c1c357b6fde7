"""What a run of a consumer took.

Owns: the consumer's processes while they run, and the thread that looks at them meanwhile.
Does not: know what they do.
Holds: CPU is what the kernel counted for the processes, to their end. What is gone with a process is looked at every 10 ms until then: its
peak memory, and the CPU of a walsender, which lack at most the last 10 ms.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import threading
import time

from server import TICKS, ticks

LOOK_SECONDS = 0.01


@dataclasses.dataclass
class Taken:
    wall: float
    user: float
    system: float
    # Peak resident memory in bytes, of all processes together.
    memory: int
    server: float
    # CPU of the walsenders among the server's processes, and what each was told to send.
    sender: float
    commands: list[str]
    # Cores that were busy with neither the consumer nor the server.
    elsewhere: float
    more: dict = dataclasses.field(default_factory=dict)

    @property
    def cpu(self) -> float:
        return self.user + self.system

    @property
    def all_cpu(self) -> float:
        return self.cpu + self.server


class Watch(threading.Thread):
    """Looks at processes as long as they live."""

    def __init__(self, server, before: set[int], pids: list[int]):
        super().__init__(daemon=True)
        self.server, self.before = server, before
        self.peaks = dict.fromkeys(pids, 0)
        self.senders: dict[int, int] = {}
        self.commands: dict[int, str] = {}
        self.done = threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(LOOK_SECONDS):
            self.look()

    def look(self):
        for pid in self.peaks:
            self.peaks[pid] = max(self.peaks[pid], memory(pid, "VmHWM"))
        for pid in self.server.processes() - self.before:
            is_sender = pid in self.senders or "walsender" in title(pid)
            if not is_sender:
                continue
            # It is nothing once the process is gone.
            self.senders[pid] = max(self.senders.get(pid, 0), ticks(pid, of_children=False))
            if pid not in self.commands and "START_REPLICATION" in title(pid):
                self.commands[pid] = self.server.query(f"SELECT query FROM pg_stat_activity WHERE pid = {pid}")

    def stop(self):
        self.done.set()
        self.join()


def measure(server, commands: list[list[str]], environment: dict[str, str], log: pathlib.Path, beside: list[int] = (), drive=None) -> Taken:
    """Runs commands at the same time, each in a process of its own. What the processes `beside` use is nobody's. What `drive` does
    meanwhile, given their ids, is within the time; it answers with what it found."""
    processes_before, server_before = server.processes(), server.cpu_seconds()
    others_before, own_before = others(beside), time.process_time()
    busy_before, begun = busy_seconds(), time.monotonic()
    with log.open("w") as errors:
        running = [
            subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
            for words in commands
        ]
    watch = Watch(server, processes_before, [process.pid for process in running])
    used = []
    try:
        more = drive([process.pid for process in running]) if drive else {}
        for process in running:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            used.append(usage)
        wall, busy = time.monotonic() - begun, busy_seconds() - busy_before
    finally:
        watch.stop()
        for process in running:
            if process.returncode is None:
                process.kill()
    if any(process.returncode for process in running):
        raise SystemExit(f"error: {' '.join(map(str, commands[0]))}: {log.read_text()[-2000:]}")
    user, system = (sum(getattr(usage, key) for usage in used) for key in ("ru_utime", "ru_stime"))
    server_used = server.cpu_seconds(processes_before) - server_before
    known = user + system + server_used + others(beside) - others_before + time.process_time() - own_before
    return Taken(
        wall=wall,
        user=user,
        system=system,
        memory=sum(watch.peaks.values()),
        server=server_used,
        sender=sum(watch.senders.values()) / TICKS,
        commands=list(watch.commands.values()),
        elsewhere=max(0.0, busy - known) / wall,
        more=more,
    )


def others(pids) -> float:
    return sum(ticks(pid, of_children=True) for pid in pids) / TICKS


def memory(pid: int, field: str) -> int:
    """Bytes, by a line of its status; nothing if it is gone."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found.group(1)) * 1024 if found else 0


def title(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def busy_seconds() -> float:
    """What all cores of the machine have worked, and what its host took away."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS
