//! What the process takes of the machine.
//!
//! Owns: the metrics that every program has, under the names that every dashboard expects.
//! Does not: look before somebody asks.
//! Holds: nothing on a system without `/proc`: these metrics are then zero.
//! Fails: never.

use std::fs;

use prometheus::{Counter, Gauge, IntGauge};

use super::declare::{Declarations, Unit};
use crate::clock;

/// The metrics of the process.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
}

/// What `/proc/self` says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu_ticks: u32,
    resident_bytes: i64,
    threads: i64,
    open_fds: i64,
    max_fds: i64,
}

impl ProcessMetrics {
    pub(super) fn declare(declare: &mut Declarations) -> ProcessMetrics {
        declare.section("The process");
        let start_time: Gauge =
            declare.float_gauge("process_start_time_seconds", Unit::Time, "When the daemon started.");
        start_time.set(super::seconds_of(clock::unix_micros()));
        ProcessMetrics {
            cpu_seconds: declare.float_counter(
                "process_cpu_seconds_total",
                Unit::Seconds,
                "CPU time, of the user and of the system.",
            ),
            resident_bytes: declare.gauge(
                "process_resident_memory_bytes",
                Unit::Bytes,
                "Memory that is in use.",
            ),
            open_fds: declare.gauge(
                "process_open_fds",
                Unit::Count("descriptors"),
                "File descriptors that are open.",
            ),
            max_fds: declare.gauge(
                "process_max_fds",
                Unit::Count("descriptors"),
                "File descriptors that may be open.",
            ),
            threads: declare.gauge("process_threads", Unit::Count("threads"), "Threads of the process."),
        }
    }

    /// Looks.
    pub(super) fn update(&self) {
        let usage = Usage::now();
        let spent = f64::from(usage.cpu_ticks) / TICKS_A_SECOND - self.cpu_seconds.get();
        self.cpu_seconds.inc_by(spent.max(0.0));
        self.resident_bytes.set(usage.resident_bytes);
        self.threads.set(usage.threads);
        self.open_fds.set(usage.open_fds);
        self.max_fds.set(usage.max_fds);
    }
}

impl Usage {
    fn now() -> Usage {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        // The descriptor that lists them is one of them.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
        Usage {
            open_fds: i64::try_from(open).unwrap_or(0),
            ..Usage::parse(&read("stat"), &read("status"), &read("limits"))
        }
    }

    fn parse(stat: &str, status: &str, limits: &str) -> Usage {
        // The name of the program may have blanks and brackets; what follows it has not.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let tick = |field: usize| fields.get(field).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let line = |text: &str, name: &str, word: usize| -> i64 {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found
                .and_then(|rest| rest.split_whitespace().nth(word))
                .and_then(|word| word.parse().ok())
                .unwrap_or(0)
        };
        Usage {
            cpu_ticks: tick(USER_TIME).saturating_add(tick(SYSTEM_TIME)),
            resident_bytes: line(status, "VmRSS:", 0) * 1024,
            threads: line(status, "Threads:", 0),
            open_fds: 0,
            max_fds: line(limits, "Max open files", 0),
        }
    }
}

/// Fields 14 and 15 of proc(5), counted from behind the name, which is the second.
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;
/// Linux tells every program a hundred, whatever its own tick is.
const TICKS_A_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let stat = "42 (tri) (x) S 1 42 42 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 9 0 100 0 0";
        let status = "Name:\ttributary\nVmRSS:\t   20480 kB\nThreads:\t9\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n";
        let expected =
            Usage { cpu_ticks: 325, resident_bytes: 20 << 20, threads: 9, open_fds: 0, max_fds: 1024 };
        assert_eq!(Usage::parse(stat, status, limits), expected);
        assert_eq!(Usage::parse("", "", "Max open files            unlimited"), Usage::default());
    }

    #[test]
    fn this_process_has_descriptors_memory_and_threads() {
        let usage = Usage::now();
        assert!(usage.open_fds >= 3 && usage.max_fds >= usage.open_fds, "{usage:?}");
        assert!(usage.resident_bytes > 1 << 20 && usage.threads >= 1, "{usage:?}");
    }
}
