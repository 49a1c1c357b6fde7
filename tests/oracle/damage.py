#!/usr/bin/env python3
"""Edits a value of a data file as somebody might by hand: damage.py FILE COLUMN VALUE

The first row of the file that has a value in the column gets another one. Everything else, field ids included, stays what it was.
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq


def main():
    path, name, value = sys.argv[1:]
    table = pq.ParquetFile(path).read()
    column = table[name].to_pylist()
    at = next(i for i, found in enumerate(column) if found is not None)
    print(f"{name} of row {at} was {column[at]!r}")
    column[at] = type(column[at])(value)
    index = table.schema.get_field_index(name)
    edited = table.set_column(index, table.schema.field(index), pa.array(column, table.schema.field(index).type))
    pq.write_table(edited, path, compression="zstd", version="1.0")


if __name__ == "__main__":
    main()
