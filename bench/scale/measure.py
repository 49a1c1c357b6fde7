#!/usr/bin/env python3
"""Measures a daemon against a server that `build.sh` made: start, memory, cuts, storms.

    measure.py FOLDER BINARY [--port 6600] [--major 18] [--scratch /tmp/scale] [--mode initial|never] [--steps start,restart,...]

Steps, in this order, each on what the ones before left:
    start      no slot, no lake: until the stream runs, then until nothing is left to read, then at rest
    cuts       12 transactions of a row in each of 1,000 tables or leaves
    all        a row in every table or leaf, in one transaction
    storm      every relation is announced anew: ANALYZE, an unrelated publication, then a row in every leaf
    restart    with the log that there is by then
    speed      rows over all leaves of a parent, and the same rows in one table, beside pg_recvlogical that throws them away
Prints one JSON object a step.
"""
import argparse, atexit, json, os, pathlib, re, shutil, subprocess, sys, time, urllib.request

import psycopg

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("binary")
parser.add_argument("--port", type=int, default=6600)
parser.add_argument("--http", type=int, default=19600)
parser.add_argument("--major", default="18")
parser.add_argument("--bin")
parser.add_argument("--scratch", default="/tmp/scale")
parser.add_argument("--mode", default="initial")
parser.add_argument("--interval", default="2s")
parser.add_argument("--steps", default="start,cuts,all,storm,restart,speed")
parser.add_argument("--keep", action="store_true", help="go on with the slot and the lake that are there")
parser.add_argument("--analyze", type=int, default=20_000, help="relations that the storm analyzes")
args = parser.parse_args()

BIN = args.bin or f"/var/cache/tributary/pg/{args.major}/bin"
SCRATCH = pathlib.Path(args.scratch)
LAKE, CONFIG = SCRATCH / "lake", SCRATCH / "tributary.toml"


def server(*command):
    lower = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    subprocess.run([*lower, f"{BIN}/pg_ctl", "-D", args.folder, *command], check=True, stdout=subprocess.DEVNULL)


def connect():
    return psycopg.connect(f"host=127.0.0.1 port={args.port} user=postgres dbname=postgres application_name=measure", autocommit=True)


def report(step, **values):
    print(json.dumps({"step": step, **{k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}}), flush=True)


class Daemon:
    """One start of the daemon, under GNU time."""

    def __init__(self):
        self.log = open(SCRATCH / "daemon.log", "ab")
        self.begun = time.monotonic()
        self.process = subprocess.Popen(["/usr/bin/time", "-v", "-o", SCRATCH / "time.txt", args.binary, "run", "--config", CONFIG],
                                        stdout=self.log, stderr=self.log)
        while not (children := pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()):
            time.sleep(0.001)
        self.pid = int(children[0])

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{args.http}{path}", timeout=30) as answer:
            return answer.read().decode()

    def status(self):
        return json.loads(self.ask("/status.json"))

    def metric(self, name):
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.ask("/metrics"), re.M))

    def wait(self, condition, seconds=1800):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                sys.exit(f"the daemon ended, see {self.log.name}")
            try:
                if condition():
                    return time.monotonic() - self.begun
            except (OSError, ValueError):
                pass
            time.sleep(0.02)
        sys.exit("it takes too long")

    def until_streaming(self):
        return self.wait(lambda: self.ask("/readyz") is not None)

    def rows(self):
        """Rows that it published since it began."""
        return self.metric("tributary_rows_total")

    def until_published(self, rows):
        """From now until it has published so many."""
        begun = time.monotonic()
        self.wait(lambda: self.rows() >= rows)
        return time.monotonic() - begun

    def memory(self):
        """MiB now, and at most so far."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return [int(re.search(rf"{name}:\s+(\d+)", status).group(1)) // 1024 for name in ("VmRSS", "VmHWM")]

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        os.kill(self.pid, 15)
        self.process.wait()
        return (SCRATCH / "time.txt").read_text()


def receive(slot):
    """Seconds that pg_recvlogical takes for what the slot has, from a copy of it."""
    db.execute("SELECT pg_copy_logical_replication_slot(%s, 'floor')", [slot])
    until = db.execute("SELECT pg_current_wal_flush_lsn()").fetchone()[0]
    begun = time.monotonic()
    subprocess.run(["pg_recvlogical", "-h", "127.0.0.1", "-p", str(args.port), "-U", "postgres", "-d", "postgres", "-S", "floor", "--start", "-f", "/dev/null",
                    "-o", "proto_version=1", "-o", "publication_names=tributary", "-o", "binary=true", "--endpos", until], check=True, stderr=subprocess.DEVNULL)
    taken = time.monotonic() - begun
    db.execute("SELECT pg_drop_replication_slot('floor')")
    return taken


def queries():
    """Statements of the daemon that the server logged."""
    with open(f"{args.folder}/server.log", errors="replace") as log:
        return sum(line.startswith("tributary ") and ("execute" in line or "statement:" in line) for line in log)


def lake():
    entries = list((LAKE / "_tributary/log").glob("*.json"))
    return {
        "entries": len(entries),
        "entry_bytes": sum(path.stat().st_size for path in entries),
        "checkpoint_bytes": sum(path.stat().st_size for path in (LAKE / "_tributary/log/_checkpoint").rglob("*") if path.is_file()),
        "files": int(subprocess.check_output(f"find {LAKE} -name '*.parquet' | wc -l", shell=True)),
    }


def rest(daemon, seconds=12):
    """At rest: memory, and CPU in a second."""
    time.sleep(3)
    before = daemon.cpu()
    time.sleep(seconds)
    rss, peak = daemon.memory()
    return {"rss_mib": rss, "peak_mib": peak, "idle_cpu": (daemon.cpu() - before) / seconds}


server("-l", f"{args.folder}/server.log", "-w", "start", "-o",
       f"-p {args.port} -c log_line_prefix='%a ' -c log_statement=all -c wal_sender_timeout=60s -c max_locks_per_transaction=1024")
db = connect()
has_leaves = db.execute("SELECT to_regclass('parent_1') IS NOT NULL").fetchone()[0]
by_month = has_leaves and db.execute("SELECT count(*) FROM pg_attribute WHERE attrelid = 'parent_5'::regclass AND attname = 'at'").fetchone()[0]
count = db.execute("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ %s", [r"^parent_1_\d+$" if has_leaves else r"^t_\d+$"]).fetchone()[0]
id = db.execute("SELECT (extract(epoch FROM now()) * 1000000)::int8").fetchone()[0]


def next_id(by=1):
    global id
    id += by
    return id - by


def touch(first, until):
    """A row in each of these tables, or leaves of one parent after the other."""
    if has_leaves:
        db.execute(f"INSERT INTO parent_{first // count + 1} SELECT {next_id(until - first)} + n, n % {count}, 'x' FROM generate_series({first}, {until - 1}) n")
    else:
        db.execute(f"DO $$ BEGIN FOR n IN {first} .. {until - 1} LOOP EXECUTE format('INSERT INTO t_%s VALUES ({next_id()}, now(), 1)', n); END LOOP; END $$")


def touch_all():
    with db.transaction():
        if has_leaves:
            for parent in range(4 if by_month else 5):
                touch(parent * count, (parent + 1) * count)
            if by_month:
                db.execute(f"INSERT INTO parent_5 SELECT {next_id(count)} + n, n % 1000, date '2020-01-01' + (n / 1000) * interval '1 month' + interval '1 day', 'x' FROM generate_series(0, {count - 1}) n")
        else:
            for first in range(0, count, 10_000):
                touch(first, min(first + 10_000, count))


if not args.keep:
    shutil.rmtree(SCRATCH, ignore_errors=True)
    db.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
SCRATCH.mkdir(parents=True, exist_ok=True)
CONFIG.write_text(f"""
[source]
url = "postgresql://postgres@127.0.0.1:{args.port}/postgres?application_name=tributary"
[lake]
url = "file://{LAKE}"
[snapshot]
mode = "{args.mode}"
[cut]
interval = "{args.interval}"
[http]
listen = "127.0.0.1:{args.http}"
""")
report("what", shape="leaves" if has_leaves else "tables", count=count * 5 if has_leaves else count, major=args.major, mode=args.mode)
steps = args.steps.split(",")
daemon = None


@atexit.register
def end():
    if daemon and daemon.process.poll() is None:
        daemon.stop()
    db.close()
    server("-m", "fast", "-w", "stop")


def running():
    global daemon
    daemon = daemon or Daemon()
    daemon.until_streaming()
    return daemon


if "start" in steps:
    asked = queries()
    daemon = Daemon()
    streaming = daemon.until_streaming()
    rss, peak = daemon.memory()
    at_streaming = queries() - asked
    whole = daemon.wait(lambda: daemon.status()["snapshot"]["state"] in ("done", "none"))
    report("start", streaming_seconds=streaming, rss_mib=rss, peak_mib=peak, queries=at_streaming, cpu_seconds=daemon.cpu())
    report("start, all read", seconds=whole, queries=queries() - asked, cpu_seconds=daemon.cpu(), **rest(daemon), **lake())

if "cuts" in steps:
    running()
    before, cpu, latencies = lake(), daemon.cpu(), []
    for cut in range(12):
        rows = daemon.rows()
        touch(cut * 1000 % count, cut * 1000 % count + min(1000, count))
        latencies.append(daemon.until_published(rows + min(1000, count)))
    after = lake()
    report("cuts", seconds=[round(latency, 2) for latency in latencies], cpu_each=(daemon.cpu() - cpu) / 12,
           entries=after["entries"] - before["entries"], entry_bytes=after["entry_bytes"] - before["entry_bytes"],
           files=after["files"] - before["files"], rss_mib=daemon.memory()[0], peak_mib=daemon.memory()[1])

if "all" in steps:
    running()
    before, cpu, asked = lake(), daemon.cpu(), queries()
    rows = daemon.rows()
    touch_all()
    seconds = daemon.until_published(rows + count * (5 if has_leaves else 1))
    after = lake()
    report("all", seconds=seconds, cpu=daemon.cpu() - cpu, queries=queries() - asked, entries=after["entries"] - before["entries"],
           files=after["files"] - before["files"], status_bytes=len(daemon.ask("/status.json")),
           metrics_bytes=len(daemon.ask("/metrics")), **rest(daemon))

if "storm" in steps:
    running()
    before, cpu, asked = lake(), daemon.cpu(), queries()
    names = [row[0] for row in db.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relname ~ '^(parent|t)_' LIMIT %s", [args.analyze])]
    for first in range(0, len(names), 500):
        db.execute("ANALYZE " + ", ".join(names[first:first + 500]))
    db.execute("CREATE TABLE IF NOT EXISTS unrelated (x int); DROP PUBLICATION IF EXISTS another; CREATE PUBLICATION another FOR TABLE unrelated")
    rows = daemon.rows()
    touch_all()
    seconds = daemon.until_published(rows + count * (5 if has_leaves else 1))
    after = lake()
    report("storm", seconds=seconds, cpu=daemon.cpu() - cpu, queries=queries() - asked, entries=after["entries"] - before["entries"],
           files=after["files"] - before["files"], log_lines=sum(1 for _ in open(SCRATCH / "daemon.log")), peak_mib=daemon.memory()[1])

if "restart" in steps:
    # By hand what every hundredth entry does: a start that has nothing to fold.
    if daemon:
        daemon.stop()
    asked = queries()
    daemon = Daemon()
    streaming = daemon.until_streaming()
    rss, peak = daemon.memory()
    report("restart", streaming_seconds=streaming, rss_mib_at_streaming=rss, cpu_seconds=daemon.cpu(), queries=queries() - asked, **rest(daemon), **lake())

if "speed" in steps and has_leaves:
    # The daemon reads what is there already, so that neither the server's writing nor its routing counts.
    rows = 1_000_000
    for table in ("alone", "parent_1", "alone", "parent_1"):
        if daemon:
            daemon.stop()
        daemon = None
        first = next_id(rows)
        slot = db.execute("SELECT slot_name FROM pg_replication_slots").fetchone()[0]
        db.execute(f"INSERT INTO {table} SELECT {first} + n, (n::int8 * 7919) % {count}, 'some text of a row ' || n FROM generate_series(0, {rows - 1}) n")
        floor = receive(slot)
        running()
        cpu, begun = daemon.cpu(), time.monotonic()
        daemon.until_published(rows)
        report("speed", table=table, rows=rows, seconds=time.monotonic() - begun, cpu=daemon.cpu() - cpu, peak_mib=daemon.memory()[1], floor_seconds=floor)

if daemon:
    usage = daemon.stop()
    report("time -v", max_rss_mib=int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", usage).group(1)) // 1024)
