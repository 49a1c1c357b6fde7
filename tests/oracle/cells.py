"""Whether a cell of the lake is exactly what Postgres prints: rules of our own, written from the formats and not from the daemon.

`Kind` is what the catalogs say of a Postgres type. `says(value, arrow_type, kind, text)` is whether the lake's value can only
mean that text. A value that cannot is wrong, unless `_cdc_raw` of its row holds the text.
"""

import dataclasses
import datetime
import decimal
import re
import struct

import pyarrow as pa


@dataclasses.dataclass
class Kind:
    """A Postgres type, domains resolved."""

    name: str
    delimiter: str = ","
    element: "Kind | None" = None
    fields: "list | None" = None


BASE = """
with recursive base as (
  select %s::oid as oid union all select t.typbasetype from base b join pg_type t on t.oid = b.oid where t.typtype = 'd')
select t.oid, t.typname, t.typtype, t.typdelim, case when t.typsubscript = 'array_subscript_handler'::regproc then t.typelem else 0 end, t.typrelid
from base b join pg_type t on t.oid = b.oid where t.typtype <> 'd'
"""


def kind_of(connection, oid, known):
    """The kind of a type; `known` keeps what was asked before."""
    if oid not in known:
        _, name, letter, delimiter, element, relation = connection.execute(BASE, (oid,)).fetchone()
        kind = known[oid] = Kind("enum" if letter == "e" else name, delimiter)
        if element:
            kind.element = kind_of(connection, element, known)
            kind.delimiter = kind.element.delimiter
        if letter == "c":
            query = "select attname, atttypid from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped order by attnum"
            kind.fields = [(field, kind_of(connection, type_oid, known)) for field, type_oid in connection.execute(query, (relation,)).fetchall()]
    return known[oid]


# --- the lake's side ---


def numbers(arrow_type):
    """The type with moments as numbers: Python's own datetime ends at year 9999 and drops what it cannot hold."""
    if pa.types.is_date32(arrow_type):
        return pa.int32()
    if pa.types.is_timestamp(arrow_type) or pa.types.is_time64(arrow_type):
        return pa.int64()
    if pa.types.is_list(arrow_type):
        field = arrow_type.value_field
        return pa.list_(pa.field(field.name, numbers(field.type), field.nullable))
    if pa.types.is_struct(arrow_type):
        return pa.struct([pa.field(field.name, numbers(field.type), field.nullable) for field in arrow_type])
    return arrow_type


def plain(column):
    """A column's values as Python's, moments as numbers."""
    wanted = numbers(column.type)
    return (column if wanted == column.type else column.cast(wanted)).to_pylist()


def says(value, arrow_type, kind, text):
    """Whether a value that is not NULL is exactly this text. The text may be bytes that are no UTF-8: then no text is it."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            return False
    try:
        return RULES[rule_of(arrow_type)](value, arrow_type, kind, text)
    except (ValueError, IndexError, KeyError, OverflowError, decimal.InvalidOperation):
        return False


def rule_of(arrow_type):
    for name in ("boolean", "integer", "floating", "decimal", "string", "binary", "date32", "timestamp", "list", "map", "struct"):
        if getattr(pa.types, "is_" + name)(arrow_type):
            return name
    return str(arrow_type)


def string(value, _, kind, text):
    if kind.name == "time":
        hms, _, fraction = text.partition(".")
        return value == f"{hms}.{fraction:0<6}"
    return value == text


def boolean(value, _, kind, text):
    return text == ("t" if value else "f")


def integer(value, arrow_type, kind, text):
    return not pa.types.is_unsigned_integer(arrow_type) and text == str(value)


def floating(value, arrow_type, kind, text):
    form = "<f" if pa.types.is_float32(arrow_type) else "<d"
    # A double cell in a float column would round.
    if form == "<f" and kind.name not in ("float4", "halfvec", "vector"):
        return False
    have, want = struct.pack(form, value), struct.pack(form, float(text))
    return have == want or (value != value and text == "NaN")


def exact_decimal(value, arrow_type, kind, text):
    return format(value, "f") == text


def binary(value, _, kind, text):
    if kind.name in ("geometry", "geography"):
        return value == iso_wkb(bytes.fromhex(text))
    return text.startswith("\\x") and value == bytes.fromhex(text[2:])


def date(value, _, kind, text):
    return FIRST_DAY <= value <= LAST_DAY and text == (EPOCH + datetime.timedelta(days=value)).date().isoformat()


def timestamp(value, arrow_type, kind, text):
    if arrow_type.unit != "us" or not FIRST_DAY * DAY <= value < (LAST_DAY + 1) * DAY:
        return False
    wants_zone = arrow_type.tz is not None
    if wants_zone != (kind.name == "timestamptz"):
        return False
    days, micros = divmod(value, DAY)
    seconds, micros = divmod(micros, 1_000_000)
    shown = f"{(EPOCH + datetime.timedelta(days=days)).date().isoformat()} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if micros:
        shown += f".{micros:06}".rstrip("0")
    return text == shown + ("+00" if wants_zone else "")


def array(value, arrow_type, kind, text):
    if kind.name in ("vector", "halfvec"):
        items = text[1:-1].split(",")
        return len(items) == len(value) and all(floating(v, arrow_type.value_type, kind, item) for v, item in zip(value, items))
    if kind.element is None or not text.startswith("{"):
        # `[0:1]={…}`: a list has no lower bound.
        return False
    items = array_items(text, kind.delimiter)
    if items is None or len(items) != len(value):
        return False
    return all(same(v, arrow_type.value_type, kind.element, item) for v, item in zip(value, items))


def same(value, arrow_type, kind, text):
    if value is None or text is None:
        return value is None and text is None
    return says(value, arrow_type, kind, text)


def mapping(value, _, kind, text):
    return kind.name == "hstore" and sorted(value) == sorted(hstore_pairs(text))


def record(value, arrow_type, kind, text):
    if kind.fields is None:
        return False
    cells = record_cells(text)
    if len(cells) != len(kind.fields) or len(value) != len(cells):
        return False
    return all(same(v, field.type, k, cell) for v, field, (_, k), cell in zip(value.values(), arrow_type, kind.fields, cells))


RULES = {
    "boolean": boolean, "integer": integer, "floating": floating, "decimal": exact_decimal, "string": string, "binary": binary,
    "date32": date, "timestamp": timestamp, "list": array, "map": mapping, "struct": record,
}
EPOCH = datetime.datetime(1970, 1, 1)
FIRST_DAY = (datetime.datetime(1, 1, 1) - EPOCH).days
LAST_DAY = (datetime.datetime(9999, 12, 31) - EPOCH).days
DAY = 86_400_000_000


# --- Postgres's own notations ---

QUOTED = re.compile(r'"((?:[^"\\]+|\\.)*)"', re.DOTALL)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def array_items(text, delimiter):
    """The elements of a one-dimensional array, `None` for NULL; `None` for one of more dimensions."""
    items, i = [], 1
    if text == "{}":
        return items
    while True:
        if text[i] == "{":
            return None
        if text[i] == '"':
            item, i = quoted(text, i)
        else:
            start = i
            while text[i] not in (delimiter, "}"):
                i += 1
            word = text[start:i]
            item = None if word == "NULL" else word
        items.append(item)
        if text[i] == "}":
            return items if i == len(text) - 1 else None
        i += 1


def quoted(text, i):
    """A string in double quotes that begins at `i`, backslash escapes; and where it ends."""
    found = QUOTED.match(text, i)
    if found is None:
        raise ValueError("no end of quotes")
    return ESCAPED.sub(r"\1", found[1]), found.end()


def record_cells(text):
    """The cells of a row in parentheses, `None` for NULL."""
    cells, cell, i = [], None, 1
    while True:
        if text[i] == '"':
            cell, i = cell or "", i + 1
            while text[i] != '"' or text[i + 1] == '"':
                i += text[i] in '"\\'
                cell += text[i]
                i += 1
            i += 1
        elif text[i] in ",)":
            cells.append(cell)
            if text[i] == ")":
                return cells
            cell, i = None, i + 1
        else:
            cell, i = (cell or "") + text[i], i + 1


def hstore_pairs(text):
    pairs, i = [], 0
    while i < len(text):
        key, i = quoted(text, i)
        i += 2
        if text.startswith("NULL", i):
            value, i = None, i + 4
        else:
            value, i = quoted(text, i)
        pairs.append((key, value))
        i += 2
    return pairs


def iso_wkb(ewkb):
    """PostGIS's own form of a little-endian geometry in ISO's: dimensions in the code, no SRID. Collections hold such geometries."""
    out, i = bytearray(), 0

    def take(n):
        nonlocal i
        i += n
        return ewkb[i - n:i]

    def geometry():
        if take(1) != b"\x01":
            raise ValueError("big endian")
        code, = struct.unpack("<I", take(4))
        z, m, has_srid, kind = bool(code & 0x80000000), bool(code & 0x40000000), code & 0x20000000, code & 0xFF
        if has_srid:
            take(4)
        out.extend(struct.pack("<BI", 1, kind + 1000 * z + 2000 * m))
        width = 8 * (2 + z + m)
        if kind == 1:
            out.extend(take(width))
        elif kind == 2:
            points(width)
        elif kind == 3:
            for _ in range(count()):
                points(width)
        else:
            for _ in range(count()):
                geometry()

    def count():
        n, = struct.unpack("<I", take(4))
        out.extend(struct.pack("<I", n))
        return n

    def points(width):
        out.extend(take(width * count()))

    geometry()
    return bytes(out)


def raw_text(text):
    """What `_cdc_raw` holds for an exact text: itself, or, if it is no UTF-8, its bytes that are not as `\\xHH` and backslashes twice."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        # Surrogates stand for the bytes that are no UTF-8.
        letters = text.decode("utf-8", "surrogateescape").replace("\\", "\\\\")
        return "".join(f"\\x{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in letters)
