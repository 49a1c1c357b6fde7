#!/usr/bin/env bash
# Builds a server with very many tables, once; `measure.py` runs against it as often as wanted.
#
#   build.sh leaves 20000 FOLDER    five parents of 20,000 leaves each: four LIST by tenant, one RANGE by month and LIST below it.
#                                   Postgres needs half an hour for 20,000 leaves right below a parent; LEVELS=2 puts RANGE between.
#   build.sh tables 200000 FOLDER   200,000 plain tables in one schema
#
# MAJOR (18), PORT (6600), JOBS (all cores) and BIN, the folder of initdb and pg_ctl, come from the environment.
set -euo pipefail
shape=$1 count=$2 folder=$3
major=${MAJOR:-18} port=${PORT:-6600} jobs=${JOBS:-$(nproc)}
bin=${BIN:-/var/cache/tributary/pg/$major/bin}
as_server() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
sql() { psql -X -h 127.0.0.1 -p "$port" -U postgres -d postgres -qAt -v ON_ERROR_STOP=1 "$@"; }

mkdir -p "$folder"
[ "$(id -u)" != 0 ] || chown postgres "$folder"
as_server "$bin/initdb" -D "$folder" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
cat >> "$folder/postgresql.conf" <<CONF
port = $port
unix_socket_directories = '/tmp'
wal_level = logical
fsync = off
synchronous_commit = off
autovacuum = off
max_wal_size = 8GB
shared_buffers = 512MB
log_min_messages = warning
CONF
as_server "$bin/pg_ctl" -D "$folder" -l "$folder/server.log" -w start >/dev/null

# A statement for every number below $count, in transactions of 250, by all jobs at once.
each() {
    local statement=$1
    for job in $(seq 0 $((jobs - 1))); do
        sql -c "DO \$\$ DECLARE n int; BEGIN
            FOR n IN 0 .. $count - 1 LOOP
                IF (n / 250) % $jobs = $job THEN
                    EXECUTE $statement;
                    IF n % 250 = 249 THEN COMMIT; END IF;
                END IF;
            END LOOP; END \$\$" &
    done
    wait
}

case $shape in
leaves)
    for parent in 1 2 3 4; do
        columns="(id bigint, tenant int, v text, PRIMARY KEY (id, tenant))"
        if [ "${LEVELS:-1}" = 2 ]; then
            sql -c "CREATE TABLE parent_$parent $columns PARTITION BY RANGE (tenant)"
            for part in $(seq 0 $(((count - 1) / 1000))); do
                sql -c "CREATE TABLE parent_${parent}_p$part PARTITION OF parent_$parent FOR VALUES FROM ($((part * 1000))) TO ($((part * 1000 + 1000))) PARTITION BY LIST (tenant)"
            done
            each "format('CREATE TABLE parent_${parent}_%s PARTITION OF parent_${parent}_p%s FOR VALUES IN (%s)', n, n / 1000, n)"
            continue
        fi
        sql -c "CREATE TABLE parent_$parent $columns PARTITION BY LIST (tenant)"
        each "format('CREATE TABLE parent_${parent}_%s PARTITION OF parent_$parent FOR VALUES IN (%s)', n, n)"
    done
    # 1,000 tenants a month.
    sql -c "CREATE TABLE parent_5 (id bigint, tenant int, at date, v text, PRIMARY KEY (id, tenant, at)) PARTITION BY RANGE (at)"
    for month in $(seq 0 $(((count - 1) / 1000))); do
        sql -c "DO \$\$ BEGIN EXECUTE format('CREATE TABLE parent_5_m$month PARTITION OF parent_5 FOR VALUES FROM (%L) TO (%L) PARTITION BY LIST (tenant)',
            date '2020-01-01' + interval '$month months', date '2020-01-01' + interval '$((month + 1)) months'); END \$\$"
    done
    each "format('CREATE TABLE parent_5_%s PARTITION OF parent_5_m%s FOR VALUES IN (%s)', n, n / 1000, n % 1000)"
    sql -c "CREATE TABLE alone (id bigint PRIMARY KEY, tenant int, v text)"
    sql -c "CREATE PUBLICATION tributary FOR TABLE parent_1, parent_2, parent_3, parent_4, parent_5, alone"
    ;;
tables)
    each "format('CREATE TABLE t_%s (id bigint PRIMARY KEY, at timestamptz, n int)', n)"
    sql -c "CREATE PUBLICATION tributary FOR ALL TABLES"
    ;;
*)
    echo "what is $shape?" >&2
    exit 2
    ;;
esac
sql -c "VACUUM ANALYZE pg_class, pg_attribute, pg_inherits, pg_index, pg_constraint, pg_depend" -c "CHECKPOINT"
as_server "$bin/pg_ctl" -D "$folder" -m fast -w stop >/dev/null
