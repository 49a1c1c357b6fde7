//! UTC calendar time without a calendar library: what object keys and control files print.
//!
//! Owns: microseconds since 1970 to RFC 3339 and back to calendar fields.
//! Does not: read a clock, or know time zones.
//! Holds: the proleptic Gregorian calendar, as Postgres has it.
//! Fails: never; every `i64` of microseconds is a date within the year range of `i64`.

/// A calendar date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Astronomical year: 0 is 1 BC.
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
}

/// The date of a day counted from 1970-01-01.
///
/// By eras of 400 years (146,097 days) that begin on 1 March, so that the leap day is the last of its year.
pub fn date_of_day(day: i64) -> Date {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day: day_of_month }
}

/// `2026-08-01T00:59:59.000000Z`
pub fn rfc3339(unix_micros: i64) -> String {
    let date = date_of_day(unix_micros.div_euclid(86_400_000_000));
    let in_day = unix_micros.rem_euclid(86_400_000_000);
    let seconds = in_day / 1_000_000;
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year,
        date.month,
        date.day,
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        in_day % 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_print_as_everybody_prints_them() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_785_545_999_123_456, "2026-08-01T00:59:59.123456Z"),
            (4_107_542_399_000_000, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(micros), text);
        }
    }
}
