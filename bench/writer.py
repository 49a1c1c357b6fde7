"""Writes narrow rows at a rate.

Owns: a thread with a session of its own.
Does not: measure how long anything takes but the transactions that it could not write in time.
Holds: a transaction is due at its time, whatever the one before took, so that a slow moment is made up for and not hidden.
"""

import threading
import time

import psycopg


class Writer(threading.Thread):
    def __init__(self, url: str, rows_per_second: int, rows_per_transaction: int, updates: bool = False):
        super().__init__(daemon=True)
        self.url = url
        self.pause = rows_per_transaction / rows_per_second
        self.rows_per_transaction = rows_per_transaction
        # Every second transaction then updates the rows of the one before, so that the table grows half as fast.
        self.updates = updates
        self.rows = 0
        self.late = 0.0
        self.failed = None
        self.done = threading.Event()

    def run(self):
        try:
            self.write()
        except Exception as error:  # noqa: BLE001  it is told by whoever stops us
            self.failed = error

    def write(self):
        insert = "INSERT INTO narrow SELECT * FROM narrow_rows(%s, %s, 2000)"
        update = "UPDATE narrow SET status = 'again', amount = amount + 1 WHERE id BETWEEN %s AND %s"
        with psycopg.connect(self.url, autocommit=True) as session:
            due, first, turn = time.monotonic(), 1, 0
            while not self.done.is_set():
                is_update = self.updates and turn % 2 == 1
                last = first + self.rows_per_transaction - 1
                session.execute(update if is_update else insert, (first, last))
                self.rows += self.rows_per_transaction
                if is_update or not self.updates:
                    first = last + 1
                turn += 1
                due += self.pause
                rest = due - time.monotonic()
                self.late = max(self.late, -rest)
                if rest > 0:
                    self.done.wait(rest)

    def stop(self):
        self.done.set()
        self.join()
        if self.failed:
            raise SystemExit(f"error: writing failed: {self.failed}")
