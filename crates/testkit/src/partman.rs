//! pg_partman, which makes, splits and removes partitions.
//!
//! Owns: its functions in a database: those of the package that `scripts/test-servers.sh` unpacks, or a few that run the statements it documents.
//! Does not: run its background worker; whoever tests calls the maintenance.
//! Holds: both are called alike. Nothing is written to the server's installation, so that any version can have them.
//! Fails: on a script that the server does not take.

use std::fs;

use anyhow::{Context as _, Result};

use crate::place;
use crate::postgres::Cluster;

/// Whose functions they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partman {
    /// The package's.
    Package,
    /// Ours. They fill a partition before it is attached, where the package's attach it first.
    Statements,
}

/// Makes schema `partman`. Without the package these are our own functions, which is what is returned then.
pub async fn install(cluster: &Cluster, wanted: Partman) -> Result<Partman> {
    let path = place::cache()?.join(SCRIPT);
    if wanted == Partman::Statements || !path.is_file() {
        cluster.execute(STATEMENTS).await?;
        return Ok(Partman::Statements);
    }
    let script = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    // `CREATE EXTENSION` would name the schema, and let pg_dump know of the tables.
    let lines = script.lines().filter(|line| !line.contains("pg_extension_config_dump"));
    let script = lines.collect::<Vec<_>>().join("\n").replace("@extschema@", "partman");
    cluster.execute(&format!("create schema partman; set search_path = partman, public; {script}")).await?;
    Ok(Partman::Package)
}

const SCRIPT: &str = "partman/pg_partman--4.7.2.sql";

/// A partition has a number: that of its day, or how many intervals of ids are before it.
const STATEMENTS: &str = "
create schema partman;
create table partman.part_config (
    parent_table text primary key, control text not null, is_time boolean not null, partition_interval text not null, premake int not null,
    template_table text, retention text, retention_keep_table boolean not null default true, ignore_default_data boolean not null default false,
    undo_in_progress boolean not null default false
);
create table partman.children (parent_table text, number bigint, primary key (parent_table, number));

create function partman.number(config partman.part_config, value text) returns bigint language sql stable return
    case when (config).is_time then floor(extract(epoch from value::timestamptz) / 86400)
    else floor(value::numeric / (config).partition_interval::numeric) end;
create function partman.bound(config partman.part_config, number bigint) returns text language sql stable return
    case when (config).is_time then to_timestamp(number * 86400)::text else (number * (config).partition_interval::bigint)::text end;
create function partman.child(config partman.part_config, number bigint) returns text language sql stable return
    (config).parent_table || '_p' ||
    case when (config).is_time then to_char(to_timestamp(number * 86400), 'YYYY_MM_DD') else partman.bound(config, number) end;

create procedure partman.make(child text, config partman.part_config) language plpgsql as $$
declare
    definition text;
begin
    execute format('create table %s (like %s including defaults including constraints including storage including comments including generated)',
        child, config.parent_table);
    -- What the parent cannot have: keys without the column that partitions it.
    for definition in select pg_get_indexdef(indexrelid) from pg_index where indrelid = to_regclass(config.template_table) loop
        execute regexp_replace(definition, ' INDEX .* USING ', ' INDEX ON ' || child || ' USING ');
    end loop;
end $$;

create procedure partman.attach(config partman.part_config, n bigint) language plpgsql as $$
begin
    execute format('alter table %s attach partition %s for values from (%L) to (%L)',
        config.parent_table, partman.child(config, n), partman.bound(config, n), partman.bound(config, n + 1));
    insert into partman.children values (config.parent_table, n);
end $$;

create procedure partman.premake(config partman.part_config, first bigint, last bigint) language plpgsql as $$
begin
    for n in first..last loop
        if to_regclass(partman.child(config, n)) is null then
            call partman.make(partman.child(config, n), config);
            call partman.attach(config, n);
        end if;
    end loop;
end $$;

create function partman.create_parent(
    p_parent_table text, p_control text, p_type text, p_interval text, p_premake int default 4, p_template_table text default null
) returns boolean language plpgsql as $$
declare
    is_time boolean := p_interval = 'daily';
    config partman.part_config;
    now_in bigint;
begin
    insert into partman.part_config (parent_table, control, is_time, partition_interval, premake, template_table)
        values (p_parent_table, p_control, is_time, p_interval, p_premake, p_template_table) returning * into config;
    now_in := partman.number(config, case when is_time then now()::text else '0' end);
    call partman.premake(config, case when is_time then now_in - p_premake else now_in end, now_in + p_premake);
    call partman.make(p_parent_table || '_default', config);
    execute format('alter table %s attach partition %1$s_default default', p_parent_table);
    return true;
end $$;

create procedure partman.run_maintenance_proc() language plpgsql as $$
declare
    config partman.part_config;
    highest text;
    kept bigint;
    n bigint;
begin
    for config in select * from partman.part_config where not undo_in_progress loop
        execute format('select max(%I)::text from %s where tableoid <> %L::regclass',
            config.control, config.parent_table, config.parent_table || '_default') into highest;
        kept := partman.number(config, case when config.is_time then (now() - config.retention::interval)::text
            else (highest::bigint - config.retention::bigint)::text end);
        for n in delete from partman.children where parent_table = config.parent_table and number < kept returning number loop
            if config.retention_keep_table then
                execute format('alter table %s detach partition %s', config.parent_table, partman.child(config, n));
            else
                execute format('drop table %s', partman.child(config, n));
            end if;
        end loop;
        select max(number) into n from partman.children where parent_table = config.parent_table;
        call partman.premake(config, n + 1, partman.number(config, highest) + config.premake);
        commit;
    end loop;
end $$;

create procedure partman.partition_data_proc(p_parent_table text, p_wait int default 1) language plpgsql as $$
declare
    config partman.part_config;
    lowest text;
    n bigint;
    is_new boolean;
begin
    select * into config from partman.part_config where parent_table = p_parent_table;
    loop
        execute format('select min(%I)::text from %s_default', config.control, p_parent_table) into lowest;
        exit when lowest is null;
        n := partman.number(config, lowest);
        is_new := to_regclass(partman.child(config, n)) is null;
        if is_new then
            call partman.make(partman.child(config, n), config);
        end if;
        execute format('with moved as (delete from %1$s_default where %2$I >= %3$L and %2$I < %4$L returning *) insert into %5$s select * from moved',
            p_parent_table, config.control, partman.bound(config, n), partman.bound(config, n + 1), partman.child(config, n));
        if is_new then
            call partman.attach(config, n);
        end if;
        commit;
    end loop;
end $$;

create function partman.undo_partition(p_parent_table text, p_keep_table boolean default true, p_target_table text default null) returns void
language plpgsql as $$
declare
    config partman.part_config;
    child text;
begin
    update partman.part_config set undo_in_progress = true where parent_table = p_parent_table returning * into config;
    foreach child in array array[
        p_parent_table || '_default', (select partman.child(config, min(number)) from partman.children where parent_table = p_parent_table)
    ] loop
        execute format('with moved as (delete from %s returning *) insert into %s select * from moved', child, p_target_table);
        execute format('alter table %s detach partition %s', p_parent_table, child);
        if not p_keep_table then
            execute format('drop table %s', child);
        end if;
    end loop;
end $$;
";
