CREATE SCHEMA IF NOT EXISTS "public";

-- without hour: this engine does not read it as time; `types.columns` gives it another form
-- in the catalog of the Hive connector, with hive.timestamp-precision=MICROSECONDS, hive.non-managed-table-writes-enabled=true
CREATE TABLE IF NOT EXISTS "public"."orders_changes_of" (
  "_cdc_op" varchar,
  "_cdc_lsn" bigint,
  "_cdc_seq" bigint,
  "_cdc_commit_ts" timestamp(6),
  "_cdc_xid" bigint,
  "_cdc_relation" varchar,
  "_cdc_unchanged" array(varchar),
  "_cdc_raw" map(varchar, varchar),
  "_cdc_before" map(varchar, varchar),
  "id" bigint,
  "day" date,
  "d'ay" date,
  "doc" varchar,
  "note" varchar,
  "remark" varchar,
  "price" decimal(10,2),
  "gone" integer,
  "at" timestamp(6),
  "wall" timestamp(6),
  "flag" boolean,
  "half" real,
  "raw" varbinary,
  "ident" varbinary,
  "sixteen" varbinary,
  "doc_json" varchar,
  "tags" array(varchar),
  "attributes" map(varchar, varchar),
  "place" row("x" double, "y" double),
  "cdc_date" varchar,
  "cdc_hour" varchar
)
WITH (
  external_location = 's3://bucket/shop/public/orders/data/',
  format = 'PARQUET',
  partitioned_by = ARRAY['cdc_date', 'cdc_hour']
);

-- again whenever there are new folders: every hour
CALL system.sync_partition_metadata('public', 'orders_changes_of', 'FULL');

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
    coalesce(element_at(c._cdc_raw, 'day'), element_at(c._cdc_raw, 'd''ay')) AS _cdc_exact_0,
    CASE WHEN c._cdc_op = 'D' OR coalesce(contains(c._cdc_unchanged, 'doc'), false) THEN 0 ELSE 1 END AS _cdc_has_0,
    CASE WHEN c._cdc_op = 'D' OR coalesce(contains(c._cdc_unchanged, 'note'), false) OR coalesce(contains(c._cdc_unchanged, 'remark'), false) THEN 0 ELSE 1 END AS _cdc_has_1
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

-- in the catalog of the Hive connector, with hive.timestamp-precision=MICROSECONDS, hive.non-managed-table-writes-enabled=true
CREATE TABLE IF NOT EXISTS "public"."ledger_changes" (
  "_cdc_op" varchar,
  "_cdc_lsn" bigint,
  "_cdc_seq" bigint,
  "_cdc_commit_ts" timestamp(6),
  "_cdc_xid" bigint,
  "_cdc_relation" varchar,
  "_cdc_unchanged" array(varchar),
  "_cdc_raw" map(varchar, varchar),
  "account" integer,
  "entry" varchar,
  "cdc_date" varchar,
  "cdc_hour" varchar
)
WITH (
  external_location = 's3://bucket/shop/public/ledger/data/',
  format = 'PARQUET',
  partitioned_by = ARRAY['cdc_date', 'cdc_hour']
);

-- again whenever there are new folders: every hour
CALL system.sync_partition_metadata('public', 'ledger_changes', 'FULL');

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

-- in the catalog of the Hive connector, with hive.timestamp-precision=MICROSECONDS, hive.non-managed-table-writes-enabled=true
CREATE TABLE IF NOT EXISTS "public"."events_changes" (
  "_cdc_op" varchar,
  "_cdc_lsn" bigint,
  "_cdc_seq" bigint,
  "_cdc_commit_ts" timestamp(6),
  "_cdc_xid" bigint,
  "_cdc_relation" varchar,
  "_cdc_unchanged" array(varchar),
  "_cdc_raw" map(varchar, varchar),
  "id" bigint,
  "kind" varchar,
  "created_at_day" varchar,
  "tenant_bucket" varchar
)
WITH (
  external_location = 's3://bucket/shop/public/events/data/',
  format = 'PARQUET',
  partitioned_by = ARRAY['created_at_day', 'tenant_bucket']
);

-- again whenever there are new folders: every hour
CALL system.sync_partition_metadata('public', 'events_changes', 'FULL');

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

-- in the catalog of the Hive connector, with hive.timestamp-precision=MICROSECONDS, hive.non-managed-table-writes-enabled=true
CREATE TABLE IF NOT EXISTS "public"."odd_1a2b3c4d_changes" (
  "_cdc_op" varchar,
  "_cdc_lsn" bigint,
  "_cdc_seq" bigint,
  "_cdc_commit_ts" timestamp(6),
  "_cdc_xid" bigint,
  "_cdc_relation" varchar,
  "_cdc_unchanged" array(varchar),
  "_cdc_raw" map(varchar, varchar),
  "a""b`c'd\" bigint,
  "it's \ `""" varchar,
  "cdc_date" varchar,
  "cdc_hour" varchar
)
WITH (
  external_location = 's3://bucket/shop/public/odd_1a2b3c4d/data/',
  format = 'PARQUET',
  partitioned_by = ARRAY['cdc_date', 'cdc_hour']
);

-- again whenever there are new folders: every hour
CALL system.sync_partition_metadata('public', 'odd_1a2b3c4d_changes', 'FULL');

CREATE OR REPLACE VIEW "public"."odd_1a2b3c4d" AS
WITH marks AS (
  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT CASE WHEN _cdc_relation IN ('public.od''d\') THEN '*' ELSE _cdc_relation END AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY CASE WHEN _cdc_relation IN ('public.od''d\') THEN '*' ELSE _cdc_relation END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
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
    CASE WHEN c._cdc_op = 'D' OR coalesce(contains(c._cdc_unchanged, 'it''s \ `"'), false) THEN 0 ELSE 1 END AS _cdc_has_0
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
  nullif(CASE WHEN coalesce(l._cdc_known_0, 0) = 0 AND coalesce(o._cdc_known_0, 0) = 0 AND coalesce(p._cdc_known_0, 0) = 0 THEN 'it''s \ `" ' ELSE '' END, '') AS _cdc_unresolved
FROM filled AS l
LEFT JOIN filled AS o ON o._cdc_op = 'D' AND l._cdc_born_op = 'I' AND o._cdc_lsn = l._cdc_born_lsn AND o._cdc_seq = l._cdc_born_seq - 1
LEFT JOIN filled AS p ON p._cdc_op = 'D' AND o._cdc_born_op = 'I' AND p._cdc_lsn = o._cdc_born_lsn AND p._cdc_seq = o._cdc_born_seq - 1
LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'
WHERE l._cdc_nth = 1 AND l._cdc_op <> 'D' AND (own._cdc_lsn IS NULL OR l._cdc_lsn > own._cdc_lsn OR (l._cdc_lsn = own._cdc_lsn AND l._cdc_seq > own._cdc_seq))
  AND (whole._cdc_lsn IS NULL OR l._cdc_lsn > whole._cdc_lsn OR (l._cdc_lsn = whole._cdc_lsn AND l._cdc_seq > whole._cdc_seq));

CREATE SCHEMA IF NOT EXISTS "public";

-- in the catalog of the Hive connector, with hive.timestamp-precision=MICROSECONDS, hive.non-managed-table-writes-enabled=true
CREATE TABLE IF NOT EXISTS "public"."orders_changes_changes" (
  "_cdc_op" varchar,
  "_cdc_lsn" bigint,
  "_cdc_seq" bigint,
  "_cdc_commit_ts" timestamp(6),
  "_cdc_xid" bigint,
  "_cdc_relation" varchar,
  "_cdc_unchanged" array(varchar),
  "_cdc_raw" map(varchar, varchar),
  "id" bigint,
  "cdc_date" varchar,
  "cdc_hour" varchar
)
WITH (
  external_location = 's3://bucket/shop/public/orders_changes/data/',
  format = 'PARQUET',
  partitioned_by = ARRAY['cdc_date', 'cdc_hour']
);

-- again whenever there are new folders: every hour
CALL system.sync_partition_metadata('public', 'orders_changes_changes', 'FULL');

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

-- in the catalog of the Hive connector, with hive.timestamp-precision=MICROSECONDS, hive.non-managed-table-writes-enabled=true
CREATE TABLE IF NOT EXISTS "public"."spans_changes" (
  "_cdc_op" varchar,
  "_cdc_lsn" bigint,
  "_cdc_seq" bigint,
  "_cdc_commit_ts" timestamp(6),
  "_cdc_xid" bigint,
  "_cdc_relation" varchar,
  "_cdc_unchanged" array(varchar),
  "_cdc_raw" map(varchar, varchar),
  "n" integer,
  "until" timestamp(6),
  "steps" array(timestamp(6)),
  "tags" array(map(varchar, varchar)),
  "cdc_date" varchar,
  "cdc_hour" varchar
)
WITH (
  external_location = 's3://bucket/shop/public/spans/data/',
  format = 'PARQUET',
  partitioned_by = ARRAY['cdc_date', 'cdc_hour']
);

-- again whenever there are new folders: every hour
CALL system.sync_partition_metadata('public', 'spans_changes', 'FULL');

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
    element_at(c._cdc_raw, 'until') AS _cdc_exact_0,
    element_at(c._cdc_raw, 'steps') AS _cdc_exact_1
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

