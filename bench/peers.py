"""Other ways from Postgres to Parquet, each in a process of its own; and the count of what came of it.

usage: peers.py connectorx URL QUERY KEY CONNECTIONS FOLDER | adbc URL QUERY FOLDER | count LAKE [ENDPOINT] | clear LAKE ENDPOINT | versions NAME …
A LAKE is a folder, or s3://bucket/prefix at an ENDPOINT.
"""

from __future__ import annotations

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


def place(lake: str, endpoint: str | None):
    """A file system and a path in it."""
    import pyarrow.fs

    if endpoint is None:
        return pyarrow.fs.LocalFileSystem(), lake
    scheme, _, host = endpoint.partition("://")
    return pyarrow.fs.S3FileSystem(scheme=scheme, endpoint_override=host), lake.removeprefix("s3://")


def count(lake: str, endpoint: str | None = None):
    import pyarrow.fs
    import pyarrow.parquet

    system, path = place(lake, endpoint)
    found = system.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    files = [file for file in found if file.path.endswith(".parquet")]
    rows = sum(pyarrow.parquet.read_metadata(file.path, filesystem=system).num_rows for file in files)
    print(json.dumps({"rows": rows, "files": len(files), "bytes": sum(file.size for file in files)}))


def clear(lake: str, endpoint: str):
    system, path = place(lake, endpoint)
    system.delete_dir_contents(path, missing_dir_ok=True)
    print(json.dumps({}))


def versions(*names: str):
    print(json.dumps({name: importlib.metadata.version(name) for name in names}))


if __name__ == "__main__":
    {"connectorx": connectorx, "adbc": adbc, "count": count, "clear": clear, "versions": versions}[sys.argv[1]](*sys.argv[2:])
