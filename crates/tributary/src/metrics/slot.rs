//! What the server says of the slot.
//!
//! Owns: the metrics of the slot's health.
//! Does not: ask the server; the pipeline does, every ten seconds.
//! Holds: what the server does not tell has no series.
//! Fails: never.

use prometheus::IntGaugeVec;

use super::declare::{Declarations, OptionalGauge, Unit};
use crate::status::{SlotStatus, number};

/// The metrics of the slot.
#[derive(Debug)]
pub(crate) struct SlotMetrics {
    wal_status: IntGaugeVec,
    retained_bytes: OptionalGauge,
    lag_bytes: OptionalGauge,
    safe_wal_bytes: OptionalGauge,
    catalog_xmin_age: OptionalGauge,
    budget_bytes: OptionalGauge,
}

impl SlotMetrics {
    pub(super) fn declare(declare: &mut Declarations) -> SlotMetrics {
        declare.section("The slot");
        let metrics = SlotMetrics {
            wal_status: declare.gauges(
                "tributary_slot_wal_status",
                Unit::Flag,
                &["wal_status"],
                "1 for what pg_replication_slots.wal_status says: reserved and extended are well, unreserved is about to be lost, lost is lost.",
            ),
            retained_bytes: declare.optional_gauge(
                "tributary_slot_retained_bytes",
                Unit::Bytes,
                "Bytes of log that Postgres keeps for the slot.",
            ),
            lag_bytes: declare.optional_gauge(
                "tributary_slot_lag_bytes",
                Unit::Bytes,
                "Bytes of log that Postgres has written since the position that was confirmed.",
            ),
            safe_wal_bytes: declare.optional_gauge(
                "tributary_slot_safe_wal_bytes",
                Unit::Bytes,
                "Bytes of log that may be written before the slot is in danger; no series where max_slot_wal_keep_size sets no limit.",
            ),
            catalog_xmin_age: declare.optional_gauge(
                "tributary_slot_catalog_xmin_age_transactions",
                Unit::Count("transactions"),
                "Age of the oldest catalog rows that the slot keeps VACUUM from removing.",
            ),
            budget_bytes: declare.optional_gauge(
                "tributary_wal_budget_bytes",
                Unit::Bytes,
                "How much log the slot may keep; no series without `source.wal_budget`.",
            ),
        };
        for status in WAL_STATUSES {
            metrics.wal_status.with_label_values(&[status]);
        }
        metrics
    }

    pub(crate) fn set(&self, slot: &SlotStatus) {
        for status in WAL_STATUSES {
            let is_it = slot.wal_status.as_deref() == Some(status);
            self.wal_status.with_label_values(&[status]).set(i64::from(is_it));
        }
        self.retained_bytes.set(slot.retained_bytes.map(number));
        self.lag_bytes.set(slot.lag_bytes().map(number));
        self.safe_wal_bytes.set(slot.safe_wal_bytes.map(number));
        self.catalog_xmin_age.set(slot.catalog_xmin_age.map(f64::from));
        self.budget_bytes.set(slot.budget_bytes.map(number));
    }
}

const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];
