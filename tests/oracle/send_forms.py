#!/usr/bin/env python3
"""Asks servers for the text and the send form of values, for crates/tables/src/forms/goldens.tsv.

    send_forms.py 'host=… port=… user=postgres dbname=postgres' … > crates/tables/src/forms/goldens.tsv

Give servers of several versions that have hstore, ltree, cube, pgvector and PostGIS between them: a type that no server has
is an error. Values that servers print differently are one too, unless they say since which version they are what they are.
Each line is a type, the text as COPY writes it, and the send form in hexadecimal digits.
"""

import sys

import psycopg

PRELUDE = """
set datestyle = iso; set intervalstyle = postgres; set timezone = utc; set bytea_output = hex; set extra_float_digits = 3;
set lc_monetary = 'C'; set client_min_messages = warning;
drop schema if exists goldens cascade; create schema goldens; set search_path = goldens, public;
create type textrange as range (subtype = text, collation = "C");
create type floatrange as range (subtype = float8);
create type pair as (number int4, note text);
create type nested as (pair pair, notes text[], "when" timestamptz);
create type lone as (note text);
create type bare as ();
"""
EXTENSIONS = ["hstore", "ltree", "cube", "vector", "postgis"]

# Type: values, each an SQL literal's content, or (content, the first major version that gives it this meaning).
VALUES = {
    "interval": [
        "0", "1 month", "-1 month", "1 year", "-1 year", "2 years", "13 months", "-13 months", "1 day", "-1 day", "2 days", "1 mon -1 day",
        "-1 mon 1 day", "-1 year 1 mon", "1 day -1 second", "-1 day 1 second", "-1 mon -1 day 00:00:01", "-1 mon 1 day -00:00:01",
        "1 year 2 mons 3 days 04:05:06.789", "-1 year -2 mons -3 days -04:05:06.789", "1 mon -1 day 1 microsecond", "00:00:00.000001",
        "-00:00:00.000001", "00:00:00.1", "00:00:00.100001", "100:00:00", "-100:00:00", ("2562047788:00:54.775807", 15),
        ("-2562047788:00:54.775807", 15), "178956970 years 7 mons", "-178956970 years -8 mons", "2147483647 days", "-2147483648 days",
        ("178956970 years 7 mons 2147483647 days 2562047788:00:54.775806", 15), "59.999999 seconds", "59 min", "-1 hour", "12 mons",
        "1 mon 00:00:00.5", "-1 mon 00:00:00.5", "-1 day 00:00:00.5", "1 day 23:59:59.999999", "36 hours", "-25 months 7 days",
        ("infinity", 17), ("-infinity", 17),
    ],
    "timetz": [
        "00:00:00+00", "24:00:00+00", "12:34:56.789+01", "12:34:56.000001-01", "23:59:59.999999+15:59", "23:59:59.999999-15:59",
        "00:00:00-15:59:59", "00:00:00+15:59:59", "04:05:06+05:30", "04:05:06-03:30", "04:05:06+00:00:01", "04:05:06-00:00:01", "04:05:06+00:19:32",
    ],
    "bit(1)": ["0", "1"],
    "bit(3)": ["101", "000", "111"],
    "bit(8)": ["10000001"],
    "bit(9)": ["100000001", "000000001"],
    "varbit": ["", "0", "1", "01", "0000000", "10101010", "101010101", "0000000000000000", "11111111111111111"],
    "money": [
        "0", "0.01", "-0.01", "1", "-1", "9.99", "999.99", "1000", "-1000", "12345.67", "999999.99", "-1234567.8", "92233720368547758.07",
        "-92233720368547758.08",
    ],
    '"char"': ["", "a", " ", "\\", "'", "\x7f", "~", ("\\200", 16), ("\\377", 16), ("\\303", 16)],
    "xid8": ["0", "1", "4294967296", "18446744073709551615"],
    "pg_lsn": ["0/0", "0/1", "16/B374D848", "FFFFFFFF/FFFFFFFF", "1/0", "A/BCDEF"],
    "tid": ["(0,0)", "(0,1)", "(4294967295,65535)", "(42,7)"],
    "int2vector": ["", "1", "1 2 3", "-32768 0 32767"],
    "oidvector": ["", "0", "1 2 4294967295"],
    "pg_snapshot": ["1:1:", "10:20:10,14,15", "1:9223372036854775807:5"],
    "txid_snapshot": ["1:1:", "10:20:10,14,15"],
    "inet": [
        "0.0.0.0", "127.0.0.1", "192.168.100.128/25", "10.1.2.3/8", "255.255.255.255/32", "1.2.3.4/0", "::", "::/0", "::1", "::2", "::ffff:1.2.3.4",
        "::1.2.3.4", "::1:2", "::ffff:0:0", "::ffff:1.2.3.4/96", "fe80::1/64", "2001:db8::/32", "2001:db8::1", "2001:0:0:1:0:0:0:1", "2001:0:0:1:1:0:0:1",
        "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:0", "0:2:3:4:5:6:7:8", "1:0:3:4:5:6:7:8", "1:0:0:4:5:6:7:8", "1:2:3:4:5:6::", "::3:4:5:6:7:8",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127", "::1/128", "0:0:0:0:0:fffe:1.2.3.4", "::5:ffff:1.2.3.4", "::0.0.0.1", "::0.1.0.0", "64:ff9b::192.0.2.33",
        "1::8", "1:0:0:0:5:0:0:8", "a:b:c:d:e:f:0:0", "::abcd:0:0:0",
    ],
    "cidr": [
        "0.0.0.0/0", "127.0.0.1", "192.168.100.128/25", "10.0.0.0/8", "10", "192.168", "255.255.255.255/32", "::/0", "::1", "2001:db8::/32",
        "::ffff:1.2.3.4/128", "::ffff:1.2.3.0/120", "fe80::/10", "::1.2.0.0/112",
    ],
    "macaddr": ["00:00:00:00:00:00", "08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"],
    "macaddr8": ["00:00:00:00:00:00:00:00", "08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff", "08:00:2b:01:02:03"],
    "point": ["(0,0)", "(1.5,-2.25)", "(-0,0)", "(NaN,Infinity)", "(-Infinity,1e300)", "(0.1,1e-300)", "(1e15,123456789012345)", "(1e14,0.0001)", "(0.00001,3)"],
    "line": ["{1,2,3}", "{-1,0,0.5}", "{0,-1,1e20}"],
    "lseg": ["[(0,0),(1,1)]", "[(-1.5,2),(3e-7,NaN)]"],
    "box": ["(1,1),(0,0)", "(0,0),(1,1)", "(-1,5),(2,-3.5)", "(Infinity,1),(-Infinity,0)", "(1,1),(1,1)"],
    "path": ["((0,0),(1,1),(2,0))", "[(0,0),(1,1),(2,0)]", "((1,2))", "[(1,2)]", "[(0.1,-0),(1e100,5)]"],
    "polygon": ["((0,0),(1,1),(2,0))", "((1,2))", "((0.1,-0.5),(1e100,5),(NaN,1))"],
    "circle": ["<(0,0),0>", "<(1.5,-2),3.25>", "<(1,1),Infinity>"],
    "int4range": ["empty", "[1,5)", "(1,5]", "[1,1]", "(,5)", "[1,)", "(,)", "[-2147483648,2147483647)"],
    "int8range": ["empty", "[1,5)", "(,9223372036854775807)"],
    "numrange": ["empty", "[1.10,5.200)", "(1.1,5]", "[1,1]", "(,5]", "[1,)", "(,)", "[-Infinity,Infinity]", "(-1e10,NaN)"],
    "tsrange": ["[2010-01-01 14:30,2010-01-01 15:30)", "[-infinity,infinity]", "(,2010-01-01]", "[0044-03-15 10:00 BC,294276-12-31 23:59:59.999999]", "empty"],
    "tstzrange": ["[2010-01-01 14:30+02,2010-01-01 15:30+00)", "(-infinity,)", "empty"],
    "daterange": ["[2010-01-01,2010-02-01)", "[2010-01-01,2010-02-01]", "[-infinity,infinity]", "[0001-01-01 BC,)", "empty"],
    "textrange": [
        "empty", "[a,b)", '["",b)', '["a,b","c]d"]', '("a""b","c\\\\d")', '["a b",)', '["(",")"]', '["[","]"]', '(,"")', "[Ä,ü)", '["a\nb","c\td"]', '["NULL","null"]',
        '[ a, b )', "[a'b,c{d)",
    ],
    "floatrange": ["[0.1,1e20)", "(-Infinity,NaN)", "[-0,0]", "empty"],
    "int4multirange": ["{}", "{[1,5)}", "{[1,2),[4,6),(9,)}", "{(,)}", "{[1,3),[2,4)}", "{empty}"],
    "nummultirange": ["{}", "{[1.10,1.2],(3,4]}"],
    "datemultirange": ["{[2010-01-01,2010-02-01),[2011-01-01,)}"],
    "tstzmultirange": ["{[2010-01-01 14:30+02,2010-01-01 15:30+00),[2011-01-01,)}"],
    "textmultirange": ["{}", "{[a,b)}", '{["a,b","c]d"],["x""y","z\\\\w"]}', '{(,""),["}","~")}', '{[" ","!")}'],
    "pair": [
        '(1,a)', "(,)", '(1,"")', '(,"a b")', '(-5,"a,b")', '(1,"a""b")', '(1,"a\\\\b")', '(1,"(")', '(1,")")', '(1,"a\nb")', "(1,NULL)", "(1,{x})", "(1,Ä)", "(1,'x')",
    ],
    "nested": [
        '("(1,""a b"")","{a,NULL,""b c""}","2010-01-01 00:00:00+00")', "(,,)", '("(,)",{},)', '("(1,""a""""b"")","{""a\\\\""b"",""c\\\\\\\\d""}",infinity)',
    ],
    "lone": ["(a)", "()", '("")', '("a b")'],
    "bare": ["()"],
    "pair[]": ['{"(1,a)","(,)",NULL}', '{"(1,\\"a b\\")"}', "{}"],
    "box[]": ["{}", "{(1,1),(0,0)}", "{(1,1),(0,0);(2,2),(1,1);NULL}", "[0:1]={(1,1),(0,0);(2,2),(1,1)}", "{{(1,1),(0,0)};{(2,2),(1,1)}}"],
    "int4range[]": ['{"[1,5)",empty,NULL,"(,)"}'],
    "textrange[]": ['{"[a,\\"b c\\")",empty}'],
    "interval[]": ['{"1 mon",NULL,"-1 days +00:00:01"}', "{00:00:00}"],
    "varbit[]": ['{"",1,NULL}'],
    '"char"[]': ['{"",a,NULL," ","\\\\"}'],
    "money[]": ['{"$1,234.00",$1.00}'],
    "inet[]": ["{::1,10.0.0.0/8}"],
    "timetz[]": ["{12:00:00+01}"],
    "point[]": ['{"(1,2)",NULL}'],
    "hstore[]": ['{"\\"a\\"=>\\"1\\"",""}'],
    "vector[]": ['{"[1,2]",NULL}'],
    "tsquery[]": ["{a,'b & c'}"],
    "bit(3)[]": ["{101,NULL}"],
    "tid[]": ['{"(1,2)"}'],
    "jsonpath": ["$", "$.a[*].b ? (@ > 1)", 'strict $."a b"', '$.a like_regex "^x"', "$[0 to last]"],
    "tsvector": [
        "", "a", "a b c", "a:1 b:2A,3B c:4C,5D", "'a b':1 'it''s':2 'back\\\\slash':3", "'Ä':16383A", "a:1,2,3,4A", "' ':1", "'a:b'", "'x&y'",
        "'quote\"d'", "fat:2,4B cat:3A rat:5C",
    ],
    "tsquery": [
        "", "a", "a & b", "a | b", "!a", "!!a", "a & b & c", "a | b | c", "(a | b) & c", "a | b & c", "!(a & b)", "!a & b", "!(a <-> b)", "a <-> b", "a <2> b",
        "a <0> b", "a <-> b <-> c", "a <-> (b <-> c)", "(a <-> b) <-> c", "a <-> (b <2> (c <-> d))", "(a & b) <-> c", "a <-> (b | c)", "a:A", "a:*", "a:*AB",
        "a:ABCD", "a:CD & b:*D", "'it''s'", "'a b'", "'back\\\\slash'", "'Ä'", "!a <-> !b", "(a | !(b & c)) & !d", "a & (b & c)", "a | (b | c)", "a <16384> b",
        "!(!a | b)", "((a))", "a & (b | c) & (d | !(e <-> f))",
    ],
    "hstore": [
        "", "a=>1", 'a=>1, b=>NULL', '"a b"=>"c d"', '"a\\"b"=>"c\\\\d"', '""=>""', 'NULL=>"NULL"', '"="=>">"', '"ä"=>"日本"', '"a\nb"=>"c\td"', 'aaa=>1,bb=>2,c=>3',
        "k=>'v'",
    ],
    "ltree": ["", "Top", "Top.Science.Astronomy", "a_1.b"],
    "lquery": ["*", "Top.*{0,2}.sport*@.!football|tennis.Russ*|Spain", "*{2}", "*{2,}", "*{,3}", "foo%@*", "!a.b"],
    "ltxtquery": ["Europe & Russia*@ & !Transportation", "a", "a | b & c", "!(a | b)"],
    "cube": ["(1)", "(1,2,3)", "(1,2),(3,4)", "(3,4),(1,2)", "(1),(1)", "(0.1,-0),(1e300,NaN)", "()", "(Infinity)", "(1,2),(1,2)"],
    "vector": ["[1]", "[1,2.5,-3]", "[0.1,1e10,1e-10]", "[-0,0]", "[3.4028235e38,1.17549435e-38]", "[16777216,123456.7]", "[1000000,999999,0.0001,0.00001]"],
    "halfvec": ["[1]", "[1,2.5,-3]", "[0.1,65504,-65504]", "[6e-8,6.1e-5,-0]", "[0.333333,1000.5,0.00006]", "[0.0000305,0.000061]"],
    "sparsevec": ["{1:0.5,3:2}/5", "{}/3", "{1:1}/1", "{1000000:-0.1}/1000000", "{1:0.1,2:-3e10}/2"],
}
POINTS = ["POINT(1 2)", "POINT Z (1 2 3)", "POINT M (1 2 3)", "POINT ZM (1 2 3 4)", "POINT EMPTY", "POINT Z EMPTY", "POINT ZM EMPTY", "SRID=4326;POINT(-71.06 42.28)"]
SHAPES = [
    "LINESTRING(0 0,1 1,2 1)", "LINESTRING EMPTY", "LINESTRING Z (0 0 1,1 1 2)", "LINESTRING M (0 0 1,1 1 2)", "SRID=4326;LINESTRING ZM (0 0 1 2,1 1 2 3)",
    "POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1))", "POLYGON EMPTY", "POLYGON Z ((0 0 1,4 0 1,4 4 1,0 0 1))", "MULTIPOINT(0 0,1 1)", "MULTIPOINT EMPTY",
    "SRID=4326;MULTIPOINT Z (0 0 1,1 1 1)", "MULTILINESTRING((0 0,1 1),(2 2,3 3))", "MULTIPOLYGON(((0 0,4 0,4 4,0 0)),((5 5,6 5,6 6,5 5)))",
    "SRID=4326;GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))", "GEOMETRYCOLLECTION(GEOMETRYCOLLECTION(POINT(1 2)),POINT EMPTY)", "GEOMETRYCOLLECTION EMPTY",
    "GEOMETRYCOLLECTION ZM (POINT ZM (1 2 3 4))",
]
CURVES = [
    "CIRCULARSTRING(0 0,1 1,2 0)", "COMPOUNDCURVE(CIRCULARSTRING(0 0,1 1,1 0),(1 0,0 1))", "CURVEPOLYGON(CIRCULARSTRING(0 0,4 0,4 4,0 4,0 0),(1 1,3 3,3 1,1 1))",
    "MULTICURVE((0 0,5 5),CIRCULARSTRING(4 0,4 4,8 4))", "MULTISURFACE(CURVEPOLYGON(CIRCULARSTRING(0 0,4 0,4 4,0 4,0 0)),((7 8,10 10,6 14,4 11,7 8)))",
    "SRID=3857;POLYHEDRALSURFACE Z (((0 0 0,0 0 1,0 1 1,0 0 0)),((0 0 0,0 1 0,1 1 0,0 0 0)))", "TIN Z (((0 0 0,0 0 1,0 1 0,0 0 0)))", "TRIANGLE((0 0,0 9,9 0,0 0))",
    "TRIANGLE EMPTY", "POINT(NaN 1)", "POINT(1e300 -0)",
]
VALUES["geometry"] = POINTS + SHAPES + CURVES
VALUES["geography"] = POINTS + SHAPES
VALUES["geometry[]"] = ["{}", "{POINT(1 2):NULL:LINESTRING(0 0\\,1 1)}"]
# What these are in ISO WKB, which ST_AsBinary gives with the SRID left out.
WKB = ("geometry", "geography")


def copy(connection, query, options=""):
    with connection.cursor() as cursor, cursor.copy(f"copy ({query}) to stdout {options}") as rows:
        return b"".join(bytes(row) for row in rows)


def ask(connection, kind, value):
    """(text as COPY writes it, send form), or None where the server has no such type."""
    literal = "'" + value.replace("'", "''") + "'"
    query = f"select {literal}::{kind}"
    # COPY's text, without the newline that ends the row.
    text = copy(connection, query)[:-1].decode()
    binary = copy(connection, query, "(format binary)")
    # Signature, flags, no extension; one field; its length; the field; the trailer.
    field = binary[11 + 4 + 4 + 2:-2]
    length = int.from_bytes(field[:4], "big")
    if length != len(field) - 4:
        raise SystemExit(f"{kind} {value!r}: the field has {len(field) - 4} bytes and not {length}")
    answer = [text, field[4:].hex()]
    if kind in WKB:
        answer.append(copy(connection, f"select st_asbinary(({literal}::{kind})::geometry, 'NDR')", "(format binary)")[25:-2].hex())
    elif kind == "interval":
        connection.execute("set intervalstyle = iso_8601")
        answer.append(copy(connection, query)[:-1].decode())
        connection.execute("set intervalstyle = postgres")
    return answer


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    servers = []
    for dsn in sys.argv[1:]:
        connection = psycopg.connect(dsn, autocommit=True)
        for extension in EXTENSIONS:
            try:
                connection.execute(f"create extension if not exists {extension}")
            except psycopg.Error:
                pass
        connection.execute(PRELUDE)
        servers.append((connection.info.server_version // 10000, connection))
    versions = ", ".join(str(major) for major in sorted({major for major, _ in servers}))
    print(f"# Type, text as COPY writes it, and send form of values, from PostgreSQL {versions} by tests/oracle/send_forms.py.")
    print("# Intervals have their ISO 8601 text and geometries their ISO WKB behind.")
    for kind, values in VALUES.items():
        for value in values:
            value, since = value if isinstance(value, tuple) else (value, 0)
            answers = []
            for major, connection in servers:
                if major < since:
                    continue
                try:
                    answer = ask(connection, kind, value)
                except psycopg.errors.UndefinedObject:
                    continue
                # Types that were made here have other OIDs on every server; the first answer stands for all.
                if not any(answer[0] == other[0] for other in answers):
                    answers.append(answer)
            if len(answers) != 1:
                raise SystemExit(f"{kind} {value!r} has {len(answers)} answers: {answers}")
            print(kind, *answers[0], sep="\t")


if __name__ == "__main__":
    main()
