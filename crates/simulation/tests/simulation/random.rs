//! Numbers out of a seed.
//!
//! Owns: the generator, and the machine that it stands in for (`lake::ambient`).
//! Does not: know what it chooses between.
//! Holds: the same seed gives the same numbers, on every machine and in every version of Rust.
//! Fails: never.

use std::cell::RefCell;
use std::time::Duration;

use lake::ambient::simulated::World;
use tokio::time::Instant;

/// SplitMix64: small, and good enough to choose by.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// Another one, whose numbers do not depend on how many this one gives.
    pub(crate) fn fork(&self, name: &str) -> Random {
        let mixed = name.bytes().fold(self.0, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
        });
        Random(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True `percent` times of a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).expect("a short list"))).expect("a short list")
    }

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.index(from.len())]
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }
}

/// A machine whose clock is tokio's, and whose nonces and jitter come from the seed.
pub(crate) struct Machine {
    random: RefCell<Random>,
    begun: Instant,
}

impl Machine {
    pub(crate) fn new(random: Random) -> Machine {
        Machine { random: RefCell::new(random), begun: Instant::now() }
    }
}

impl World for Machine {
    fn unix_micros(&self) -> i64 {
        EPOCH_MICROS + i64::try_from(self.begun.elapsed().as_micros()).expect("a short simulation")
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut random = self.random.borrow_mut();
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn pause(&self) -> Duration {
        self.random.borrow_mut().millis(0, 2)
    }
}

/// 2026-01-01 09:58:20 UTC: an hour ends soon, so that transactions fall on both sides of it.
pub(crate) const EPOCH_MICROS: i64 = 1_767_261_500_000_000;
