//! Whether the old rows that [tables] asks for are sent.
//!
//! Owns: which replica identities are worth a word there.
//! Does not: ask the catalogs.
//! Holds: says nothing where nothing was asked for.
//! Fails: never.

use pgoutput::{Oid, ReplicaIdentity};
use tables::fold::Selection;
use tables::lineage::Facts;

use super::Report;
use super::omissions::some;

/// Only REPLICA IDENTITY FULL sends all of an old row; of a partitioned table it is the partitions' own that counts.
pub(super) fn look(report: &mut Report, before: &Selection, selection: &Selection, facts: &Facts) {
    if before.is_empty() {
        return;
    }
    let roots = facts.roots.iter().filter(|root| {
        selection.includes(&root.schema, &root.name) && before.includes(&root.schema, &root.name)
    });
    let mut leaves = facts.leaves.iter().map(|leaf| (leaf.root, leaf.replica_identity)).collect::<Vec<_>>();
    leaves.sort_unstable_by_key(|(root, _)| *root);
    let is_whole = |root: Oid, own: ReplicaIdentity| {
        let first = leaves.partition_point(|(of, _)| *of < root);
        let mut leaves = leaves.iter().skip(first).take_while(|(of, _)| *of == root).peekable();
        match leaves.peek() {
            None => own == ReplicaIdentity::Full,
            Some(_) => leaves.all(|(_, identity)| *identity == ReplicaIdentity::Full),
        }
    };
    let (whole, partial): (Vec<_>, Vec<_>) =
        roots.partition(|root| is_whole(root.oid, root.replica_identity));
    let partial: Vec<String> = partial.iter().map(|root| format!("{}.{}", root.schema, root.name)).collect();
    match some(partial.iter().map(String::as_str)) {
        Some(tables) => report.warn(
            "old rows",
            format!("{tables}: _cdc_before has at most the key of an old row"),
            "ALTER TABLE … REPLICA IDENTITY FULL;  -- or nothing, if the key is what is meant",
        ),
        None if whole.is_empty() => report.warn(
            "old rows",
            "`tables.before` names no published table",
            "globs are on schema.table of root tables",
        ),
        None => report.ok("old rows", format!("{} tables have them whole", whole.len())),
    }
}

#[cfg(test)]
mod tests;
