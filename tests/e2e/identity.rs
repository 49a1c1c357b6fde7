//! Old rows, keys and unchanged TOAST by replica identity.
//!
//! Owns: default, full, index, nothing, changes between them, root and leaf different, keys out of line, row filters; `_cdc_before`.
//! Does not: know these tables; `tests/oracle/identity.py` does.
//! Holds: a row can always be found by the key that the schema document names; no NULL is made up (T09 to T12, T24), in rows and in
//! the old rows beside them.
//! Fails: with the rows and cells that differ.

use anyhow::{Result, ensure};
use testkit::daemon::NO_IDENTITY;
use testkit::wait::seconds;
use testkit::{oracle, scenario, workload};

use crate::rig;
use crate::scene::{play, play_and_halt, play_with_before};

/// T24
#[test]
fn t24_identities_14() -> Result<()> {
    play(14, "identity.py", &["identity", "identity_root"], "text")
}

/// T12, T24
#[test]
fn t12_t24_identities_15() -> Result<()> {
    play_with_before(15, "identity.py", &["identity", "identity_root", "filtered"], "binary")
}

/// T12, T24
#[test]
fn t12_t24_identities_18() -> Result<()> {
    play_with_before(18, "identity.py", &["identity", "identity_root", "filtered"], "text")
}

/// A lake may get the column when it has files already, and lose it again: columns are known by their ids.
#[test]
fn old_rows_come_and_go() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let cluster = rig::cluster(stage, 18, true, &[]).await?;
        let off = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
        let on = off.variant(stage, "on", |settings| settings.before = vec!["public.*".to_owned()])?;
        for (pipeline, first) in [(&off, 1000), (&on, 2000), (&off, 3000)] {
            rig::some_rows(&cluster, first).await?;
            let rest = "update ledger set amount = amount + 1; update orders set note = 'm' where id % 3 = 0;
                 delete from orders where id % 7 = 0";
            cluster.execute(rest).await?;
            pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
            pipeline.refuse_unexpected_lines(&[NO_IDENTITY])?;
        }
        let verdict = oracle::verify(stage, &cluster, &off, &["--exclude", workload::UNPUBLISHED]).await?;
        stage.say(&verdict);
        ensure!(verdict.contains("with the old row beside them"), "no old row was found");
        Ok(())
    })
}

/// T24: The stream does not say which row of the root was meant: nothing may be written that looks as if it did.
#[test]
fn t24_leaf_identified_by_other_columns() -> Result<()> {
    play_and_halt(18, "clash.py", "clash_root", "identifies its old rows by other columns")
}
