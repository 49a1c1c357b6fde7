//! Numbers as Postgres prints them.
//!
//! Owns: decimals, money, and the shortest text of a float.
//! Does not: know which column has what.
//! Holds: a float's text is the shortest that only that float is nearest to, as `float8out` finds it.
//! Fails: never.

/// An unscaled decimal with all digits behind the point that its scale has.
pub(super) fn decimal(value: i128, scale: i8) -> String {
    let scale = usize::try_from(scale).unwrap_or(0);
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A number without the zeros at its end, as `trim_scale` leaves it.
pub(super) fn trimmed(number: &str) -> String {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number.to_owned(),
    }
}

/// A double as a number without an exponent.
pub(super) fn plain(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        // A numeric knows no zero below zero.
        0.0 => "0".to_owned(),
        value => format!("{value}"),
    }
}

/// Hundredths as `money` in the locale C.
pub(super) fn money(hundredths: i128) -> String {
    let (whole, cents) = (hundredths.unsigned_abs() / 100, hundredths.unsigned_abs() % 100);
    let digits = whole.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}${grouped}.{cents:02}", if hundredths < 0 { "-" } else { "" })
}

/// As `float4out`.
pub(super) fn float4(value: f32) -> String {
    if let Some(special) = special(value.into()) {
        return special.to_owned();
    }
    // Rust's own is as short, but may lie half-way to the next float, which reads back by rounding to the even one only.
    let may_tie = value.to_bits().is_multiple_of(2);
    let fits = |text: &str| {
        text.parse() == Ok(value) && !(may_tie && is_tie(text, |near| near.parse() == Ok(value)))
    };
    laid_out(&shortest(format!("{value:e}"), |digits| format!("{value:.digits$e}"), fits), 6)
}

/// As `float8out`.
pub(super) fn float8(value: f64) -> String {
    if let Some(special) = special(value) {
        return special.to_owned();
    }
    let may_tie = value.to_bits().is_multiple_of(2);
    let fits = |text: &str| {
        text.parse() == Ok(value) && !(may_tie && is_tie(text, |near| near.parse() == Ok(value)))
    };
    laid_out(&shortest(format!("{value:e}"), |digits| format!("{value:.digits$e}"), fits), 15)
}

fn special(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        0.0 if value.is_sign_negative() => Some("-0"),
        0.0 => Some("0"),
        _ => None,
    }
}

/// The text with the fewest digits that fits: of those as long as Rust's, the nearest to the float; else longer ones, which are nearest by rounding.
fn shortest(rust: String, rounded: impl Fn(usize) -> String, fits: impl Fn(&str) -> bool) -> String {
    let digits = rust.chars().take_while(|c| *c != 'e').filter(char::is_ascii_digit).count();
    let tries = (digits.saturating_sub(1)..=DIGITS_MAX).map(&rounded);
    // Where the interval of a power of two is narrower below, the nearest of that length may miss it, and Rust's does not.
    let first = rounded(digits.saturating_sub(1));
    if !fits(&first) && fits(&rust) {
        return rust;
    }
    tries.into_iter().find(|text| fits(text)).unwrap_or(rust)
}

/// Whether a text lies exactly between two floats: then what is a little further off is another float, to one side.
fn is_tie(text: &str, is_same: impl Fn(&str) -> bool) -> bool {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let Some((last, rest)) = mantissa.as_bytes().split_last() else { return false };
    let point = if mantissa.contains('.') { "" } else { "." };
    let Ok(rest) = std::str::from_utf8(rest) else { return false };
    // `5` as `5.000…1` and as `4.999…9`; the last digit of a shortest text is no zero, unless it is the only one.
    let above = format!("{mantissa}{point}{}1e{exponent}", "0".repeat(NEAR));
    let below = format!("{rest}{}{point}{}e{exponent}", char::from(last.saturating_sub(1)), "9".repeat(NEAR));
    !is_same(&above) || (*last > b'0' && !is_same(&below))
}

/// `d.ddde-7` as Postgres lays it out, with an exponent below -4 or from `exponent_min` on.
fn laid_out(text: &str, exponent_min: i32) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    let (first, more) = digits.split_at(1);
    if exponent < -4 || exponent >= exponent_min {
        let point = if more.is_empty() { "" } else { "." };
        let side = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{more}e{side}{:02}", exponent.abs());
    }
    let Ok(places) = usize::try_from(exponent) else {
        let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
        return format!("{sign}0.{zeros}{digits}");
    };
    match digits.split_at_checked(places + 1) {
        Some((whole, "")) => format!("{sign}{whole}"),
        Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{digits:0<width$}", width = places + 1),
    }
}

/// Seventeen digits tell any two doubles apart: sixteen behind the first.
const DIGITS_MAX: usize = 16;
/// Nearer than the half of any distance that a text of seventeen digits can have from a tie without being one.
const NEAR: usize = 40;
