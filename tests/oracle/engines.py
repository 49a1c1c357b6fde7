#!/usr/bin/env python3
"""Whether other engines read a lake as PyArrow does: engines.py spark|iceberg file:///lake

spark: PySpark in local mode opens every table as it stands, Hive partitions and all.
iceberg: PyIceberg makes a table with the files' own field ids in an SQLite catalog, adds the files as they are, and reads it back.
Exit code 0: every value is the same. 1: not. 2: it could not be checked.
"""

import collections
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

import cells
from journal import Lake, finish, shown
from verify import Differences


def main():
    engine, url = sys.argv[1:3]
    wrong, tally = Differences(), collections.Counter()
    lake = Lake(url, wrong)
    with tempfile.TemporaryDirectory() as folder:
        read = {"spark": Spark, "iceberg": Iceberg}[engine](folder)
        for name, paths in sorted(lake.files.items()):
            own = pa.concat_tables([pq.ParquetFile(path).read().replace_schema_metadata(None) for path in paths], promote_options="permissive")
            try:
                other = read.table(name, paths)
            except Exception as error:  # Whatever it is, the table was not read.
                wrong.add(f"{engine} refuses", f"{name}: {type(error).__name__}: {str(error)[:300]}")
                continue
            compare(name, ordered(own), ordered(other), wrong)
            tally["tables"] += 1
            tally["rows"] += own.num_rows
            tally["cells"] += own.num_rows * own.num_columns
    sys.exit(finish(wrong, tally))


def ordered(table):
    return table.sort_by([("_cdc_lsn", "ascending"), ("_cdc_seq", "ascending")]).combine_chunks()


def compare(name, own, other, wrong):
    missing = set(own.column_names) - set(other.column_names)
    strange = set(other.column_names) - set(own.column_names) - {"cdc_date", "cdc_hour"}
    if missing or strange or own.num_rows != other.num_rows:
        wrong.add("another shape", f"{name}: {own.num_rows} and {other.num_rows} rows, missing {sorted(missing)}, strange {sorted(strange)}")
        return
    for column in own.column_names:
        for i, (one, two) in enumerate(zip(cells.plain(own[column]), cells.plain(other[column]))):
            # As text: NaN is itself, and -0 is not 0.
            if repr(one) != repr(two):
                wrong.add("another value", f"{name}.{column} ({own[column].type} as {other[column].type}) row {i}: {shown(one)} and {shown(two)}")
                break


class Spark:
    def __init__(self, folder):
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master("local[2]").appName("lake").config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.local.dir", folder).config("spark.sql.warehouse.dir", f"{folder}/warehouse")
        # Only the zone that moments are shown in, and memory for cells of some MB.
        builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.driver.memory", "3g").config("spark.driver.maxResultSize", "2g")
        self.session = builder.config("spark.log.level", "ERROR").getOrCreate()

    def table(self, name, paths):
        base = paths[0].split("/data/cdc_date=")[0] + "/data"
        frame = self.session.read.option("mergeSchema", "true").parquet(base)
        if "cdc_date" not in frame.columns:
            raise ValueError("no column cdc_date")
        return frame.toArrow()


class Iceberg:
    def __init__(self, folder):
        import pyiceberg.table.metadata
        from pyiceberg.catalog.sql import SqlCatalog

        # PyIceberg numbers the fields of a new table itself; this one is to have the ids that the files have.
        pyiceberg.table.metadata.assign_fresh_schema_ids = lambda schema: schema
        self.catalog = SqlCatalog("lake", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
        self.catalog.create_namespace("lake")
        self.count = 0

    def table(self, name, paths):
        from pyiceberg.io.pyarrow import pyarrow_to_schema

        self.count += 1
        widest = max((pq.ParquetFile(path).schema_arrow for path in paths), key=len)
        schema = pyarrow_to_schema(widest)
        table = self.catalog.create_table(f"lake.t{self.count}", schema)
        want = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in widest}
        have = {field.name: field.field_id for field in table.schema().fields}
        if want != have:
            raise ValueError(f"the table has other field ids: {[(n, want[n], have.get(n)) for n in want if want[n] != have.get(n)][:3]}")
        table.add_files([f"file://{path}" if not path.startswith("file:") else path for path in paths])
        return table.scan().to_arrow()


if __name__ == "__main__":
    try:
        main()
    except (OSError, ImportError, pa.ArrowException) as error:
        print(f"could not be checked: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
