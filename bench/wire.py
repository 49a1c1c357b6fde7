"""What a server sends for a slot: counted, not used.

Owns: a replication session of its own, without TLS or password.
Does not: time anything, or decode a message beyond its kind.
Holds: what is counted are all bytes from the start of the stream to its end, framing included, as TCP delivers them.
"""

import select
import socket
import struct
import time

STATUS_SECONDS = 5


def count(server, slot: str, options: dict[str, str], until: str) -> dict:
    """Reads up to a position. Nothing is confirmed."""
    until = lsn(until)
    with socket.create_connection((server.environment["PGHOST"], server.port), timeout=60) as link:
        session = Session(link)
        session.start(slot, options)
        return session.read(until)


def lsn(text: str) -> int:
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class Session:
    def __init__(self, link: socket.socket):
        self.link = link
        self.buffer = bytearray()

    def start(self, slot: str, options: dict[str, str]):
        settings = ("user", "postgres", "database", "postgres", "replication", "database")
        body = struct.pack(">I", 3 << 16) + b"".join(word.encode() + b"\0" for word in settings) + b"\0"
        self.link.sendall(struct.pack(">I", len(body) + 4) + body)
        self.until(b"Z")
        told = ", ".join(f"{key} '{value}'" for key, value in options.items())
        command = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({told})".encode() + b"\0"
        self.link.sendall(b"Q" + struct.pack(">I", len(command) + 4) + command)
        self.until(b"W")

    def until(self, wanted: bytes):
        """Skips messages up to one of this kind."""
        while True:
            while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack_from(">I", self.buffer, 1)[0]:
                self.receive()
            kind, length = bytes(self.buffer[:1]), struct.unpack_from(">I", self.buffer, 1)[0]
            body = bytes(self.buffer[5:1 + length])
            del self.buffer[:1 + length]
            if kind == b"E":
                raise SystemExit(f"error: the server says {body.decode(errors='replace')}")
            if kind == wanted:
                return

    def receive(self) -> int:
        got = self.link.recv(1 << 20)
        if not got:
            raise SystemExit("error: the server closed the connection")
        self.buffer += got
        return len(got)

    def read(self, until: int) -> dict:
        messages = payload = wire = 0
        told = time.monotonic()
        length_of = struct.Struct(">I").unpack_from
        position_of = struct.Struct(">Q").unpack_from
        while True:
            at, buffer, end = 0, self.buffer, len(self.buffer)
            while end - at >= 5:
                following = at + 1 + length_of(buffer, at + 1)[0]
                if following > end:
                    break
                kind, inner = buffer[at], buffer[at + 5]
                if kind == 0x64 and inner == 0x77:  # CopyData, of WAL
                    if position_of(buffer, at + 6)[0] > until:
                        return {"messages": messages, "payload_bytes": payload, "wire_bytes": wire}
                    messages += 1
                    payload += following - at - 30
                elif kind == 0x64 and position_of(buffer, at + 6)[0] >= until:  # a keepalive
                    return {"messages": messages, "payload_bytes": payload, "wire_bytes": wire}
                elif kind == 0x45:
                    raise SystemExit(f"error: the server says {bytes(buffer[at + 5:following]).decode(errors='replace')}")
                wire += following - at
                at = following
            del self.buffer[:at]
            if time.monotonic() - told > STATUS_SECONDS:
                told = time.monotonic()
                # Nothing is written, flushed or applied; no answer is wanted.
                self.link.sendall(b"d" + struct.pack(">IcQQQQB", 38, b"r", 0, 0, 0, 0, 0))
            if not select.select([self.link], [], [], 1)[0]:
                continue
            self.receive()
