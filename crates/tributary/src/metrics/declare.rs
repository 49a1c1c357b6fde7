//! How a metric is declared: once, with its unit and its help.
//!
//! Owns: the registry, and the list that `docs/metrics.md` is made of.
//! Does not: know any metric.
//! Holds: what is in the registry is in the list.
//! Fails: never; a metric that cannot be made stops the first test.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// All metrics that are declared so far.
#[derive(Debug, Default)]
pub(super) struct Declarations {
    registry: Registry,
    list: Vec<Declared>,
    section: &'static str,
}

/// A metric as people read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The headline that it stands under.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What its value counts.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A position in the server's log, as a number: `16/B374D848` is `0x16B374D848`.
    Lsn,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Seconds since 1970.
    Time,
    /// 0 or 1.
    Flag,
    /// Things, by their name.
    Count(&'static str),
}

impl Unit {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Unit::Lsn => "LSN",
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            Unit::Time => "seconds since 1970",
            Unit::Flag => "0 or 1",
            Unit::Count(things) => things,
        }
    }
}

/// A gauge that has no value while it is unknown: no series is better than a zero that is none.
#[derive(Clone, Debug)]
pub(crate) struct OptionalGauge(GaugeVec);

impl OptionalGauge {
    /// Sets or forgets the value.
    pub(crate) fn set(&self, value: Option<f64>) {
        match value {
            Some(value) => self.0.with_label_values::<&str>(&[]).set(value),
            None => self.0.reset(),
        }
    }
}

impl Declarations {
    /// What follows stands under this headline.
    pub(super) fn section(&mut self, section: &'static str) {
        self.section = section;
    }

    pub(super) fn finish(self) -> (Registry, Vec<Declared>) {
        (self.registry, self.list)
    }

    pub(super) fn gauge(&mut self, name: &'static str, unit: Unit, help: &'static str) -> IntGauge {
        self.add("gauge", name, unit, &[], help, IntGauge::new(name, help))
    }

    pub(super) fn float_gauge(&mut self, name: &'static str, unit: Unit, help: &'static str) -> Gauge {
        self.add("gauge", name, unit, &[], help, Gauge::new(name, help))
    }

    pub(super) fn optional_gauge(
        &mut self,
        name: &'static str,
        unit: Unit,
        help: &'static str,
    ) -> OptionalGauge {
        OptionalGauge(self.add("gauge", name, unit, &[], help, GaugeVec::new(Opts::new(name, help), &[])))
    }

    pub(super) fn gauges(
        &mut self,
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> IntGaugeVec {
        self.add("gauge", name, unit, labels, help, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn counter(&mut self, name: &'static str, unit: Unit, help: &'static str) -> IntCounter {
        self.add("counter", name, unit, &[], help, IntCounter::new(name, help))
    }

    pub(super) fn float_counter(&mut self, name: &'static str, unit: Unit, help: &'static str) -> Counter {
        self.add("counter", name, unit, &[], help, Counter::new(name, help))
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> IntCounterVec {
        self.add("counter", name, unit, labels, help, IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn histogram(&mut self, name: &'static str, buckets: &[f64], help: &'static str) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", name, Unit::Seconds, &[], help, Histogram::with_opts(options))
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        buckets: &[f64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", name, Unit::Seconds, labels, help, HistogramVec::new(options, labels))
    }

    fn add<M: Collector + Clone + 'static>(
        &mut self,
        kind: &'static str,
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
        metric: prometheus::Result<M>,
    ) -> M {
        let metric = metric.expect("names, labels and buckets are constants, and every test makes them");
        self.registry.register(Box::new(metric.clone())).expect("every name stands once");
        self.list.push(Declared { section: self.section, name, kind, unit, labels, help });
        metric
    }
}
