"""Types of Postgres, and the values at their edges."""

import dataclasses


@dataclasses.dataclass
class Edge:
    """A type and values of it: literals, or expressions in `Sql`."""

    type: str
    values: list
    since: int = 14
    until: int = 99
    extension: str = None
    # A server may be built without it.
    optional: bool = False
    has_array: bool = True

    @property
    def is_core(self):
        """Whether every server and daemon must speak its binary form."""
        return self.type.split("(")[0] in CORE


CORE = {
    "bool", "int2", "int4", "int8", "oid", "xid", "cid", "float4", "float8", "numeric", "text", "varchar", "char", "bpchar", "name", "json", "jsonb", "bytea", "date", "timestamp",
    "timestamptz", "time", "uuid", "m.mood", "m.positive", "m.price", "m.cheap", "m.words", "m.grid", "m.feeling", "m.instant", "m.blob", "m.doc", "m.citext",
}


class Sql(str):
    """An SQL expression instead of a literal."""


SETUP = """
create schema m;
create type m.mood as enum ('low', 'high', 'with space', 'it''s "quoted", \\ and so on', 'NULL', 'Grün');
create type m.pair as (a int4, b text);
create type m.nested as (pair m.pair, pairs m.pair[], day date, exact numeric(10, 2), moods m.mood[], raw bytea);
create type m.nothing as ();
create type m.altered as (a int4, gone text, b timestamptz);
alter type m.altered drop attribute gone;
alter type m.altered add attribute c numeric;
create type m.textrange as range (subtype = text, collation = "C");
create type m.float8range as range (subtype = float8, subtype_diff = float8mi);
create domain m.positive as int4 check (value > 0);
create domain m.price as numeric(10, 2);
create domain m.cheap as m.price check (value < 100);
create domain m.words as text[];
create domain m.grid as int4[];
create domain m.couple as m.pair;
create domain m.feeling as m.mood;
create domain m.span as tstzrange;
create domain m.instant as timestamptz;
create domain m.blob as bytea;
create domain m.doc as jsonb;
create type m.domains as (price m.cheap, words m.words, couple m.couple);
"""

BIG = Sql("repeat('9', 131072)::numeric")
BIGGEST = Sql("(repeat('8', 131072) || '.' || repeat('7', 16383))::numeric")
TINIEST = Sql("('0.' || repeat('0', 16382) || '1')::numeric")
NINES = "9" * 38

TEXTS = [
    "", " ", "plain", "NULL", "null", '"quoted"', "it's", "back\\slash", "\\N", "\\", "line\nfeed", "\r\n", "tab\t", "\x01\x1f\x7f", "ü", "日本語",
    "😀", "\U0010ffff", "e\u0301", "\u202eright to left", "a,b", "{}", "{a,b}", "(1,2)", "[1:2]={a,b}", "\ufeffbom", "%s %d", "$1", "\u2028",
    Sql("repeat('é', 3000)"), Sql("repeat('abcdefghij', 250)"),
]
MOMENTS = [
    "infinity", "-infinity", "1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "2000-01-01", "1999-12-31 23:59:59.999999", "0001-01-01 00:00:00",
    "0001-12-31 23:59:59.999999 BC", "9999-12-31 23:59:59.999999", "10000-01-01 00:00:00", "294276-12-31 23:59:59.999999", "290279-12-22 19:59:05.224194",
    "4714-11-24 00:00:00 BC", "0044-03-15 10:00:00 BC", "2024-02-29 12:34:56.7", "2024-02-29 12:34:56.000001", "1582-10-10 00:00:00",
]
DAYS = ["infinity", "-infinity", "1970-01-01", "1969-12-31", "2000-01-01", "0001-01-01", "0001-12-31 BC", "9999-12-31", "10000-01-01", "5874897-12-31",
        "4714-11-24 BC", "2024-02-29", "0044-03-15 BC"]
HOURS = ["00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.1", "00:00:00.000001", "04:05:06.789"]

FAMILIES = {
    "numbers": [
        Edge("bool", ["t", "f"]),
        Edge("int2", ["-32768", "0", "32767", "-1"]),
        Edge("int4", ["-2147483648", "0", "2147483647", "-1"]),
        Edge("int8", ["-9223372036854775808", "0", "9223372036854775807", "-1", "9007199254740993"]),
        Edge("oid", ["0", "4294967295", "2147483648", "1"]),
        Edge("xid", ["0", "4294967295", "2147483648"]),
        Edge("cid", ["0", "4294967295", "2147483648"]),
        Edge("xid8", ["0", "18446744073709551615", "9223372036854775808", "4294967296"]),
        Edge("float4", ["0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "-3.4028235e38", "1.1754944e-38", "0.1", "16777216", "1e-5", "1e15",
                        "123456.79", "1e6", "9.9999994e-08", "8.5e-42", "0.3"]),
        Edge("float8", ["0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "0.1", "0.30000000000000004",
                        "1e23", "9007199254740993", "1e15", "1e16", "1e-5", "0.0001", "123456789.12345678", "2.2250738585072011e-308", "-1.5"]),
        Edge("numeric(9,0)", ["999999999", "-999999999", "0", "NaN"]),
        Edge("numeric(10,2)", ["99999999.99", "-99999999.99", "0", "1.5", "NaN", "-0.01"]),
        Edge("numeric(18,9)", ["999999999.999999999", "-0.000000001", "NaN", "0"]),
        Edge("numeric(19,4)", ["922337203685477.5807", "-922337203685477.5808", "0.0001"]),
        Edge("numeric(38,0)", [NINES, "-" + NINES, "0", "NaN"]),
        Edge("numeric(38,38)", ["0." + NINES, "-0." + NINES, "0", "NaN"]),
        Edge("numeric(38,10)", [NINES[:28] + "." + NINES[:10], "-1.0000000001", "0.0000000001"]),
        Edge("numeric(1,1)", ["0.9", "-0.9", "0"]),
        Edge("numeric(39,0)", [NINES + "9", "-" + NINES + "9", "0", "NaN"]),
        Edge("numeric(39,39)", ["0." + NINES + "9", "0", "NaN"]),
        Edge("numeric(100,50)", ["1" * 50 + "." + "2" * 50, "NaN", "0"]),
        Edge("numeric(1000,1000)", [Sql("('0.' || repeat('7', 1000))::numeric"), "NaN"]),
        Edge("numeric", ["NaN", "Infinity", "-Infinity", "0", "0.0", "-0.0", "1.500", "0.000", "-1e-10", "1e100", "12345.678900", "10000", "0.0001", "100000000",
                         "-" + NINES + ".123", BIG, BIGGEST, TINIEST]),
        Edge("numeric(5,-2)", ["1234567", "0", "-9999900", "12345", "49", "NaN"], since=15),
        Edge("numeric(3,5)", ["0.00123", "-0.00999", "0", "NaN"], since=15),
        Edge("numeric(38,-1)", [NINES + "0", "0", "NaN"], since=15),
        Edge("numeric(37,-1)", [NINES[:37] + "0", "0", "NaN"], since=15),
        Edge("numeric(2,-1000)", [Sql("('99' || repeat('0', 1000))::numeric"), "0"], since=15),
        Edge("numeric(1,1000)", [Sql("('0.' || repeat('0', 999) || '9')::numeric"), "0"], since=15),
        Edge("numeric(5,38)", ["0." + "0" * 33 + "99999", "0"], since=15),
        Edge("numeric(5,39)", ["0." + "0" * 34 + "99999", "0"], since=15),
        Edge("money", ["-92233720368547758.08", "92233720368547758.07", "0", "1234.5", "-0.01", "-1234567.89"]),
    ],
    "texts": [
        Edge("text", TEXTS),
        Edge("varchar", TEXTS[:24]),
        Edge("varchar(10)", ["", "0123456789", "üüüüüüüüüü", "a "]),
        Edge("char(5)", ["ab", "", "     ", "üü", "abcde"]),
        Edge("char(1)", ["a", "", "ü"]),
        Edge("bpchar", ["ab  ", "", " "]),
        Edge("name", ["", "n", "n" * 63, "ü" * 31, 'q"uote']),
        Edge('"char"', ["", "a", "\\", '"', ",", " ", Sql('(-128)::"char"'), Sql('(-1)::"char"'), Sql('1::"char"'), Sql('127::"char"')]),
        Edge("bytea", ["", "\\x00", "\\xff", "\\x5c", "\\x" + bytes(range(256)).hex(), Sql("decode(repeat('00ff27', 1500), 'hex')")]),
        Edge("json", ['{"a" : 1, "a": 2}', ' [ ] ', "null", '"\\u0000"', '"\\u00e9"', "1e1000", '{"b":1,\n"a":"\\""}', '"x"', "-0", "1.0"]),
        Edge("jsonb", ['{"b":1,"aa":2,"a":null,"a":3}', "[]", "{}", "null", '"\\u00e9 \\ud83d\\ude00"', "1e400", "1.0", '"\\"\\\\\\n"', "-0", "true",
                       Sql("""('{"k": "' || repeat('abcdefghij', 900) || '"}')::jsonb""")]),
        Edge("jsonpath", ["$", '$."a b"[*] ? (@ > 1 && @.x like_regex "^a" flag "i")', "strict $.a", '$ ? (@.t == "\\u00e9")', "$.**{2 to 3}.a.type()"]),
        Edge("xml", ["<a/>", "just text", '<?xml version="1.0" standalone="yes"?><a b="1">é</a>', "", "<a>&lt;</a>"], optional=True),
        Edge("tsvector", ["", "a:1A b:2,3C 'it''s':5", "plain", "'with space':16383D", "'back\\\\slash':1B", "ü", "a b c"]),
        Edge("tsquery", ["", "a & (b | !c) <-> d:*AB", "x <3> y", "!(a | b)", "'with space':C", "'it''s'", "!!a", "a <-> (b & c)"]),
        Edge("uuid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
        Edge("bit(1)", ["0", "1"]),
        Edge("bit(9)", ["000000000", "101010101", "111111111"]),
        Edge("bit(70)", ["1" * 70, "0" * 69 + "1"]),
        Edge("varbit", ["", "0", "1", "0" * 8, "1" * 65]),
        Edge("varbit(5)", ["", "101"]),
        Edge("refcursor", ["", "a portal"]),
    ],
    "moments": [
        Edge("date", DAYS),
        Edge("timestamp", MOMENTS),
        Edge("timestamp(0)", ["2024-02-29 12:34:56.7", "infinity", "294276-12-31 23:59:59"]),
        Edge("timestamp(3)", ["2024-02-29 12:34:56.7891", "-infinity"]),
        Edge("timestamptz", [moment.replace(" BC", "+00 BC") if "BC" in moment else moment + "+00" if ":" in moment else moment for moment in MOMENTS]),
        Edge("timestamptz(2)", ["2024-02-29 12:34:56.789+14", "infinity", "0001-01-01 00:00:00+15:59:59"]),
        Edge("time", HOURS),
        Edge("time(0)", ["12:34:56.7", "24:00:00"]),
        Edge("timetz", ["24:00:00-15:59:59", "00:00:00+15:59:59", "12:34:56.789+05:30", "00:00:00-00:00:01", "12:00:00.000001+00", "23:59:59.999999-12"]),
        Edge("timetz(1)", ["12:34:56.789+05:30"]),
        Edge("interval", ["0", "1 year 2 mons -3 days 04:05:06.789", "-1 mons", "-00:00:00.000001", "-1 days +02:03:04", "178000000 years", "-178000000 years",
                          "1 day", "-1 day",
                          "1 mon -1 day", "100:00:00", "00:00:00.1", "1 year", "13 mons", "-13 mons 1 day -00:00:01.5"]),
        Edge("interval", ["2147483647 months 2147483647 days 2562047788:00:54.775807", "-2147483647 months -2147483648 days -2562047788:00:54.775807"], since=15),
        Edge("interval", ["infinity", "-infinity", "1 day"], since=17),
        Edge("interval year to month", ["1 year 2 mons", "-5 mons"]),
        Edge("interval second(2)", ["00:00:01.239", "-1.5"]),
    ],
    "places": [
        Edge("inet", ["0.0.0.0/0", "192.168.1.1/24", "10.0.0.1", "255.255.255.255", "::", "::1/64", "::ffff:1.2.3.4", "2001:db8::1:0:0:1", "fe80::/10", "::1.2.3.4", "1:0:0:2::3",
                      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127"]),
        Edge("cidr", ["0.0.0.0/0", "192.168.1.0/24", "10.0.0.1/32", "::/0", "2001:db8::/32", "::1/128", "10/8"]),
        Edge("macaddr", ["00:00:00:00:00:00", "08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
        Edge("macaddr8", ["00:00:00:00:00:00:00:00", "08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff"]),
        Edge("point", ["(0,-0)", "(NaN,Infinity)", "(1e300,5e-324)", "(0.1,-1e15)", "(1e16,123456789.123456789)"]),
        Edge("line", ["{1,-1,0}", "{0,1,0.1}", "{NaN,1,Infinity}"]),
        Edge("lseg", ["[(0,0),(1,1)]", "[(-0,1e-300),(NaN,0)]"]),
        Edge("box", ["(1,1),(0,0)", "(0,0),(1,1)", "(Infinity,1),(-Infinity,-0)"]),
        Edge("path", ["[(0,0),(1,1),(2,0)]", "((0,0),(1,1),(2,0))", "[(0.1,0.2)]", "((1,2))"]),
        Edge("polygon", ["((0,0),(1,1),(2,0))", "((1,2))"]),
        Edge("circle", ["<(0,0),1>", "<(0.1,-0),0>", "<(1,2),Infinity>"]),
    ],
    "catalogs": [
        Edge("pg_lsn", ["0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848", "0/1A"]),
        Edge("tid", ["(0,1)", "(4294967295,65535)", "(42,7)"]),
        Edge("txid_snapshot", ["10:20:10,14,15", "1:1:", "9223372036854775806:9223372036854775807:9223372036854775806"]),
        Edge("pg_snapshot", ["10:20:10,14,15", "1:1:", "9223372036854775806:9223372036854775807:"]),
        Edge("regclass", ["-", "pg_catalog.pg_class", "m.t_numbers_core_default", "4294967295"]),
        Edge("regproc", ["-", "now", "4294967295", "pg_catalog.boolin"]),
        Edge("regprocedure", ["-", "now()", "sum(integer)", "pg_catalog.substring(text,integer,integer)"]),
        Edge("regoper", ["0", "4294967295", "pg_catalog.||/"]),
        Edge("regoperator", ["0", "+(integer,integer)", "pg_catalog.!~~(text,text)"]),
        Edge("regtype", ["-", "integer", "double precision", '"char"', "m.mood", "m.pair[]", "timestamp with time zone"]),
        Edge("regrole", ["-", "postgres"]),
        Edge("regnamespace", ["-", "pg_catalog", "m"]),
        Edge("regcollation", ["-", 'pg_catalog."C"']),
        Edge("regconfig", ["-", "pg_catalog.english"]),
        Edge("regdictionary", ["-", "pg_catalog.simple"]),
        Edge("regdatabase", ["-", "template1"], since=19),
        Edge("aclitem", ["postgres=ar/postgres", "=r*/postgres"]),
        Edge("int2vector", ["", "1", "-32768 0 32767"]),
        Edge("oidvector", ["", "0 4294967295"]),
        Edge("pg_node_tree", [Sql("(select adbin from pg_attrdef order by oid limit 1)")], has_array=False),
    ],
    "ranges": [
        Edge("int4range", ["empty", "(,)", "[1,5)", "[1,)", "(,5]", "[-2147483648,2147483647)"]),
        Edge("int8range", ["empty", "(,)", "[-9223372036854775808,9223372036854775807)"]),
        Edge("numrange", ["empty", "[-1.50,NaN]", "(,)", "[0.10,0.2)", "(-Infinity,Infinity]"]),
        Edge("daterange", ["empty", "[-infinity,infinity]", "[2020-01-01,)", "[4714-11-24 BC,5874897-12-31)", "(,2020-01-01)"]),
        Edge("tsrange", ["empty", '["2020-01-01 00:00:00",infinity]', "(,)", '("0044-03-15 10:00:00 BC","294276-12-31 23:59:59.999999")']),
        Edge("tstzrange", ["empty", '["2020-01-01 00:00:00+05:30",infinity)', "[,]", '[-infinity,"2020-01-01 00:00:00.5+00"]']),
        Edge("m.textrange", ["empty", '["a b","c,d"]', '["",x)', '("\\"","\\\\"]', "[(,a]", '["NULL",)', "[a,ü]", '[" a","b "]', "(,)"]),
        Edge("m.float8range", ["empty", "[-0,0.1]", "[NaN,)", "(-Infinity,5e-324)"]),
        Edge("int4multirange", ["{}", "{[1,3),[5,7)}", "{(,)}", "{(,1),[3,)}"]),
        Edge("int8multirange", ["{}", "{[1,3),[5,7)}"]),
        Edge("nummultirange", ["{}", "{[1.50,2),(3,NaN]}"]),
        Edge("datemultirange", ["{}", "{[-infinity,2020-01-01),[2021-01-01,infinity)}"]),
        Edge("tsmultirange", ["{}", '{["2020-01-01 00:00:00","2021-01-01 00:00:00")}']),
        Edge("tstzmultirange", ["{}", '{["2020-01-01 00:00:00+01","2021-01-01 00:00:00.25+00")}', "{(,)}"]),
        Edge("m.textmultirange", ["{}", '{["a b","c,d"],[x,]}', '{["\\"","\\\\"]}']),
        Edge("m.float8multirange", ["{}", "{[1.5,2],[3,NaN]}"]),
    ],
    "composed": [
        Edge("m.mood", ["low", "high", "with space", 'it\'s "quoted", \\ and so on', "NULL", "Grün"]),
        Edge("m.pair", [Sql("row(1, 'x')"), Sql("row(null, null)"), Sql("row(1, '')"), Sql("row(-1, 'a \"q\" \\ , ( ) {')"), Sql("row(null, 'NULL')"), Sql("row(0, E'line\\nfeed ')")]),
        Edge("m.nested", [Sql("row(null, null, null, null, null, null)"),
                          Sql("row(row(1, 'a \"b\"')::m.pair, array[row(2, 'c,d')::m.pair, null, row(null, '\\')::m.pair], 'infinity', 'NaN', '{low,NULL,\"with space\"}', '\\x00ff')"),
                          Sql("row(row(null, null)::m.pair, '{}', '0044-03-15 BC', 1.5, '{\"NULL\"}', '')")]),
        Edge("m.nothing", [Sql("'()'::m.nothing")]),
        Edge("m.altered", [Sql("row(1, '2020-01-01 00:00:00.5+00', 1.50)"), Sql("row(null, '-infinity', 'NaN')")]),
        Edge("m.domains", [Sql("row(1.5, '{a,\"b c\"}', row(1, 'x'))"), Sql("row(null, null, null)")]),
        Edge("m.positive", ["1", "2147483647"]),
        Edge("m.price", ["99999999.99", "-0.01", "NaN"]),
        Edge("m.cheap", ["99.99", "-1"]),
        Edge("m.words", ["{a,NULL,\"NULL\",\"\"}", "{}", "{{a,b},{c,d}}", "[0:1]={a,b}"]),
        Edge("m.grid", ["{1,2}", "{{1,2},{3,NULL}}", "[-1:0][2:2]={{1},{2}}"]),
        Edge("m.couple", [Sql("row(1, 'x y')::m.pair")]),
        Edge("m.feeling", ["low", "NULL"]),
        Edge("m.span", ['["2020-01-01 00:00:00+00",infinity)', "empty"]),
        Edge("m.instant", ["infinity", "2020-01-01 00:00:00.5+00", "0044-03-15 10:00:00+00 BC"]),
        Edge("m.blob", ["\\x00ff", ""]),
        Edge("m.doc", ['{"b": 1, "a": 2}', "null"]),
    ],
    "extensions": [
        Edge("m.hstore", ["", "a=>1", 'a=>NULL, "b c"=>"x\\"y\\\\", ""=>""', '"NULL"=>"NULL", k=>"=>,"', "ü=>日本"], extension="hstore"),
        Edge("m.citext", ["Mixed CASE", "", "NULL"], extension="citext"),
        Edge("m.ltree", ["", "a.b.c", "Top_1.Science"], extension="ltree"),
        Edge("m.lquery", ["*.a.!b|c*@.*{1,2}", "a.*{3}"], extension="ltree"),
        Edge("m.ltxtquery", ["a & b*@ | !c", "x"], extension="ltree"),
        Edge("m.cube", ["(1,2),(3,4)", "(0)", "(0.1,-0,5e-324)", "()"], extension="cube"),
        Edge("m.seg", ["1 .. 2", "1.50", "<5", "~6", "1.5(+-)0.1"], extension="seg"),
        Edge("m.isbn13", ["978-0-393-04002-9"], extension="isn"),
        Edge("m.ean13", ["0011234567894"], extension="isn"),
        Edge("m.query_int", ["1&(2|!3)"], extension="intarray"),
        Edge("m.geometry", ["POINT(1 2)", "SRID=4326;POINT Z(1 2 3)", "LINESTRING(0 0,1 1)", "POLYGON((0 0,1 0,1 1,0 0))", "POINT EMPTY", "MULTIPOINT ZM(1 2 3 4,5 6 7 8)",
                            "GEOMETRYCOLLECTION(POINT M(1 2 3),LINESTRING M(0 0 1,1 1 1))"], extension="postgis"),
        Edge("m.geography", ["SRID=4326;POINT(1 2)"], extension="postgis"),
        Edge("m.vector", ["[1,2.5,-0]", "[1e-38,3.4028235e38]"], extension="vector"),
        Edge("m.halfvec", ["[1,2.5]", "[6.1e-05,65504]"], extension="vector"),
        Edge("m.sparsevec", ["{1:0.5,3:2}/5", "{}/1"], extension="vector"),
    ],
}

# What a database that is not UTF-8 can hold.
LATIN1 = {
    "texts": [
        Edge("text", ["é", "", "plain", "ÿÀ", "NULL", Sql("repeat('é', 5000)")]), Edge("varchar(3)", ["ééé"]), Edge("char(4)", ["é"]), Edge("name", ["é" * 30]), Edge('"char"', ["a"]),
        Edge("json", ['{"é":"ÿ"}', '"\\u00e9"']), Edge("jsonb", ['{"é":"ÿ"}']), Edge("m.mood", ["Grün", "low"]), Edge("m.pair", [Sql("row(1, 'é è')")]), Edge("m.textrange", ["[é,ü]"]),
        Edge("xml", ["<é>ÿ</é>", '<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>'], optional=True), Edge("tsvector", ["é:1A"]), Edge("tsquery", ["é & ü"]), Edge("m.hstore", ["é=>ü"], extension="hstore"),
        Edge("m.citext", ["É"], extension="citext"), Edge("bytea", ["\\xe9ff"]), Edge("int4", ["1", "-1"]), Edge("timestamptz", MOMENTS[2:6]),
    ],
}
# `\xHH` in these stands for that byte: no database but SQL_ASCII takes it.
SQL_ASCII = {
    "texts": [
        Edge("text", ["é", "\udce9", "valid é then \udcff", "\\ and \udc80", "\\xe9", "plain", "\udcc3", "\udced\udca0\udc80", "\udcc0\udc80", "a\udce9" * 900]),
        Edge("varchar(3)", ["\udce9\udce9\udce9", "abc"]), Edge("char(4)", ["\udce9", "ab"]), Edge("name", ["\udce9" * 63]), Edge('"char"', ["\udce9", "a"]),
        Edge("json", ['{"k":"\udcff"}', '{"k":"é"}']), Edge("m.mood", ["low", "Grün"]), Edge("m.pair", [Sql("row(1, 'caf\udce9 \"x\" \\')"), Sql("row(2, 'é')")]), Edge("m.textrange", ["[a,b\udcff]"]),
        Edge("m.words", ["{a,\udce9}", "{{a,\udce9}}", "{é}"]), Edge("m.hstore", ["k=>\udce9", "k=>é"], extension="hstore"), Edge("m.citext", ["\udcc9"], extension="citext"),
        Edge("bytea", ["\\xe9ff"]), Edge("int4", ["1", "-1"]), Edge("timestamptz", MOMENTS[2:6]),
    ],
}
