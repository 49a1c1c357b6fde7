"""A Postgres of the benches' own.

Owns: its cluster, its port, and what its processes have used.
Does not: know what is measured.
Holds: it listens on loopback and in a folder of its own only, if nothing else is asked for; nothing of it is left when it is stopped.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

# What differs from a new cluster. fsync is off: the benches are of reading, and the load should be over soon.
SETTINGS = {
    "wal_level": "logical",
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "fsync": "off",
    "autovacuum": "off",
}
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    def __init__(self, cache: pathlib.Path, major: int, folder: pathlib.Path, address: str = "127.0.0.1"):
        """The first of several addresses, with commas between them, is the one of its URL."""
        self.binaries = cache / "pg" / str(major) / "bin"
        self.cluster, self.sockets = folder / "cluster", folder / "sockets"
        as_server = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        self.user = as_server if os.getuid() == 0 else []
        shutil.copytree(cache / "template" / str(major) / "data", self.cluster)
        self.sockets.mkdir()
        if self.user:
            subprocess.run(["chown", "-R", "postgres:postgres", self.cluster, self.sockets], check=True)
        self.cluster.chmod(0o700)
        host = address.split(",")[0]
        if address != host:
            with (self.cluster / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\nhost replication all samenet trust\n")
        self.port = free_port()
        self.log = (folder / "postgres.log").open("w")
        settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        places = ["-c", f"unix_socket_directories={self.sockets}", "-c", f"listen_addresses={address}"]
        # It is the postmaster itself, since setpriv does not fork.
        self.process = subprocess.Popen(
            [*self.user, self.binaries / "postgres", "-D", self.cluster, "-p", str(self.port), *places, *settings],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        self.environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "10",
            "PGHOST": host, "PGPORT": str(self.port), "PGUSER": "postgres", "PGDATABASE": "postgres",
        }
        self.url = f"postgresql://postgres@{host}:{self.port}/postgres"
        self.socket_url = f"postgresql://postgres@/postgres?host={self.sockets}&port={self.port}"
        try:
            self.wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def wait_until_it_answers(self):
        until = time.monotonic() + 60
        while subprocess.run(self.psql("SELECT"), env=self.environment, capture_output=True).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"error: Postgres did not start: {pathlib.Path(self.log.name).read_text()}")
            time.sleep(0.1)

    def psql(self, sql: str) -> list[str]:
        return [client("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]

    def query(self, sql: str) -> str:
        asked = subprocess.run(self.psql(sql), env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        return asked.stdout.strip()

    def run(self, script: pathlib.Path, rows: int):
        """Runs a workload's script."""
        words = [client("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-v", f"rows={rows}", "-f", str(script)]
        if subprocess.run(words, env=self.environment, stdout=subprocess.DEVNULL).returncode != 0:
            raise SystemExit(f"error: {script.name} did not work")

    def processes(self) -> set[int]:
        pid = self.process.pid
        return {int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def cpu_seconds(self, before: set[int] = frozenset()) -> float:
        """What all its processes have used, in steps of 10 ms. Waits until those that were not there `before` have
        ended: only then the postmaster's account has them."""
        until = time.monotonic() + 10
        while before and self.processes() - before and time.monotonic() < until:
            time.sleep(0.02)
        ended = ticks(self.process.pid, of_children=True)
        return (ended + sum(ticks(pid, of_children=False) for pid in self.processes())) / TICKS

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait()
        self.log.close()


def ticks(pid: int, of_children: bool) -> int:
    """CPU of a process that lives; of its children that have ended as well."""
    try:
        # The name may have spaces; what follows it begins with the third field.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own + children if of_children else own


def client(name: str) -> str:
    """A program of the Postgres client. What Debian has in the path is a Perl script that starts it, and would be measured, too."""
    found = shutil.which(name)
    if not found:
        raise SystemExit(f"error: {name} is missing: install the Postgres client (postgresql-client)")
    if os.path.basename(os.path.realpath(found)) != "pg_wrapper":
        return found
    there = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(there[-1]) if there else found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
