#!/usr/bin/env python3
"""Partitions whose replica identity has other columns than their root's, published by the root (T24).

    clash.py create --dsn …                          makes tables and publication clash_root
    clash.py change --dsn … --journal FILE --round N
    clash.py check  --journal FILE --lake clash_root=file:///…
"""

import identity
import journal


class Clash(identity.Identity):
    def create(self, hand):
        hand.ddl("create schema i")
        for root, leaf in identity.CLASHES:
            self.tree(hand, root, leaf)
        hand.ddl("create publication clash_root for all tables with (publish_via_partition_root = true)")

    def change(self, hand, round_number):
        for root, leaf in identity.CLASHES:
            self.rows(hand, f"i.tree_{root}_{leaf}", round_number * 100, True, True)

    def compared(self, publication):
        return {}


if __name__ == "__main__":
    journal.run(__doc__, Clash())
