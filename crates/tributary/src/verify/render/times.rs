//! Dates, times and intervals.
//!
//! Owns: their text in the ISO style and UTC, and the parts of an interval.
//! Does not: know values beyond the years 1 to 9999: their text is in `_cdc_raw`.
//! Holds: a fraction of a second has no zeros at its end.
//! Fails: `None` for what is no interval.

/// Days since 1970-01-01 as a date.
pub(super) fn date(days: i64) -> String {
    // Cycles of 400 years, from 1 March of the year 0.
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

/// Microseconds since 1970-01-01 00:00:00.
pub(super) fn timestamp(micros: i64) -> String {
    format!("{} {}", date(micros.div_euclid(DAY)), clock(micros.rem_euclid(DAY)))
}

/// Microseconds since midnight; 24:00:00 is one.
pub(super) fn clock(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    without_zeros(&text).to_owned()
}

/// `12:00:00.500000` as `12:00:00.5`.
pub(super) fn without_zeros(clock: &str) -> &str {
    match clock.contains('.') {
        true => clock.trim_end_matches('0').trim_end_matches('.'),
        false => clock,
    }
}

/// As `interval_send` does it.
pub(super) fn interval_send(micros: i64, days: i32, months: i32) -> [u8; 16] {
    let mut send = [0; 16];
    let bytes = micros.to_be_bytes().into_iter().chain(days.to_be_bytes()).chain(months.to_be_bytes());
    send.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    send
}

/// What Postgres prints of an interval that has no parts, in `_cdc_raw`.
pub(super) fn interval_of_text(text: &str) -> Option<[u8; 16]> {
    match text {
        "infinity" => Some(interval_send(i64::MAX, i32::MAX, i32::MAX)),
        "-infinity" => Some(interval_send(i64::MIN, i32::MIN, i32::MIN)),
        _ => None,
    }
}

/// `P1Y2M3DT4H5M6.789S`, with a sign at any number.
pub(super) fn interval_of_iso8601(text: &str) -> Option<[u8; 16]> {
    if let Some(infinite) = interval_of_text(text) {
        return Some(infinite);
    }
    let (mut micros, mut days, mut months) = (0_i64, 0_i32, 0_i32);
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let text = text.strip_prefix('P')?;
    let (mut number, mut is_time) = (String::new(), false);
    for letter in text.chars() {
        let whole = || number.parse::<i64>().ok();
        let small = || number.parse::<i32>().ok();
        match (letter, is_time) {
            ('T', false) => {
                is_time = true;
                continue;
            }
            ('Y', false) => months = months.checked_add(small()?.checked_mul(12)?)?,
            ('M', false) => months = months.checked_add(small()?)?,
            ('W', false) => days = days.checked_add(small()?.checked_mul(7)?)?,
            ('D', false) => days = days.checked_add(small()?)?,
            ('H', true) => micros = micros.checked_add(whole()?.checked_mul(3_600_000_000)?)?,
            ('M', true) => micros = micros.checked_add(whole()?.checked_mul(60_000_000)?)?,
            ('S', true) => micros = micros.checked_add(seconds(&number)?)?,
            (letter, _) => {
                number.push(letter);
                continue;
            }
        }
        number.clear();
    }
    if !number.is_empty() {
        return None;
    }
    if is_negative {
        (micros, days, months) = (micros.checked_neg()?, days.checked_neg()?, months.checked_neg()?);
    }
    Some(interval_send(micros, days, months))
}

fn seconds(number: &str) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_negative = whole.starts_with('-');
    let fraction: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let whole = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?;
    whole.checked_add(if is_negative { -fraction } else { fraction })
}

const DAY: i64 = 86_400_000_000;
