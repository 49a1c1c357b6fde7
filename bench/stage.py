"""Where a bench takes place: a folder, a server, the programs that are needed.

Owns: installing what is missing, the folder and its end, and servers of the bench's own.
Does not: load, run or measure anything.
Holds: whatever ends a bench, its servers end and its folder goes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import s3
import server

HERE = pathlib.Path(__file__).resolve().parent


class Bench:
    """What consumers are given."""

    def __init__(self, cache: pathlib.Path, major: int, folder: pathlib.Path, binary: pathlib.Path, address: str):
        self.python = cache / "python-peers" / "bin" / "python"
        self.folder = folder
        self.binary = binary
        self.major = major
        self.server = server.Server(cache, major, folder, address)
        self.environment = {**self.server.environment, **s3.CREDENTIALS}
        # How consumers reach the server.
        self.source_url = self.server.url
        self._s3 = None

    @property
    def s3(self) -> s3.S3:
        """Started when it is first asked for."""
        if self._s3 is None:
            self._s3 = s3.S3(self.python, self.folder)
        return self._s3

    def beside(self) -> list[int]:
        """Processes that are neither the consumer's nor the server's."""
        return [self._s3.process.pid] if self._s3 else []

    def setup(self, config: pathlib.Path, *words: str):
        """A slot and a lake for a configuration."""
        command = [self.binary, "setup", "--apply", *words, "--config", config]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: tributary setup: {done.stderr.strip()}")

    def peer(self, *words) -> list[str]:
        return [self.python, HERE / "peers.py", *map(str, words)]

    def ask_peer(self, *words) -> dict:
        said = subprocess.run(self.peer(*words), stdout=subprocess.PIPE, check=True, env=self.environment).stdout
        return json.loads(said)

    def stop(self):
        self.server.stop()
        if self._s3:
            self._s3.stop()


@contextlib.contextmanager
def bench(major: int, address: str = "127.0.0.1"):
    """BIN is the tributary that is measured, else target/release/tributary. BENCH_DIR is where everything is kept meanwhile."""
    # So that a kill stops the servers as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cache = install(major)
    binary = pathlib.Path(os.environ.get("BIN") or target_folder() / "release" / "tributary").resolve()
    if not os.access(binary, os.X_OK):
        raise SystemExit(f"error: {binary} is not there: cargo build --release --locked -p tributary, or BIN=…")
    # `postgres` must reach its cluster, so not in root's home.
    with tempfile.TemporaryDirectory(prefix="tributary-bench-", dir=os.environ.get("BENCH_DIR"), ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        made = Bench(cache, major, folder, binary, address)
        try:
            yield made
        finally:
            made.stop()


def with_peers():
    """Goes on with the Python that has the packages of requirements.txt."""
    if "TRIBUTARY_BENCH_PEERS" not in os.environ:
        python = install() / "python-peers" / "bin" / "python"
        os.environ["TRIBUTARY_BENCH_PEERS"] = "1"
        os.execv(python, [python, *sys.argv])


def install(major: int | None = None) -> pathlib.Path:
    """Postgres and the peers, where they are missing."""
    script = HERE.parent / "scripts" / "test-servers.sh"
    for words in ([["postgres", str(major)]] if major else []) + [["peers"]]:
        subprocess.run([script, *words], check=True)
    for program in ("psql", "pg_recvlogical"):
        server.client(program)
    return pathlib.Path(subprocess.run([script, "where"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


def target_folder() -> pathlib.Path:
    words = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    said = subprocess.run(words, cwd=HERE.parent, stdout=subprocess.PIPE, check=True).stdout
    return pathlib.Path(json.loads(said)["target_directory"])
