CREATE SCHEMA IF NOT EXISTS "public";

-- needs, once: CREATE STAGE tributary_lake URL = 's3://bucket/shop' STORAGE_INTEGRATION = …
CREATE EXTERNAL TABLE IF NOT EXISTS "public"."orders_changes_of" (
  _cdc_op varchar AS (VALUE:"_cdc_op"::varchar),
  _cdc_lsn bigint AS (VALUE:"_cdc_lsn"::bigint),
  _cdc_seq bigint AS (VALUE:"_cdc_seq"::bigint),
  _cdc_commit_ts timestamp_ntz AS (VALUE:"_cdc_commit_ts"::timestamp_ntz),
  _cdc_xid bigint AS (VALUE:"_cdc_xid"::bigint),
  _cdc_relation varchar AS (VALUE:"_cdc_relation"::varchar),
  _cdc_unchanged array AS (VALUE:"_cdc_unchanged"::array),
  _cdc_raw object AS (VALUE:"_cdc_raw"::object),
  _cdc_before object AS (VALUE:"_cdc_before"::object),
  "id" bigint AS (VALUE:"id"::bigint),
  "day" date AS (VALUE:"day"::date),
  "d'ay" date AS (VALUE:"d'ay"::date),
  "doc" varchar AS (VALUE:"doc"::varchar),
  "note" varchar AS (VALUE:"note"::varchar),
  "remark" varchar AS (VALUE:"remark"::varchar),
  "price" decimal(10,2) AS (VALUE:"price"::decimal(10,2)),
  "gone" integer AS (VALUE:"gone"::integer),
  "at" timestamp_ntz AS (VALUE:"at"::timestamp_ntz),
  "wall" timestamp_ntz AS (VALUE:"wall"::timestamp_ntz),
  "hour" time AS (VALUE:"hour"::time),
  "flag" boolean AS (VALUE:"flag"::boolean),
  "half" float AS (VALUE:"half"::float),
  "raw" binary AS (VALUE:"raw"::binary),
  "ident" binary AS (VALUE:"ident"::binary),
  "sixteen" binary AS (VALUE:"sixteen"::binary),
  "doc_json" varchar AS (VALUE:"doc_json"::varchar),
  "tags" array AS (VALUE:"tags"::array),
  "attributes" object AS (VALUE:"attributes"::object),
  "place" object AS (VALUE:"place"::object),
  "cdc_date" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_date=([^/]*)/', 1, 1, 'e', 1)),
  "cdc_hour" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_hour=([^/]*)/', 1, 1, 'e', 1))
)
PARTITION BY ("cdc_date", "cdc_hour")
LOCATION = @tributary_lake/public/orders/data/
AUTO_REFRESH = false
FILE_FORMAT = (TYPE = PARQUET);

-- again whenever there are new files, or AUTO_REFRESH = true with S3 event notifications
ALTER EXTERNAL TABLE "public"."orders_changes_of" REFRESH;

-- price: rows from before the column have NULL until `tributary resync`, and its default in Postgres
CREATE OR REPLACE VIEW "public"."orders" AS
WITH marks AS (
  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT CASE WHEN _cdc_relation IN ('public.orders', 'sales.orders') THEN '*' ELSE _cdc_relation END AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY CASE WHEN _cdc_relation IN ('public.orders', 'sales.orders') THEN '*' ELSE _cdc_relation END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
    FROM "public"."orders_changes_of" WHERE _cdc_op = 'T'
  ) AS every WHERE nth = 1
),
changes AS (
  SELECT c."id",
    coalesce(c."day", c."d'ay") AS "day",
    c."doc",
    coalesce(c."note", c."remark") AS "note",
    c."price",
    c."at",
    c."wall",
    c."hour",
    c."flag",
    c."half",
    c."raw",
    c."ident",
    c."sixteen",
    c."doc_json",
    c."tags",
    c."attributes",
    c."place",
    c._cdc_op,
    c._cdc_lsn,
    c._cdc_seq,
    c._cdc_commit_ts,
    c._cdc_relation,
    c._cdc_raw,
    coalesce(c._cdc_raw['day']::varchar, c._cdc_raw['d''ay']::varchar) AS _cdc_exact_0,
    CASE WHEN c._cdc_op = 'D' OR coalesce(array_contains('doc'::variant, c._cdc_unchanged), false) THEN 0 ELSE 1 END AS _cdc_has_0,
    CASE WHEN c._cdc_op = 'D' OR coalesce(array_contains('note'::variant, c._cdc_unchanged), false) OR coalesce(array_contains('remark'::variant, c._cdc_unchanged), false) THEN 0 ELSE 1 END AS _cdc_has_1
  FROM "public"."orders_changes_of" AS c WHERE c._cdc_op <> 'T'
),
numbered AS (
  SELECT changes.*,
    row_number() OVER (PARTITION BY "id", "day", _cdc_exact_0 ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth,
    sum(CASE WHEN _cdc_op IN ('I', 'R') THEN 1 ELSE 0 END) OVER (PARTITION BY "id", "day", _cdc_exact_0 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_life,
    sum(CASE WHEN _cdc_has_0 > 0 OR _cdc_op IN ('I', 'R') THEN 1 ELSE 0 END) OVER (PARTITION BY "id", "day", _cdc_exact_0 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_run_0,
    sum(CASE WHEN _cdc_has_1 > 0 OR _cdc_op IN ('I', 'R') THEN 1 ELSE 0 END) OVER (PARTITION BY "id", "day", _cdc_exact_0 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_run_1
  FROM changes
),
filled AS (
  SELECT numbered.*,
    first_value(_cdc_lsn) OVER (PARTITION BY "id", "day", _cdc_exact_0, _cdc_life ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_born_lsn,
    first_value(_cdc_seq) OVER (PARTITION BY "id", "day", _cdc_exact_0, _cdc_life ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_born_seq,
    first_value(_cdc_op) OVER (PARTITION BY "id", "day", _cdc_exact_0, _cdc_life ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_born_op,
    first_value("doc") OVER (PARTITION BY "id", "day", _cdc_exact_0, _cdc_run_0 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_value_0,
    first_value(_cdc_has_0) OVER (PARTITION BY "id", "day", _cdc_exact_0, _cdc_run_0 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_known_0,
    first_value("note") OVER (PARTITION BY "id", "day", _cdc_exact_0, _cdc_run_1 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_value_1,
    first_value(_cdc_has_1) OVER (PARTITION BY "id", "day", _cdc_exact_0, _cdc_run_1 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_known_1
  FROM numbered
)
SELECT l."id",
  l."day",
  CASE WHEN l._cdc_known_0 > 0 THEN l._cdc_value_0 WHEN o._cdc_known_0 > 0 THEN o._cdc_value_0 WHEN p._cdc_known_0 > 0 THEN p._cdc_value_0 END AS "doc",
  CASE WHEN l._cdc_known_1 > 0 THEN l._cdc_value_1 WHEN o._cdc_known_1 > 0 THEN o._cdc_value_1 WHEN p._cdc_known_1 > 0 THEN p._cdc_value_1 END AS "note",
  l."price",
  l."at",
  l."wall",
  l."hour",
  l."flag",
  l."half",
  l."raw",
  l."ident",
  l."sixteen",
  l."doc_json",
  l."tags",
  l."attributes",
  l."place",
  l._cdc_op,
  l._cdc_lsn,
  l._cdc_seq,
  l._cdc_commit_ts,
  l._cdc_relation,
  l._cdc_raw,
  nullif(CASE WHEN coalesce(l._cdc_known_0, 0) = 0 AND coalesce(o._cdc_known_0, 0) = 0 AND coalesce(p._cdc_known_0, 0) = 0 THEN 'doc ' ELSE '' END || CASE WHEN coalesce(l._cdc_known_1, 0) = 0 AND coalesce(o._cdc_known_1, 0) = 0 AND coalesce(p._cdc_known_1, 0) = 0 THEN 'note ' ELSE '' END, '') AS _cdc_unresolved
FROM filled AS l
LEFT JOIN filled AS o ON o._cdc_op = 'D' AND l._cdc_born_op = 'I' AND o._cdc_lsn = l._cdc_born_lsn AND o._cdc_seq = l._cdc_born_seq - 1
LEFT JOIN filled AS p ON p._cdc_op = 'D' AND o._cdc_born_op = 'I' AND p._cdc_lsn = o._cdc_born_lsn AND p._cdc_seq = o._cdc_born_seq - 1
LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'
WHERE l._cdc_nth = 1 AND l._cdc_op <> 'D' AND (own._cdc_lsn IS NULL OR l._cdc_lsn > own._cdc_lsn OR (l._cdc_lsn = own._cdc_lsn AND l._cdc_seq > own._cdc_seq))
  AND (whole._cdc_lsn IS NULL OR l._cdc_lsn > whole._cdc_lsn OR (l._cdc_lsn = whole._cdc_lsn AND l._cdc_seq > whole._cdc_seq));

CREATE SCHEMA IF NOT EXISTS "public";

-- needs, once: CREATE STAGE tributary_lake URL = 's3://bucket/shop' STORAGE_INTEGRATION = …
CREATE EXTERNAL TABLE IF NOT EXISTS "public"."ledger_changes" (
  _cdc_op varchar AS (VALUE:"_cdc_op"::varchar),
  _cdc_lsn bigint AS (VALUE:"_cdc_lsn"::bigint),
  _cdc_seq bigint AS (VALUE:"_cdc_seq"::bigint),
  _cdc_commit_ts timestamp_ntz AS (VALUE:"_cdc_commit_ts"::timestamp_ntz),
  _cdc_xid bigint AS (VALUE:"_cdc_xid"::bigint),
  _cdc_relation varchar AS (VALUE:"_cdc_relation"::varchar),
  _cdc_unchanged array AS (VALUE:"_cdc_unchanged"::array),
  _cdc_raw object AS (VALUE:"_cdc_raw"::object),
  "account" integer AS (VALUE:"account"::integer),
  "entry" varchar AS (VALUE:"entry"::varchar),
  "cdc_date" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_date=([^/]*)/', 1, 1, 'e', 1)),
  "cdc_hour" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_hour=([^/]*)/', 1, 1, 'e', 1))
)
PARTITION BY ("cdc_date", "cdc_hour")
LOCATION = @tributary_lake/public/ledger/data/
AUTO_REFRESH = false
FILE_FORMAT = (TYPE = PARQUET);

-- again whenever there are new files, or AUTO_REFRESH = true with S3 event notifications
ALTER EXTERNAL TABLE "public"."ledger_changes" REFRESH;

CREATE OR REPLACE VIEW "public"."ledger" AS
WITH marks AS (
  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT CASE WHEN _cdc_relation IN ('public.ledger') THEN '*' ELSE _cdc_relation END AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY CASE WHEN _cdc_relation IN ('public.ledger') THEN '*' ELSE _cdc_relation END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
    FROM "public"."ledger_changes" WHERE _cdc_op = 'T'
  ) AS every WHERE nth = 1
),
changes AS (
  SELECT c."account",
    c."entry",
    c._cdc_op,
    c._cdc_lsn,
    c._cdc_seq,
    c._cdc_commit_ts,
    c._cdc_relation,
    c._cdc_raw
  FROM "public"."ledger_changes" AS c WHERE c._cdc_op <> 'T'
),
living AS (
  SELECT l.*
  FROM changes AS l
  LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'
  WHERE (own._cdc_lsn IS NULL OR l._cdc_lsn > own._cdc_lsn OR (l._cdc_lsn = own._cdc_lsn AND l._cdc_seq > own._cdc_seq))
  AND (whole._cdc_lsn IS NULL OR l._cdc_lsn > whole._cdc_lsn OR (l._cdc_lsn = whole._cdc_lsn AND l._cdc_seq > whole._cdc_seq))
),
counted AS (
  SELECT living.*,
    row_number() OVER (PARTITION BY "account", "entry", CASE WHEN _cdc_op = 'D' THEN 1 ELSE 0 END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth,
    sum(CASE WHEN _cdc_op = 'D' THEN -1 ELSE 1 END) OVER (PARTITION BY "account", "entry") AS _cdc_count
  FROM living
)
SELECT "account", "entry",
  _cdc_op, _cdc_lsn, _cdc_seq, _cdc_commit_ts, _cdc_relation, _cdc_raw
FROM counted
WHERE _cdc_op <> 'D' AND _cdc_nth <= _cdc_count;

CREATE SCHEMA IF NOT EXISTS "public";

-- needs, once: CREATE STAGE tributary_lake URL = 's3://bucket/shop' STORAGE_INTEGRATION = …
CREATE EXTERNAL TABLE IF NOT EXISTS "public"."events_changes" (
  _cdc_op varchar AS (VALUE:"_cdc_op"::varchar),
  _cdc_lsn bigint AS (VALUE:"_cdc_lsn"::bigint),
  _cdc_seq bigint AS (VALUE:"_cdc_seq"::bigint),
  _cdc_commit_ts timestamp_ntz AS (VALUE:"_cdc_commit_ts"::timestamp_ntz),
  _cdc_xid bigint AS (VALUE:"_cdc_xid"::bigint),
  _cdc_relation varchar AS (VALUE:"_cdc_relation"::varchar),
  _cdc_unchanged array AS (VALUE:"_cdc_unchanged"::array),
  _cdc_raw object AS (VALUE:"_cdc_raw"::object),
  "id" bigint AS (VALUE:"id"::bigint),
  "kind" varchar AS (VALUE:"kind"::varchar),
  "created_at_day" varchar AS (regexp_substr(METADATA$FILENAME, 'created_at_day=([^/]*)/', 1, 1, 'e', 1)),
  "tenant_bucket" varchar AS (regexp_substr(METADATA$FILENAME, 'tenant_bucket=([^/]*)/', 1, 1, 'e', 1))
)
PARTITION BY ("created_at_day", "tenant_bucket")
LOCATION = @tributary_lake/public/events/data/
AUTO_REFRESH = false
FILE_FORMAT = (TYPE = PARQUET);

-- again whenever there are new files, or AUTO_REFRESH = true with S3 event notifications
ALTER EXTERNAL TABLE "public"."events_changes" REFRESH;

CREATE OR REPLACE VIEW "public"."events" AS
WITH marks AS (
  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT CASE WHEN _cdc_relation IN ('public.events') THEN '*' ELSE _cdc_relation END AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY CASE WHEN _cdc_relation IN ('public.events') THEN '*' ELSE _cdc_relation END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
    FROM "public"."events_changes" WHERE _cdc_op = 'T'
  ) AS every WHERE nth = 1
),
changes AS (
  SELECT c."id",
    c."kind",
    c._cdc_op,
    c._cdc_lsn,
    c._cdc_seq,
    c._cdc_commit_ts,
    c._cdc_relation,
    c._cdc_raw
  FROM "public"."events_changes" AS c WHERE c._cdc_op <> 'T'
),
numbered AS (
  SELECT changes.*,
    row_number() OVER (PARTITION BY "id" ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth
  FROM changes
)
SELECT l."id",
  l."kind",
  l._cdc_op,
  l._cdc_lsn,
  l._cdc_seq,
  l._cdc_commit_ts,
  l._cdc_relation,
  l._cdc_raw
FROM numbered AS l
LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'
WHERE l._cdc_nth = 1 AND l._cdc_op <> 'D' AND (own._cdc_lsn IS NULL OR l._cdc_lsn > own._cdc_lsn OR (l._cdc_lsn = own._cdc_lsn AND l._cdc_seq > own._cdc_seq))
  AND (whole._cdc_lsn IS NULL OR l._cdc_lsn > whole._cdc_lsn OR (l._cdc_lsn = whole._cdc_lsn AND l._cdc_seq > whole._cdc_seq));

CREATE SCHEMA IF NOT EXISTS "public";

-- needs, once: CREATE STAGE tributary_lake URL = 's3://bucket/shop' STORAGE_INTEGRATION = …
CREATE EXTERNAL TABLE IF NOT EXISTS "public"."odd_1a2b3c4d_changes" (
  _cdc_op varchar AS (VALUE:"_cdc_op"::varchar),
  _cdc_lsn bigint AS (VALUE:"_cdc_lsn"::bigint),
  _cdc_seq bigint AS (VALUE:"_cdc_seq"::bigint),
  _cdc_commit_ts timestamp_ntz AS (VALUE:"_cdc_commit_ts"::timestamp_ntz),
  _cdc_xid bigint AS (VALUE:"_cdc_xid"::bigint),
  _cdc_relation varchar AS (VALUE:"_cdc_relation"::varchar),
  _cdc_unchanged array AS (VALUE:"_cdc_unchanged"::array),
  _cdc_raw object AS (VALUE:"_cdc_raw"::object),
  "a""b`c'd\" bigint AS (VALUE:"a""b`c'd\"::bigint),
  "it's \ `""" varchar AS (VALUE:"it's \ `"""::varchar),
  "cdc_date" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_date=([^/]*)/', 1, 1, 'e', 1)),
  "cdc_hour" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_hour=([^/]*)/', 1, 1, 'e', 1))
)
PARTITION BY ("cdc_date", "cdc_hour")
LOCATION = @tributary_lake/public/odd_1a2b3c4d/data/
AUTO_REFRESH = false
FILE_FORMAT = (TYPE = PARQUET);

-- again whenever there are new files, or AUTO_REFRESH = true with S3 event notifications
ALTER EXTERNAL TABLE "public"."odd_1a2b3c4d_changes" REFRESH;

CREATE OR REPLACE VIEW "public"."odd_1a2b3c4d" AS
WITH marks AS (
  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT CASE WHEN _cdc_relation IN ('public.od''d\\') THEN '*' ELSE _cdc_relation END AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY CASE WHEN _cdc_relation IN ('public.od''d\\') THEN '*' ELSE _cdc_relation END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
    FROM "public"."odd_1a2b3c4d_changes" WHERE _cdc_op = 'T'
  ) AS every WHERE nth = 1
),
changes AS (
  SELECT c."a""b`c'd\",
    c."it's \ `""",
    c._cdc_op,
    c._cdc_lsn,
    c._cdc_seq,
    c._cdc_commit_ts,
    c._cdc_relation,
    c._cdc_raw,
    CASE WHEN c._cdc_op = 'D' OR coalesce(array_contains('it''s \\ `"'::variant, c._cdc_unchanged), false) THEN 0 ELSE 1 END AS _cdc_has_0
  FROM "public"."odd_1a2b3c4d_changes" AS c WHERE c._cdc_op <> 'T'
),
numbered AS (
  SELECT changes.*,
    row_number() OVER (PARTITION BY "a""b`c'd\" ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth,
    sum(CASE WHEN _cdc_op IN ('I', 'R') THEN 1 ELSE 0 END) OVER (PARTITION BY "a""b`c'd\" ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_life,
    sum(CASE WHEN _cdc_has_0 > 0 OR _cdc_op IN ('I', 'R') THEN 1 ELSE 0 END) OVER (PARTITION BY "a""b`c'd\" ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_run_0
  FROM changes
),
filled AS (
  SELECT numbered.*,
    first_value(_cdc_lsn) OVER (PARTITION BY "a""b`c'd\", _cdc_life ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_born_lsn,
    first_value(_cdc_seq) OVER (PARTITION BY "a""b`c'd\", _cdc_life ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_born_seq,
    first_value(_cdc_op) OVER (PARTITION BY "a""b`c'd\", _cdc_life ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_born_op,
    first_value("it's \ `""") OVER (PARTITION BY "a""b`c'd\", _cdc_run_0 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_value_0,
    first_value(_cdc_has_0) OVER (PARTITION BY "a""b`c'd\", _cdc_run_0 ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS _cdc_known_0
  FROM numbered
)
SELECT l."a""b`c'd\",
  CASE WHEN l._cdc_known_0 > 0 THEN l._cdc_value_0 WHEN o._cdc_known_0 > 0 THEN o._cdc_value_0 WHEN p._cdc_known_0 > 0 THEN p._cdc_value_0 END AS "it's \ `""",
  l._cdc_op,
  l._cdc_lsn,
  l._cdc_seq,
  l._cdc_commit_ts,
  l._cdc_relation,
  l._cdc_raw,
  nullif(CASE WHEN coalesce(l._cdc_known_0, 0) = 0 AND coalesce(o._cdc_known_0, 0) = 0 AND coalesce(p._cdc_known_0, 0) = 0 THEN 'it''s \\ `" ' ELSE '' END, '') AS _cdc_unresolved
FROM filled AS l
LEFT JOIN filled AS o ON o._cdc_op = 'D' AND l._cdc_born_op = 'I' AND o._cdc_lsn = l._cdc_born_lsn AND o._cdc_seq = l._cdc_born_seq - 1
LEFT JOIN filled AS p ON p._cdc_op = 'D' AND o._cdc_born_op = 'I' AND p._cdc_lsn = o._cdc_born_lsn AND p._cdc_seq = o._cdc_born_seq - 1
LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'
WHERE l._cdc_nth = 1 AND l._cdc_op <> 'D' AND (own._cdc_lsn IS NULL OR l._cdc_lsn > own._cdc_lsn OR (l._cdc_lsn = own._cdc_lsn AND l._cdc_seq > own._cdc_seq))
  AND (whole._cdc_lsn IS NULL OR l._cdc_lsn > whole._cdc_lsn OR (l._cdc_lsn = whole._cdc_lsn AND l._cdc_seq > whole._cdc_seq));

CREATE SCHEMA IF NOT EXISTS "public";

-- needs, once: CREATE STAGE tributary_lake URL = 's3://bucket/shop' STORAGE_INTEGRATION = …
CREATE EXTERNAL TABLE IF NOT EXISTS "public"."orders_changes_changes" (
  _cdc_op varchar AS (VALUE:"_cdc_op"::varchar),
  _cdc_lsn bigint AS (VALUE:"_cdc_lsn"::bigint),
  _cdc_seq bigint AS (VALUE:"_cdc_seq"::bigint),
  _cdc_commit_ts timestamp_ntz AS (VALUE:"_cdc_commit_ts"::timestamp_ntz),
  _cdc_xid bigint AS (VALUE:"_cdc_xid"::bigint),
  _cdc_relation varchar AS (VALUE:"_cdc_relation"::varchar),
  _cdc_unchanged array AS (VALUE:"_cdc_unchanged"::array),
  _cdc_raw object AS (VALUE:"_cdc_raw"::object),
  "id" bigint AS (VALUE:"id"::bigint),
  "cdc_date" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_date=([^/]*)/', 1, 1, 'e', 1)),
  "cdc_hour" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_hour=([^/]*)/', 1, 1, 'e', 1))
)
PARTITION BY ("cdc_date", "cdc_hour")
LOCATION = @tributary_lake/public/orders_changes/data/
AUTO_REFRESH = false
FILE_FORMAT = (TYPE = PARQUET);

-- again whenever there are new files, or AUTO_REFRESH = true with S3 event notifications
ALTER EXTERNAL TABLE "public"."orders_changes_changes" REFRESH;

CREATE OR REPLACE VIEW "public"."orders_changes" AS
WITH marks AS (
  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT CASE WHEN _cdc_relation IN ('public.orders_changes') THEN '*' ELSE _cdc_relation END AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY CASE WHEN _cdc_relation IN ('public.orders_changes') THEN '*' ELSE _cdc_relation END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
    FROM "public"."orders_changes_changes" WHERE _cdc_op = 'T'
  ) AS every WHERE nth = 1
),
changes AS (
  SELECT c."id",
    c._cdc_op,
    c._cdc_lsn,
    c._cdc_seq,
    c._cdc_commit_ts,
    c._cdc_relation,
    c._cdc_raw
  FROM "public"."orders_changes_changes" AS c WHERE c._cdc_op <> 'T'
),
numbered AS (
  SELECT changes.*,
    row_number() OVER (PARTITION BY "id" ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth
  FROM changes
)
SELECT l."id",
  l._cdc_op,
  l._cdc_lsn,
  l._cdc_seq,
  l._cdc_commit_ts,
  l._cdc_relation,
  l._cdc_raw
FROM numbered AS l
LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'
WHERE l._cdc_nth = 1 AND l._cdc_op <> 'D' AND (own._cdc_lsn IS NULL OR l._cdc_lsn > own._cdc_lsn OR (l._cdc_lsn = own._cdc_lsn AND l._cdc_seq > own._cdc_seq))
  AND (whole._cdc_lsn IS NULL OR l._cdc_lsn > whole._cdc_lsn OR (l._cdc_lsn = whole._cdc_lsn AND l._cdc_seq > whole._cdc_seq));

CREATE SCHEMA IF NOT EXISTS "public";

-- needs, once: CREATE STAGE tributary_lake URL = 's3://bucket/shop' STORAGE_INTEGRATION = …
CREATE EXTERNAL TABLE IF NOT EXISTS "public"."spans_changes" (
  _cdc_op varchar AS (VALUE:"_cdc_op"::varchar),
  _cdc_lsn bigint AS (VALUE:"_cdc_lsn"::bigint),
  _cdc_seq bigint AS (VALUE:"_cdc_seq"::bigint),
  _cdc_commit_ts timestamp_ntz AS (VALUE:"_cdc_commit_ts"::timestamp_ntz),
  _cdc_xid bigint AS (VALUE:"_cdc_xid"::bigint),
  _cdc_relation varchar AS (VALUE:"_cdc_relation"::varchar),
  _cdc_unchanged array AS (VALUE:"_cdc_unchanged"::array),
  _cdc_raw object AS (VALUE:"_cdc_raw"::object),
  "n" integer AS (VALUE:"n"::integer),
  "until" timestamp_ntz AS (VALUE:"until"::timestamp_ntz),
  "steps" array AS (VALUE:"steps"::array),
  "tags" array AS (VALUE:"tags"::array),
  "cdc_date" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_date=([^/]*)/', 1, 1, 'e', 1)),
  "cdc_hour" varchar AS (regexp_substr(METADATA$FILENAME, 'cdc_hour=([^/]*)/', 1, 1, 'e', 1))
)
PARTITION BY ("cdc_date", "cdc_hour")
LOCATION = @tributary_lake/public/spans/data/
AUTO_REFRESH = false
FILE_FORMAT = (TYPE = PARQUET);

-- again whenever there are new files, or AUTO_REFRESH = true with S3 event notifications
ALTER EXTERNAL TABLE "public"."spans_changes" REFRESH;

CREATE OR REPLACE VIEW "public"."spans" AS
WITH marks AS (
  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT CASE WHEN _cdc_relation IN ('public.spans') THEN '*' ELSE _cdc_relation END AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY CASE WHEN _cdc_relation IN ('public.spans') THEN '*' ELSE _cdc_relation END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
    FROM "public"."spans_changes" WHERE _cdc_op = 'T'
  ) AS every WHERE nth = 1
),
changes AS (
  SELECT c."n",
    c."until",
    c."steps",
    c."tags",
    c._cdc_op,
    c._cdc_lsn,
    c._cdc_seq,
    c._cdc_commit_ts,
    c._cdc_relation,
    c._cdc_raw,
    c._cdc_raw['until']::varchar AS _cdc_exact_0,
    c._cdc_raw['steps']::varchar AS _cdc_exact_1
  FROM "public"."spans_changes" AS c WHERE c._cdc_op <> 'T'
),
living AS (
  SELECT l.*
  FROM changes AS l
  LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'
  WHERE (own._cdc_lsn IS NULL OR l._cdc_lsn > own._cdc_lsn OR (l._cdc_lsn = own._cdc_lsn AND l._cdc_seq > own._cdc_seq))
  AND (whole._cdc_lsn IS NULL OR l._cdc_lsn > whole._cdc_lsn OR (l._cdc_lsn = whole._cdc_lsn AND l._cdc_seq > whole._cdc_seq))
),
counted AS (
  SELECT living.*,
    row_number() OVER (PARTITION BY "n", "until", "steps", "tags", _cdc_exact_0, _cdc_exact_1, CASE WHEN _cdc_op = 'D' THEN 1 ELSE 0 END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth,
    sum(CASE WHEN _cdc_op = 'D' THEN -1 ELSE 1 END) OVER (PARTITION BY "n", "until", "steps", "tags", _cdc_exact_0, _cdc_exact_1) AS _cdc_count
  FROM living
)
SELECT "n", "until", "steps", "tags",
  _cdc_op, _cdc_lsn, _cdc_seq, _cdc_commit_ts, _cdc_relation, _cdc_raw
FROM counted
WHERE _cdc_op <> 'D' AND _cdc_nth <= _cdc_count;

