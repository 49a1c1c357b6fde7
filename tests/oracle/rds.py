#!/usr/bin/env python3
"""Lets in who brings a token of Amazon RDS: rds.py PORT HOST DBPORT REGION ACCESS_KEY SECRET_KEY SESSION_TOKEN

RDS has PAM ask its own service whether a password is a valid token; here Postgres asks this program, as an LDAP server. It signs the
request that the token stands for once more, with Amazon's own code (botocore), and compares. A line of standard output tells of each
token: `let in USER DATE` or `refused USER WHY`.
"""

import datetime
import socketserver
import sys
import threading
import urllib.parse
from unittest import mock

import botocore.session

port, host, db_port, region, access_key, secret_key, session_token = sys.argv[1:8]
BIND, UNBIND = 0x60, 0x42
ONE_AT_A_TIME = threading.Lock()


def main():
    with Server(("127.0.0.1", int(port)), Connection) as server:
        print("listening", flush=True)
        server.serve_forever()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


class Connection(socketserver.StreamRequestHandler):
    """Enough of LDAP for a simple bind."""

    def handle(self):
        while message := self.message():
            (_, number), rest = element(message)
            (kind, body), _ = element(rest)
            if kind == UNBIND:
                return
            assert kind == BIND, f"operation {kind:#x}"
            _, rest = element(body)
            (_, name), rest = element(rest)
            (_, password), _ = element(rest)
            user = name.decode().removeprefix("cn=")
            why = refusal(user, password.decode())
            print(f"refused {user} {why}" if why else f"let in {user} {parameters(password.decode())['X-Amz-Date']}", flush=True)
            result = bytes([0x0A, 1, 49 if why else 0, 0x04, 0, 0x04, 0])
            answer = bytes([0x02, len(number)]) + number + bytes([0x61, len(result)]) + result
            self.wfile.write(bytes([0x30, len(answer)]) + answer)

    def message(self):
        head = self.rfile.read(2)
        if len(head) < 2:
            return b""
        return self.rfile.read(length(head[1], self.rfile.read))


def length(first, more):
    return first if first < 0x80 else int.from_bytes(more(first & 0x7F), "big")


def element(data):
    """The first element of BER, and what comes after it."""
    at = 2

    def more(count):
        nonlocal at
        at += count
        return data[at - count : at]

    size = length(data[1], more)
    return (data[0], data[at : at + size]), data[at + size :]


def parameters(token):
    return dict(urllib.parse.parse_qsl(token.partition("?")[2]))


def refusal(user, token):
    """Why a token lets nobody in; None if it does."""
    given = parameters(token)
    try:
        signed_at = datetime.datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    except (KeyError, ValueError):
        return "no token"
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    if not datetime.timedelta(minutes=-1) < now - signed_at < datetime.timedelta(minutes=15):
        return "not of now"
    # A patch is one of the whole program, and every connection has a thread.
    with ONE_AT_A_TIME, mock.patch("botocore.auth.get_current_datetime", return_value=signed_at):
        expected = client().generate_db_auth_token(host, int(db_port), user)
    if token.partition("?")[0] != expected.partition("?")[0] or given != parameters(expected):
        return "another signature"
    return None


def client():
    return botocore.session.get_session().create_client(
        "rds", region_name=region, aws_access_key_id=access_key, aws_secret_access_key=secret_key, aws_session_token=session_token
    )


if __name__ == "__main__":
    main()
