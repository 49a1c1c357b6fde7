"""Tributary as it runs for days: started, asked, stopped.

Owns: the process, its configuration and its log.
Does not: measure.
Holds: slot and lake are new; the configuration is the default one but for what is said.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.request

from measure import memory
from server import TICKS, free_port, ticks

START_SECONDS = 60


class Daemon:
    def __init__(self, bench, lake: str, cut_interval: str | None = None):
        self.port = free_port()
        config = bench.folder / "tributary.toml"
        cut = f'[cut]\ninterval = "{cut_interval}"\n' if cut_interval else ""
        config.write_text(
            f'[source]\nurl = "{bench.source_url}"\nslot = "bench"\npublication = ["bench"]\n{lake}'
            f'[snapshot]\nmode = "never"\n{cut}[http]\nlisten = "127.0.0.1:{self.port}"\n'
        )
        bench.setup(config)
        self.log = (bench.folder / "daemon.log").open("w")
        self.process = subprocess.Popen(
            [bench.binary, "run", "--log-format", "json", "--config", config],
            env=bench.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        self.pid = self.process.pid
        self.wait_until_ready()

    def wait_until_ready(self):
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("/readyz")
                return
            except OSError:
                self.must_run()
                if time.monotonic() > until:
                    raise SystemExit("error: the daemon does not get ready") from None
                time.sleep(0.05)

    def must_run(self):
        if self.process.poll() is not None:
            raise SystemExit(f"error: the daemon ended: {pathlib.Path(self.log.name).read_text()[-2000:]}")

    def ask(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read()

    def status(self) -> dict:
        return json.loads(self.ask("/status.json"))

    def resident(self) -> int:
        return memory(self.pid, "VmRSS")

    def peak(self) -> int:
        return memory(self.pid, "VmHWM")

    def cpu(self) -> float:
        return ticks(self.pid, of_children=False) / TICKS

    def stop(self):
        """What is whole is published before it ends."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
