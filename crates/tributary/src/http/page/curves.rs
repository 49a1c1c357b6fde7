//! Curves of the last minutes, as SVG.
//!
//! Owns: lag, rows published and log received over time.
//! Does not: keep samples; `status` does.
//! Holds: a scale begins at zero and ends at a round number, so that two looks compare.
//! Fails: never.

use std::fmt::Write as _;
use std::time::Duration;

use super::{brief, count, text};
use crate::status::{Sample, number};

/// One value at one age in seconds; `None` where nothing is known.
type Point = (f64, Option<f64>);

/// All three.
pub(super) fn draw(html: &mut String, history: &[Sample]) {
    html.push_str("<section class=\"curves\">");
    let lag = points(history, |sample, _| sample.lag_seconds);
    curve(html, "lag", "Lag", &lag, 1.0, brief);
    let rows = points(history, |sample, before| Some(rate(sample, before?, |sample| sample.rows)));
    curve(html, "rows", "Rows published a second", &rows, 10.0, count);
    let bytes = points(history, |sample, before| Some(rate(sample, before?, |sample| sample.received.0)));
    curve(html, "log", "WAL received a second", &bytes, 1_024.0, |bytes| text::bytes(whole(bytes)));
    html.push_str("</section>");
}

/// Rows published a second, over the last minute.
pub(super) fn rows_per_second(history: &[Sample]) -> Option<f64> {
    let last = history.last()?;
    Some(rate(last, before(history, last)?, |sample| sample.rows))
}

/// Rows come by cuts: what counts is how many came within a minute.
fn before<'a>(history: &'a [Sample], sample: &Sample) -> Option<&'a Sample> {
    history.iter().find(|before| before.at < sample.at && sample.at.duration_since(before.at) <= WINDOW)
}

fn rate(sample: &Sample, before: &Sample, of: impl Fn(&Sample) -> u64) -> f64 {
    let seconds = sample.at.duration_since(before.at).as_secs_f64();
    number(of(sample).saturating_sub(of(before))) / seconds
}

fn points(history: &[Sample], of: impl Fn(&Sample, Option<&Sample>) -> Option<f64>) -> Vec<Point> {
    let Some(last) = history.last() else { return Vec::new() };
    let age = |sample: &Sample| last.at.duration_since(sample.at).as_secs_f64();
    history.iter().map(|sample| (age(sample), of(sample, before(history, sample)))).collect()
}

fn curve(
    html: &mut String,
    id: &str,
    name: &str,
    points: &[Point],
    least: f64,
    words: impl Fn(f64) -> String,
) {
    let top = round_up(points.iter().filter_map(|(_, value)| *value).fold(least, f64::max));
    let now = points.last().and_then(|(_, value)| *value).map_or_else(|| "unknown".to_owned(), &words);
    let _ = write!(
        html,
        "<div class=\"card curve\" id=\"curve-{id}\"><h2><span>{name}</span><b>{now}</b></h2>\
         <svg viewBox=\"0 0 600 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{name} over the last ten minutes, now {now}\">\
         <line x1=\"0\" y1=\"0\" x2=\"600\" y2=\"0\"/><line x1=\"0\" y1=\"50\" x2=\"600\" y2=\"50\"/><line x1=\"0\" y1=\"100\" x2=\"600\" y2=\"100\"/>"
    );
    for piece in points.chunk_by(|a, b| a.1.is_some() == b.1.is_some()) {
        draw_piece(html, piece, top);
    }
    let _ = write!(
        html,
        "</svg><div class=\"axis\"><span>10 min ago</span><span>up to {}</span><span>now</span></div></div>",
        words(top)
    );
}

/// What is known without a gap.
fn draw_piece(html: &mut String, piece: &[Point], top: f64) {
    let mut line = String::new();
    let (mut first, mut last) = (0.0, 0.0);
    for (age, value) in piece {
        let Some(value) = value else { return };
        let (x, y) = (600.0 - age, 100.0 - 100.0 * value / top);
        if line.is_empty() {
            first = x;
        }
        last = x;
        let _ = write!(line, "{}{x:.1} {y:.1}", if line.is_empty() { 'M' } else { 'L' });
    }
    let _ =
        write!(html, "<path class=\"area\" d=\"{line}L{last:.1} 100L{first:.1} 100Z\"/><path d=\"{line}\"/>");
}

/// One, two or five, and zeros.
fn round_up(value: f64) -> f64 {
    let mut step = 1.0;
    while step * 10.0 <= value {
        step *= 10.0;
    }
    [1.0, 2.0, 5.0].into_iter().map(|first| first * step).find(|round| *round >= value).unwrap_or(step * 10.0)
}

fn whole(number: f64) -> u64 {
    Duration::try_from_secs_f64(number).unwrap_or_default().as_secs()
}

const WINDOW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pgoutput::Lsn;

    use super::*;

    fn history(samples: &[(u64, u64, Option<f64>)]) -> Vec<Sample> {
        let begin = Instant::now();
        let at = |second: u64| begin + Duration::from_secs(second);
        let sample = |(second, rows, lag): &(u64, u64, Option<f64>)| Sample {
            at: at(*second),
            received: Lsn(rows * 100),
            rows: *rows,
            lag_seconds: *lag,
        };
        samples.iter().map(sample).collect()
    }

    #[test]
    fn scales_are_round() {
        let found = [0.4, 1.0, 1.1, 4.0, 9.0, 10.0, 11.0, 6_000_000.0].map(round_up);
        assert_eq!(found, [1.0, 1.0, 2.0, 5.0, 10.0, 10.0, 20.0, 10_000_000.0]);
    }

    #[test]
    fn speed_is_that_of_the_last_minute() {
        assert_eq!(rows_per_second(&[]), None);
        assert_eq!(rows_per_second(&history(&[(0, 10, None)])), None);
        let cuts = history(&[(0, 1_000, None), (30, 1_000, None), (60, 1_600, None), (90, 1_600, None)]);
        assert_eq!(rows_per_second(&cuts), Some(10.0));
    }

    #[test]
    fn a_curve_has_gaps_where_nothing_is_known() {
        let mut html = String::new();
        draw(&mut html, &history(&[(0, 0, Some(2.0)), (2, 0, Some(4.0)), (4, 0, None), (6, 0, Some(0.0))]));
        let lag = html.split("id=\"curve-rows\"").next().unwrap_or_default();
        assert!(lag.contains("<path d=\"M594.0 60.0L596.0 20.0\"/>"), "{lag}");
        assert!(lag.contains("<path d=\"M600.0 100.0\"/>"), "{lag}");
        assert!(lag.contains("<b>0.0 s</b>") && lag.contains("up to 5.0 s"), "{lag}");
        assert!(html.contains("<b>0</b>") && html.contains("<b>0 B</b>"), "{html}");
    }

    #[test]
    fn before_anything_is_known_there_is_a_frame() {
        let mut html = String::new();
        draw(&mut html, &[]);
        assert_eq!((html.matches("<svg").count(), html.matches("<path").count()), (3, 0));
        assert_eq!(html.matches("<b>unknown</b>").count(), 3);
    }
}
