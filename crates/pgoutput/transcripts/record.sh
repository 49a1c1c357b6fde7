#!/bin/sh
# Records what a real Postgres sends, for the test `transcripts_of_real_servers_decode`.
#
#   PGHOST=… PGUSER=postgres ./record.sh > postgres-15.txt
#
# The server needs wal_level=logical, max_prepared_transactions > 0, and logical_decoding_work_mem=64kB, so that a
# small transaction is streamed. A database `transcript` is made and dropped; nothing else is touched.
set -eu

sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 -d "${1}"; }

echo 'create database transcript' | sql postgres
trap 'echo "drop database transcript with (force)" | sql postgres' EXIT

sql transcript > /dev/null <<'SQL'
create schema shop;
create type shop.mood as enum ('sad', 'glad');
create domain shop.price as numeric(10,2);
create table shop.orders (id bigint primary key, note text, at timestamptz, amount shop.price, mood shop.mood, tags text[]);
alter table shop.orders alter note set storage external;
create table shop.audit (id int, body text);
alter table shop.audit replica identity full;
create table shop.nothing ();
create table shop."we/ird ""q"" Ünï" (" " int primary key) ;
create publication transcript for all tables;
select pg_create_logical_replication_slot('transcript_plain', 'pgoutput');
select pg_create_logical_replication_slot('transcript_stream', 'pgoutput');
select pg_create_logical_replication_slot('transcript_two_phase', 'pgoutput', false, true);
insert into shop.orders values (1, repeat('x', 3000), '2026-08-01 00:59:59+00', 12.50, 'glad', '{a,NULL,"b c"}'), (2, null, 'infinity', 'NaN', null, '{}');
update shop.orders set amount = 13 where id = 1;
update shop.orders set id = 3 where id = 2;
delete from shop.orders where id = 3;
insert into shop.audit values (1, 'a'), (2, null);
update shop.audit set body = 'b' where id = 1;
delete from shop.audit;
insert into shop.nothing default values;
insert into shop."we/ird ""q"" Ünï" values (1);
alter table shop.orders add column extra jsonb;
insert into shop.orders (id, extra) values (4, '{"k": "\u20ac"}');
truncate shop.orders, shop.audit restart identity cascade;
select pg_logical_emit_message(false, 'outside', 'at once'), pg_logical_emit_message(true, 'inside', '');
select pg_replication_origin_create('transcript_origin');
select pg_replication_origin_session_setup('transcript_origin');
begin;
select pg_replication_origin_xact_setup('0/ABCDEF', '2026-08-01 00:00:00+00');
insert into shop.audit values (3, 'from elsewhere');
commit;
select pg_replication_origin_session_reset();
select pg_replication_origin_drop('transcript_origin');
begin;
insert into shop.audit select i, 'big' from generate_series(1, 600) i;
savepoint undone;
insert into shop.orders (id) select i from generate_series(1, 600) i;
rollback to undone;
select pg_logical_emit_message(true, 'in a block', 'x');
truncate shop.nothing;
update shop.audit set body = 'bigger' where id < 400;
delete from shop.audit where id < 400;
commit;
begin;
insert into shop.audit select i, 'never' from generate_series(1, 1000) i;
rollback;
begin;
insert into shop.audit values (4, 'two-phase');
prepare transaction 'gid 1';
commit prepared 'gid 1';
begin;
insert into shop.audit values (5, 'two-phase');
prepare transaction 'gid 2';
rollback prepared 'gid 2';
begin;
insert into shop.audit select i, 'prepared' from generate_series(1, 600) i;
prepare transaction 'gid 3';
commit prepared 'gid 3';
SQL

echo "# $(echo "select version()" | sql postgres)"
echo '# One frame a line; of a run of more than four frames with one tag only the first four are kept.'

# peek SLOT VERSION OPTIONS
peek() {
    echo "! ${2}"
    sql transcript <<SQL | awk '{ tag = substr($1, 1, 2); run = tag == last ? run + 1 : 1; last = tag } run <= 4'
select encode(data, 'hex') from pg_logical_slot_peek_binary_changes('${1}', null, null, 'proto_version', '${2}', 'publication_names', 'transcript', 'messages', 'true'${3});
SQL
    echo "select pg_drop_replication_slot('${1}')" | sql transcript > /dev/null
}
peek transcript_plain 1 ''
peek transcript_stream 2 ", 'streaming', 'on', 'binary', 'true'"
peek transcript_two_phase 3 ", 'streaming', 'on', 'two_phase', 'on'"
