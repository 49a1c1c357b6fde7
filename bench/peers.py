"""Other ways from Postgres to Parquet, each in a process of its own; and the count of what came of it.

usage: peers.py connectorx URL QUERY KEY CONNECTIONS FOLDER | adbc URL QUERY FOLDER | count FOLDER | versions
"""

import importlib.metadata
import json
import pathlib
import sys

# What Tributary writes with.
COMPRESSION = {"compression": "zstd", "compression_level": 1}


def connectorx(url: str, query: str, key: str, connections: str, folder: str):
    import connectorx
    import pyarrow.parquet

    # Binary COPY is its default protocol; the whole result is in memory before the first row is written.
    parts = {"partition_on": key, "partition_num": int(connections)} if connections != "1" else {}
    table = connectorx.read_sql(url, query, return_type="arrow", **parts)
    pyarrow.parquet.write_table(table, pathlib.Path(folder) / "rows.parquet", **COMPRESSION)


def adbc(url: str, query: str, folder: str):
    import adbc_driver_postgresql.dbapi
    import pyarrow.parquet

    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        batches = cursor.fetch_record_batch()
        with pyarrow.parquet.ParquetWriter(pathlib.Path(folder) / "rows.parquet", batches.schema, **COMPRESSION) as writer:
            for batch in batches:
                writer.write_batch(batch)


def count(folder: str):
    import pyarrow.parquet

    files = list(pathlib.Path(folder).rglob("*.parquet"))
    rows = sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)
    print(json.dumps({"rows": rows, "files": len(files), "bytes": sum(file.stat().st_size for file in files)}))


def versions():
    names = ("connectorx", "adbc-driver-postgresql", "pyarrow")
    print(json.dumps({name: importlib.metadata.version(name) for name in names}))


if __name__ == "__main__":
    {"connectorx": connectorx, "adbc": adbc, "count": count, "versions": versions}[sys.argv[1]](*sys.argv[2:])
