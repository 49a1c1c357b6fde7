use super::*;

/// A server that sends `rate` bytes a second as long as what it sent and nobody read is less than `room`.
fn settles(pauses: &'static [Duration], rate: f64, room: f64) -> (Duration, f64) {
    let mut pace = Pace::new(pauses);
    pace.set_late(true);
    let begun = Instant::now();
    let (mut now, mut waiting, mut total) = (begun, 0.0_f64, 0.0_f64);
    while now < begun + Duration::from_secs(20) {
        let until = pace.resume().unwrap_or(now).max(now + Duration::from_micros(50));
        waiting = (waiting + rate * (until - now).as_secs_f64()).min(room);
        now = until;
        total += waiting;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of bytes")]
        pace.note(waiting as usize, now);
        waiting = 0.0;
    }
    (pauses[pace.pause], total / 20.0 / rate)
}

#[test]
fn a_pause_that_costs_nothing_stays_long() {
    let (pause, share) = settles(&PAUSES, 30e6, 4e6);
    assert_eq!(pause, Duration::from_millis(20));
    assert!(share > 0.95, "{share}");
}

#[test]
fn a_pause_in_which_the_server_waits_is_shortened() {
    let (pause, share) = settles(&PAUSES, 30e6, 25e3);
    assert!(pause <= Duration::from_millis(1), "{pause:?}");
    assert!(share > 0.6, "{share}");
}

#[test]
fn a_unix_socket_that_fills_in_half_a_millisecond_loses_nothing_by_pauses() {
    for (rate, longest) in [(50e6, 400), (100e6, 200)] {
        let (pause, share) = settles(&UNIX_PAUSES, rate, 28e3);
        assert!(pause <= Duration::from_micros(longest), "{pause:?} at {rate}");
        assert!(share > 0.9, "{share} at {rate}");
    }
}

#[test]
fn a_slow_server_is_not_waited_for_in_vain() {
    let (_, share) = settles(&PAUSES, 1e3, 1e5);
    assert!(share > 0.9, "{share}");
}

#[test]
fn who_is_not_late_never_waits() {
    let mut pace = Pace::new(&PAUSES);
    let now = Instant::now();
    pace.note(10, now);
    assert_eq!(pace.resume(), None);
    pace.set_late(true);
    pace.note(10, now);
    assert_eq!(pace.resume(), Some(now + Duration::from_millis(20)));
    pace.set_late(false);
    assert_eq!(pace.resume(), None);
}

#[test]
fn a_large_read_is_followed_at_once() {
    let mut pace = Pace::new(&PAUSES);
    pace.set_late(true);
    pace.note(SHORT_BYTES, Instant::now());
    assert_eq!(pace.resume(), None);
}

#[test]
fn without_pauses_there_are_none() {
    let mut pace = Pace::new(&[]);
    pace.set_late(true);
    pace.note(10, Instant::now());
    assert_eq!(pace.resume(), None);
}

/// A row of half a megabyte comes in many reads, none of which tells how late it is.
#[test]
fn a_pause_is_judged_by_reads_in_large_rows_too() {
    let mut pace = Pace::new(&PAUSES);
    pace.set_late(true);
    let mut now = Instant::now();
    // 8 KiB a pause, however long that is.
    for _ in 0..2_000 {
        now = pace.resume().unwrap_or(now) + Duration::from_micros(50);
        pace.note(SHORT_BYTES - 1, now);
    }
    assert!(PAUSES[pace.pause] <= Duration::from_millis(1), "{:?}", PAUSES[pace.pause]);
}

/// A while that is fast by chance, and is over before the next one, does not make pauses short.
#[test]
fn a_burst_is_no_reason_for_shorter_pauses() {
    let mut pace = Pace::new(&PAUSES);
    pace.set_late(true);
    let begun = Instant::now();
    let mut now = begun;
    while now < begun + Duration::from_secs(40) {
        let until = pace.resume().unwrap_or(now) + Duration::from_micros(50);
        // Bytes a millisecond. Every trial happens to meet a burst, which goes on for as long again.
        let rate = if pace.trial.is_some() || pace.tried.is_some() { 200 } else { 50 };
        let millis = usize::try_from((until - now).as_micros()).unwrap() / 1_000;
        now = until;
        pace.note(millis * rate, now);
        assert_eq!(PAUSES[pace.pause], Duration::from_millis(20), "after {:?}", now - begun);
    }
}

#[test]
fn trials_in_vain_become_rare() {
    let mut pace = Pace::new(&PAUSES);
    pace.set_late(true);
    let (mut now, mut trials) = (Instant::now(), 0);
    for _ in 0..2_000 {
        let was_trial = pace.trial.is_some();
        now += EPOCH;
        pace.note(1_000, now);
        trials += u32::from(pace.trial.is_some() && !was_trial);
    }
    // Of three and a half minutes; every fourth epoch otherwise.
    assert!((50..120).contains(&trials), "{trials}");
}
