//! Money that moves between accounts, and is neither made nor lost.
//!
//! Owns: a bank whose sum is the same after every transaction, a reader that looks at the lake all the time, and a second slot that the server's
//! own plugin decodes.
//! Does not: use any of the project's code to read or compare; `tests/oracle/bank.py` does, with DuckDB.
//! Holds: every cut that a reader ever sees has all the money, and so has every transaction's end; the lake has the changes of the second slot, in
//! its order. The daemon is killed and Postgres restarted meanwhile.
//! Fails: with the cut that lacks money, or the first transaction that differs.

use anyhow::{Result, ensure};
use testkit::oracle;
use testkit::postgres::Stop;
use testkit::random::Random;
use testkit::wait::{both, pause, seconds};
use testkit::{Cluster, Stage, again_and_again, scenario};

use crate::rig;

const ACCOUNTS: u64 = 400;
const TOTAL: u64 = ACCOUNTS * 1_000;
/// How long money moves, in seconds.
const OPEN: u64 = 25;

#[test]
fn no_cut_of_postgres_15_lacks_money() -> Result<()> {
    bank(15, "off")
}

#[test]
fn no_cut_of_postgres_18_lacks_money() -> Result<()> {
    bank(18, "on")
}

fn bank(version: u32, streaming: &'static str) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let mut random = Random::new(rig::seed(stage)?);
        let cluster = Cluster::start(stage, version, &["logical_decoding_work_mem = 64kB"]).await?;
        cluster.execute_in("postgres", &format!("create database {}", testkit::postgres::DATABASE)).await?;
        cluster.execute(SCHEMA).await?;
        let pipeline =
            rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.streaming = streaming).await?;
        cluster.execute("select pg_create_logical_replication_slot('second', 'test_decoding')").await?;
        cluster.execute(&format!("call open_accounts({ACCOUNTS}, {})", TOTAL / ACCOUNTS)).await?;
        let lake = stage.path("lake").display().to_string();
        let (total, accounts, time) = (TOTAL.to_string(), ACCOUNTS.to_string(), (OPEN + 5).to_string());
        let mut daemon = pipeline.start_streaming().await?;
        let url = cluster.url(testkit::postgres::DATABASE);
        let call = format!("call move_money({ACCOUNTS}, 10)");
        let move_money = async || {
            let calls = again_and_again(&url, &call, seconds(OPEN)).await?;
            ensure!(calls > 50, "the bank was closed most of the time: {calls} calls");
            Ok(())
        };
        let watch = async {
            let options =
                ["watch", "--lake", &lake, "--total", &total, "--accounts", &accounts, "--seconds", &time];
            stage.say(oracle::script(stage, "bank.py", &options).await?.success()?.stdout.trim());
            Ok(())
        };
        let mut cluster = cluster;
        let faults = async {
            for round in 0..5 {
                pause(std::time::Duration::from_millis(random.between(2_000, 4_500))).await;
                daemon.kill()?;
                if round == 2 {
                    cluster.restart(Stop::Immediate).await?;
                }
                daemon = pipeline.start()?;
            }
            daemon.wait_until_streaming(seconds(60)).await
        };
        Box::pin(both(both(watch, faults), both(move_money(), move_money()))).await?;
        daemon.stop().await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
        let cuts = ["cuts", "--lake", &lake, "--total", &total, "--accounts", &accounts];
        say(stage, &cuts).await?;
        let dsn = cluster.dsn();
        say(stage, &["decoded", "--lake", &lake, "--dsn", &dsn, "--slot", "second"]).await?;
        pipeline.refuse_unexpected_lines(testkit::daemon::FAULTS)
    })
}

async fn say(stage: &Stage, options: &[&str]) -> Result<()> {
    stage.say(oracle::script(stage, "bank.py", options).await?.success()?.stdout.trim());
    Ok(())
}

/// Even accounts are cash, odd ones savings. A key has a bit that says nothing and is turned now and then, which moves savings to another partition.
/// Who locks two accounts locks the lower one first.
const SCHEMA: &str = "
create table cash (id bigint primary key, balance bigint not null, deed text);
create table savings (id bigint primary key, balance bigint not null, deed text) partition by range (id);
create table savings_low partition of savings for values from (0) to (1048576);
create table savings_high partition of savings for values from (1048576) to (2097152);
alter table cash alter deed set storage external;
alter table savings alter deed set storage external;
alter table savings_low alter deed set storage external;
alter table savings_high alter deed set storage external;
create publication tributary for table cash, savings;

create procedure open_accounts(accounts bigint, each bigint) language sql as $$
    insert into cash select n, each, repeat(md5(n::text), 100) from generate_series(0, accounts - 1, 2) n;
    insert into savings select n, each, repeat(md5(n::text), 100) from generate_series(1, accounts - 1, 2) n;
$$;

create procedure add_money(account bigint, amount bigint, turn bigint) language plpgsql as $$
begin
    if account % 2 = 0 then
        update cash set balance = balance + amount, id = id # turn where id in (account, account + 1048576);
    else
        update savings set balance = balance + amount, id = id # turn where id in (account, account + 1048576);
    end if;
    if not found then raise exception 'account % is not there', account using errcode = 'data_exception'; end if;
end $$;

create procedure move_money(accounts bigint, times int) language plpgsql as $$
declare
    one bigint; other bigint; low bigint; high bigint; amount bigint;
begin
    for i in 1..times loop
        -- A few pairs a transaction, each after the ones before it, so that nobody waits in a circle.
        low := floor(random() * accounts / 2);
        for j in 1..1 + floor(random() * 3)::int loop
            high := low + 1 + floor(random() * accounts / 8);
            amount := floor(random() * 100) - 50;
            call add_money(low, -amount, case when random() < 0.1 then 1048576 else 0 end);
            begin
                call add_money(high, amount * 3, 0);
                raise exception 'too much';
            exception when raise_exception then null;
            end;
            call add_money(high, amount, case when random() < 0.1 then 1048576 else 0 end);
            low := high + 1;
            exit when low >= accounts * 3 / 4;
        end loop;
        if random() < 0.1 then rollback; else commit; end if;
    end loop;
end $$;
";
