#!/usr/bin/env python3
"""Whether statements are ones of an engine, as sqlglot understands it: parse_sql.py FILE…, each named ENGINE.sql

Every statement must be understood as what it is (`CREATE`, `ALTER`, …), and every view must read nothing but the table over its files.
Exit code 0: all of them. 1: not.
"""

import pathlib
import sys

import sqlglot
from sqlglot import exp

# What sqlglot takes word by word, without looking into it.
PROCEDURES = ("CALL ", "MSCK ", "ALTER EXTERNAL TABLE ", "CREATE EXTERNAL SCHEMA ")


def main():
    wrong, count = [], 0
    for path in map(pathlib.Path, sys.argv[1:]):
        for text in statements(path.read_text(encoding="utf-8")):
            count += 1
            problem = look(path.stem, text)
            if problem:
                wrong.append(f"{path.name}: {problem}\n{text[:600]}")
    print("\n\n".join(wrong) or f"{count} statements are understood")
    sys.exit(1 if wrong or not count else 0)


def statements(script):
    lines = [line for line in script.splitlines() if not line.startswith("-- ")]
    return [text.strip() for text in "\n".join(lines).split(";\n") if text.strip()]


def look(engine, text):
    if text.startswith(PROCEDURES):
        return None
    try:
        parsed = sqlglot.parse(text, dialect=engine)
    except sqlglot.errors.SqlglotError as error:
        return str(error)
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Create):
        return f"understood as {[type(statement).__name__ for statement in parsed]}"
    create = parsed[0]
    if create.kind not in ("TABLE", "VIEW", "SCHEMA"):
        return f"creates a {create.kind}"
    if create.kind == "VIEW":
        named = {cte.alias for cte in create.find_all(exp.CTE)}
        tables = {table.name for table in create.expression.find_all(exp.Table) if table.name and table.name not in named}
        lists = {"_cdc_unchanged", "_cdc_raw"}
        own = create.this.name
        strange = {name for name in tables - lists if not name.startswith(own)}
        if strange:
            return f"{own} reads {sorted(strange)}"
    return None


if __name__ == "__main__":
    main()
