//! Where the rows of each relation go, once that was worked out.
//!
//! Owns: the targets by OID, as dense as a hash map has them.
//! Does not: work them out, or know which relations were announced.
//! Holds: every row looks here, and of 20,000 leaves in no order each look misses the processor's caches: eight bytes a relation are a third of the
//! misses of the whole of what is known of it.
//! Fails: never.

use pgoutput::Oid;
use rustc_hash::FxHashMap;

/// Where the rows of a relation go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// No row came yet, so nobody looked: via the root, leaves are announced that never send a row.
    Unplanned,
    /// Nowhere: its table is not selected.
    Excluded,
    /// Through the fold's plan of that number, which is below [`Target::PLANS_MAX`].
    Plan(u32),
}

impl Target {
    /// Plans that can be told apart: more than there can be relations.
    pub(crate) const PLANS_MAX: u32 = EXCLUDED;
}

/// Plans by their numbers, or [`EXCLUDED`]; what is not in it is unplanned.
#[derive(Default)]
pub(super) struct Targets(FxHashMap<Oid, u32>);

impl Targets {
    pub(super) fn get(&self, oid: Oid) -> Target {
        match self.0.get(&oid) {
            None => Target::Unplanned,
            Some(&EXCLUDED) => Target::Excluded,
            Some(&number) => Target::Plan(number),
        }
    }

    pub(super) fn set(&mut self, oid: Oid, target: Target) {
        match target {
            Target::Unplanned => self.0.remove(&oid),
            Target::Excluded => self.0.insert(oid, EXCLUDED),
            Target::Plan(number) => self.0.insert(oid, number),
        };
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

const EXCLUDED: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_what_was_set_last_and_of_one_relation() {
        let mut targets = Targets::default();
        let all = [0, 1, 64, u32::MAX].map(Oid);
        assert!(all.iter().all(|oid| targets.get(*oid) == Target::Unplanned));
        for (number, oid) in (0..).zip(all) {
            targets.set(oid, Target::Plan(number));
        }
        targets.set(Oid(1), Target::Unplanned);
        targets.set(Oid(64), Target::Excluded);
        targets.set(Oid(u32::MAX), Target::Plan(Target::PLANS_MAX - 1));
        let expected =
            [Target::Plan(0), Target::Unplanned, Target::Excluded, Target::Plan(Target::PLANS_MAX - 1)];
        assert_eq!(all.map(|oid| targets.get(oid)), expected);
        targets.clear();
        assert!(all.iter().all(|oid| targets.get(*oid) == Target::Unplanned));
    }
}
