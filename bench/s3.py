"""An S3 server on loopback, with one bucket.

Owns: its process.
Does not: keep anything: objects are in its memory.
Holds: it is spoken to over HTTP as any S3. It is an emulator in Python: its CPU is none of the consumer's, but it takes a core's time of its own.
"""

import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

from server import free_port

BUCKET = "bench"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtesttest", "AWS_REGION": "us-east-1"}


class S3:
    def __init__(self, python: pathlib.Path, folder: pathlib.Path):
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.log = (folder / "s3.log").open("w")
        environment = {
            "PATH": os.environ["PATH"], "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port), "LOG_LEVEL": "WARNING", "HOME": str(folder),
        }
        self.process = subprocess.Popen(
            [python.parent / "ministack"], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        try:
            self.wait_until_it_answers()
            with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT"), timeout=10):
                pass
        except BaseException:
            self.stop()
            raise

    def wait_until_it_answers(self):
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.endpoint}/", timeout=5):
                    return
            except urllib.error.HTTPError:
                return
            except (urllib.error.URLError, OSError, socket.timeout):
                if self.process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"error: the S3 server did not start: {pathlib.Path(self.log.name).read_text()}") from None
                time.sleep(0.1)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
