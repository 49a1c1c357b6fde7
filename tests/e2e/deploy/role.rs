//! The daemon as the role of `deploy/postgres/role.sql`.
//!
//! Owns: what that role can do, and what it cannot.
//! Does not: look at other providers' ways to allow replication.
//! Holds: setup, check, snapshot, stream and resync need no more.
//! Fails: with what Postgres refused, or did not.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::Settings;
use testkit::postgres::DATABASE;
use testkit::wait::seconds;
use testkit::{Cluster, Pipeline, place, scenario};

use crate::{rig, snapshot};

#[test]
fn the_role_of_the_script_is_enough_14() -> Result<()> {
    the_role_is_enough(14)
}

#[test]
fn the_role_of_the_script_is_enough_18() -> Result<()> {
    the_role_is_enough(18)
}

fn the_role_is_enough(version: u32) -> Result<()> {
    scenario(seconds(150), async |stage| {
        let cluster = Cluster::start(stage, version, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster
            .execute(
                "create table plain (id int primary key, v text); insert into plain select g, 'v' from generate_series(1, 500) g;
                 create table parts (id int primary key, v text) partition by range (id);
                 create table parts_1 partition of parts for values from (0) to (100);
                 insert into parts select g, 'v' from generate_series(1, 99) g;
                 create schema hidden; create table hidden.secrets (id int primary key)",
            )
            .await?;
        let script = fs::read_to_string(place::repository()?.join("deploy/postgres/role.sql"))?;
        cluster.execute(&script).await.context("role.sql")?;
        let settings = Settings {
            source: cluster.url(DATABASE).replace("postgres@", "tributary@"),
            snapshot: "initial",
            exclude: vec!["hidden.*".to_owned()],
            ..Settings::new(String::new(), rig::directory(stage))
        };
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        pipeline.setup().await?;
        pipeline.run(&["check"]).await?.success()?;
        let daemon = pipeline.start_streaming().await?;
        snapshot::wait_until_read(&daemon, seconds(60)).await?;
        // Made after the script, by whoever ran it.
        cluster
            .execute(
                "create table parts_2 partition of parts for values from (100) to (200); insert into parts values (150, 'w');
                 create table later (id int primary key); insert into later select generate_series(1, 10);
                 update plain set v = 'u' where id < 10; delete from plain where id > 490",
            )
            .await?;
        pipeline.run(&["resync", "public.plain"]).await?.success()?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &["--exclude", "hidden.secrets"]).await?;
        let attributes = "select rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or rolinherit from pg_roles where rolname = 'tributary'";
        ensure!(cluster.value(attributes).await?.as_deref() == Some("f"), "the role can do more");
        for refused in [
            "insert into plain values (1000, 'x')",
            "update plain set v = 'x'",
            "truncate parts",
            "create table mine (id int)",
            "create schema mine",
            "drop publication tributary",
            "select * from hidden.secrets",
            "select pg_read_file('PG_VERSION')",
        ] {
            // Before 15 everybody may create in `public`.
            if refused == "create table mine (id int)" && version < 15 {
                continue;
            }
            let tried = cluster.execute(&format!("set role tributary; {refused}")).await;
            let error = format!("{:?}", tried.err().with_context(|| format!("it may {refused}"))?);
            ensure!(
                error.contains("permission denied") || error.contains("must be owner"),
                "{refused}: {error}"
            );
        }
        pipeline.run(&["teardown", "--yes"]).await?.success()?;
        pipeline.refuse_unexpected_lines(&[])
    })
}
