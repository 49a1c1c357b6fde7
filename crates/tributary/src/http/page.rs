//! The status page: the status document for people, with curves of the last minutes.
//!
//! Owns: its HTML, its one stylesheet and script, and what the browser may load.
//! Does not: show more than the status document and its history.
//! Holds: every text is escaped, the tables shown are bounded, and nothing is loaded from elsewhere. Without a script it reloads itself.
//! Fails: never.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use pgoutput::Lsn;
use sha2::{Digest, Sha256};

use crate::cli::text;
use crate::source::held::By;
use crate::status::{
    Document, Sample, SlotStatus, SnapshotProgress, SnapshotStatus, State, TABLE_NEEDS_RESYNC, TableStatus,
};
use crate::wal_budget::Level;

mod curves;

/// The page, and what the browser may do with it.
pub(super) fn answer(document: &Document, history: &[Sample]) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Html(render(document, history))).into_response()
}

fn render(document: &Document, history: &[Sample]) -> String {
    let (pipeline, state) = (escape(&document.pipeline), words(document.state));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{pipeline}: {state}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"{ICON}\"><noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\
         <style>{STYLE}</style></head><body>\
         <div class=\"silence\" role=\"alert\"><p>The daemon does not answer. What is shown is what it said last.</p></div><main>"
    );
    heading(&mut html, document);
    flow(&mut html, document);
    tiles(&mut html, document, history);
    held(&mut html, &document.slot);
    curves::draw(&mut html, history);
    errors(&mut html, document);
    snapshot(&mut html, &document.snapshot);
    tables(&mut html, document);
    let _ = write!(
        html,
        "<footer><a href=\"/metrics\">metrics</a><a href=\"/status.json\">status.json</a><a href=\"/readyz\">readyz</a>\
         <span class=\"version\">Tributary {}</span></footer></main><script>{SCRIPT}</script></body></html>",
        escape(&document.version)
    );
    html
}

fn heading(html: &mut String, document: &Document) {
    let _ = write!(
        html,
        "<header>{MARK}<div><h1>{}</h1><div class=\"where\">{}</div></div><span class=\"state {}\">{}</span></header>",
        escape(&document.pipeline),
        escape(&document.lake),
        mood(document.state),
        words(document.state)
    );
}

/// The way of a row, with how many bytes of log lie between one position and the next.
fn flow(html: &mut String, document: &Document) {
    let now = document.positions;
    // How much the server has that did not come yet is known by its slot alone.
    let written = document.slot.restart_lsn.zip(document.slot.retained_bytes);
    let written = written.map_or(Lsn::ZERO, |(restart, kept)| Lsn(restart.0.saturating_add(kept)));
    let coming = if written > now.received { " moving" } else { "" };
    let sends = if document.state == State::Streaming { "sends" } else { "waits" };
    let _ = write!(
        html,
        "<section class=\"card\" aria-label=\"positions\"><ol class=\"flow\"><li class=\"end{coming}\"><div class=\"step\"><b>Postgres</b>\
         <small>{sends}</small></div></li>"
    );
    let steps = [
        ("received", now.received, written, "read from Postgres"),
        ("cut", now.cut, now.received, "whole transactions"),
        ("logged", now.logged, now.cut, "durable: this decides"),
        ("published", now.published, now.logged, "every reader sees it"),
        ("confirmed", now.confirmed, now.published, "Postgres may forget it"),
    ];
    for (name, position, before, what) in steps {
        let gap = before.0.saturating_sub(position.0);
        let (moving, gap) = if gap == 0 { ("", String::new()) } else { ("moving", text::bytes(gap)) };
        let _ = write!(
            html,
            "<li class=\"{moving}\" id=\"{name}\"><span class=\"gap number\">{gap}</span><div class=\"step\"><b>{name}</b>\
             <span class=\"lsn\">{position}</span><small>{what}</small></div></li>"
        );
    }
    html.push_str("</ol></section>");
}

fn tiles(html: &mut String, document: &Document, history: &[Sample]) {
    html.push_str("<section class=\"tiles\">");
    let seconds = document.lag.seconds.map_or_else(|| "unknown".to_owned(), brief);
    let behind =
        document.lag.bytes.map_or_else(String::new, |bytes| format!("{} not published", text::bytes(bytes)));
    tile(html, "Lag", &seconds, &behind);
    let speed =
        curves::rows_per_second(history).map_or_else(String::new, |rows| format!("{} a second", count(rows)));
    tile(html, "Rows in the lake", &text::grouped(document.rows), &speed);
    let (files, bytes) = document
        .tables
        .iter()
        .fold((0, 0), |(files, bytes), table| (files + table.files, bytes + table.bytes));
    let listed = if document.tables_not_listed > 0 { " of the tables listed" } else { "" };
    tile(html, "Files", &text::grouped(files), &format!("{}{listed}", text::bytes(bytes)));
    kept(html, &document.slot);
    html.push_str("</section>");
}

/// How much log the server keeps for the slot, and how much it may.
fn kept(html: &mut String, slot: &SlotStatus) {
    let bytes = slot.retained_bytes.map_or_else(|| "unknown".to_owned(), text::bytes);
    let mut says = slot.wal_status.clone().unwrap_or_default();
    if let Some(safe) = slot.safe_wal_bytes {
        let _ = write!(says, ", {} until it is lost", text::bytes(safe));
    }
    if let Some(why) = &slot.invalidation {
        let _ = write!(says, ", lost: {why}");
    }
    let name = "WAL that Postgres keeps";
    let Some((retained, budget)) = slot.retained_bytes.zip(slot.budget_bytes.filter(|bytes| *bytes > 0))
    else {
        tile(html, name, &bytes, &says);
        return;
    };
    let percent = u128::from(retained) * 100 / u128::from(budget);
    let _ = write!(
        html,
        "<div class=\"card tile {}\" id=\"budget\"><span>{name}</span><b>{bytes}</b><span>budget: {percent} % of {}</span><span>{}</span></div>",
        budget_mood(slot.level),
        text::bytes(budget),
        escape(&says)
    );
}

fn tile(html: &mut String, name: &str, value: &str, more: &str) {
    let _ = write!(
        html,
        "<div class=\"card tile\"><span>{name}</span><b>{}</b><span>{}</span></div>",
        escape(value),
        escape(more)
    );
}

/// Why so much log is kept, the reason that holds most first, and what ends it. Of a slot that keeps little, nothing.
fn held(html: &mut String, slot: &SlotStatus) {
    if slot.held.is_empty() {
        return;
    }
    html.push_str("<section class=\"card\" id=\"held\"><h2>Why WAL is kept <span class=\"soft\">what holds most first</span></h2><ol class=\"reasons\">");
    for reason in &slot.held {
        let bytes = reason.bytes.map_or_else(String::new, text::bytes);
        let _ = write!(
            html,
            "<li><span class=\"chip {}\">{}</span> <span class=\"soft number\">{bytes}</span><p>{}</p>",
            budget_mood(slot.level),
            holder(reason.by),
            escape(&reason.what)
        );
        if let Some(remedy) = remedy(reason.by) {
            let _ = write!(html, "<p class=\"remedy\">{remedy}</p>");
        }
        html.push_str("</li>");
    }
    html.push_str("</ol>");
    match slot.drop_frees_bytes {
        Some(0) => {
            html.push_str(
                "<p class=\"more\">Dropping the slot would free nothing: another slot keeps as much.</p>",
            );
        }
        Some(frees) => {
            let _ = write!(
                html,
                "<p class=\"more\">Dropping the slot would free at most {}, and the lake could not be continued.</p>",
                text::bytes(frees)
            );
        }
        None => {}
    }
    html.push_str("</section>");
}

fn holder(by: By) -> &'static str {
    match by {
        By::Daemon => "this daemon",
        By::Nobody => "nobody reads the slot",
        By::Transaction => "an open transaction",
        By::PreparedTransaction => "a prepared transaction",
        By::Pending => "nobody any more",
        By::Slot => "another slot",
        By::Feedback => "a standby's queries",
    }
}

/// What ends it, where the reason does not say so itself.
fn remedy(by: By) -> Option<&'static str> {
    match by {
        By::Daemon => Some(
            "It goes as the lake gets on: look at the last errors, the store, the network and the memory budget.",
        ),
        By::Slot => Some("Its owner has to read on, or to drop it."),
        By::Feedback => Some("End the long query at that standby."),
        By::Nobody | By::Transaction | By::PreparedTransaction | By::Pending => None,
    }
}

/// The last errors, the newest first, each with what can be done about it.
fn errors(html: &mut String, document: &Document) {
    if document.errors.is_empty() {
        return;
    }
    let _ = write!(
        html,
        "<section class=\"card\"><h2>Errors <span class=\"soft\">the last {}, the newest first</span></h2><ol class=\"errors\">",
        document.errors.len()
    );
    for error in document.errors.iter().rev() {
        let mends_itself = error.kind == "transient";
        let hint =
            error.hint.as_deref().unwrap_or(if mends_itself { "It is tried again by itself." } else { "" });
        let _ = write!(
            html,
            "<li><span class=\"chip {}\">{}</span> <time class=\"soft number\">{}</time><p>{}</p>",
            if mends_itself { "warn" } else { "bad" },
            escape(&error.kind.replace('_', " ")),
            escape(&moment(&error.at)),
            escape(&error.error)
        );
        if !hint.is_empty() {
            let _ = write!(html, "<p class=\"remedy\">{}</p>", escape(hint));
        }
        html.push_str("</li>");
    }
    html.push_str("</ol></section>");
}

/// How far the rows are read that tables had already, and what was set aside. Of a snapshot that is done and forgotten, nothing.
fn snapshot(html: &mut String, status: &SnapshotStatus) {
    if status.state == "none" {
        return;
    }
    let (running, aside) = (status.running(), status.aside().count());
    let _ = write!(
        html,
        "<section class=\"card\" id=\"snapshot\"><h2>Snapshot <span class=\"chip {}\">{}</span> <span class=\"soft\">{} tables read, {} to go, {aside} set aside</span></h2>",
        if aside > 0 { "warn" } else { "good" },
        escape(&status.state),
        status.done(),
        running.len()
    );
    if running.is_empty() && aside == 0 {
        html.push_str("</section>");
        return;
    }
    html.push_str(
        "<table><thead><tr><th>Table</th><th>Read</th><th></th><th class=\"right\">Rows</th><th class=\"right\">Size</th>\
         <th class=\"right\">Rows a second</th><th class=\"right\">Left</th></tr></thead><tbody>",
    );
    if running.len() > 1 {
        progress(html, "all", &status.total);
    }
    for table in running.iter().take(TABLES_SHOWN) {
        progress(html, &table.table, &table.progress());
    }
    for table in status.aside().take(TABLES_SHOWN) {
        let reason = table.reason.as_deref().unwrap_or("unknown");
        let (name, reason) = (escape(&table.table), escape(reason));
        let _ = write!(
            html,
            "<tr><td class=\"name\">{name}</td><td class=\"wide\" colspan=\"6\"><span class=\"chip warn\">set aside</span> {reason} \
             <span class=\"soft\">Its changes are in the lake. Mend the reason, then: tributary resync {name}</span></td></tr>"
        );
    }
    html.push_str("</tbody></table>");
    if running.len() > TABLES_SHOWN {
        let _ =
            write!(html, "<p class=\"more\">and {} more in /status.json</p>", running.len() - TABLES_SHOWN);
    }
    html.push_str("</section>");
}

fn progress(html: &mut String, name: &str, progress: &SnapshotProgress) {
    let SnapshotProgress { rows, bytes, percent, rows_per_second, eta_seconds } = *progress;
    let name = escape(name);
    let _ = write!(html, "<tr><td class=\"name\">{name}</td>");
    match percent {
        Some(percent) => {
            let _ = write!(
                html,
                "<td class=\"wide\"><progress max=\"100\" value=\"{percent}\" aria-label=\"{name}\"></progress></td><td class=\"right\">{percent:.1} %</td>"
            );
        }
        None => html.push_str("<td class=\"soft\">waits for its turn</td><td></td>"),
    }
    let speed = rows_per_second.map_or_else(String::new, count);
    let left = eta_seconds.map_or_else(String::new, text::duration);
    let (rows, bytes) = (text::grouped(rows), text::bytes(bytes));
    let _ = write!(
        html,
        "<td class=\"right\" data-name=\"rows\">{rows}</td><td class=\"right\" data-name=\"size\">{bytes}</td>\
         <td class=\"right\" data-name=\"rows/s\">{speed}</td><td class=\"right\" data-name=\"left\">{left}</td></tr>"
    );
}

fn tables(html: &mut String, document: &Document) {
    let all = document.tables.len() + document.tables_not_listed;
    let _ = write!(
        html,
        "<section class=\"card\" id=\"tables\"><h2>Tables <span class=\"soft\">{}</span></h2>",
        text::grouped(whole(all))
    );
    if document.tables.is_empty() {
        html.push_str("<p class=\"more\">Nothing is published yet.</p></section>");
        return;
    }
    html.push_str(
        "<table><thead><tr><th>Table</th><th>State</th><th class=\"right\">Rows</th><th class=\"right\">Files</th><th class=\"right\">Size</th></tr></thead><tbody>",
    );
    // What needs somebody first.
    let (needy, well): (Vec<&TableStatus>, Vec<&TableStatus>) =
        document.tables.iter().partition(|table| table.state == TABLE_NEEDS_RESYNC);
    for table in needy.into_iter().chain(well).take(TABLES_SHOWN) {
        row(html, table);
    }
    html.push_str("</tbody></table>");
    let more = all.saturating_sub(TABLES_SHOWN);
    if more > 0 {
        let _ = write!(html, "<p class=\"more\">and {} more</p>", text::grouped(whole(more)));
    }
    html.push_str("</section>");
}

fn row(html: &mut String, table: &TableStatus) {
    let TableStatus { table: name, rows, files, bytes, state, needs_resync } = table;
    let name = escape(name);
    let mood = if state == TABLE_NEEDS_RESYNC { "warn" } else { "good" };
    let _ = write!(html, "<tr><td class=\"name\">{name}");
    for (column, reason) in needs_resync {
        let _ = write!(html, "<span class=\"soft\">{}: {}</span>", escape(column), escape(reason));
    }
    if !needs_resync.is_empty() {
        let _ = write!(html, "<span class=\"soft\">Read it again: tributary resync {name}</span>");
    }
    let (rows, files, bytes) = (text::grouped(*rows), text::grouped(*files), text::bytes(*bytes));
    let _ = write!(
        html,
        "</td><td><span class=\"chip {mood}\">{}</span></td><td class=\"right\" data-name=\"rows\">{rows}</td>\
         <td class=\"right\" data-name=\"files\">{files}</td><td class=\"right\" data-name=\"size\">{bytes}</td></tr>",
        escape(&state.replace('_', " "))
    );
}

fn words(state: State) -> &'static str {
    match state {
        State::WaitingForSlot => "waiting for the slot",
        State::Paused => "paused: waits for the store",
        state => state.label(),
    }
}

fn mood(state: State) -> &'static str {
    match state {
        State::Streaming => "good",
        State::Starting | State::Stopping | State::Paused | State::WaitingForSlot => "warn",
        State::Halted | State::Stopped => "bad",
    }
}

fn budget_mood(level: Level) -> &'static str {
    match level {
        Level::Calm => "",
        Level::High | Level::Tight => "warn",
        Level::Over => "bad",
    }
}

/// A time without what nobody reads: `2026-08-01 10:20:30 UTC`.
fn moment(rfc3339: &str) -> String {
    let end = rfc3339.find('.').unwrap_or(rfc3339.len());
    format!("{} UTC", rfc3339.get(..end).unwrap_or(rfc3339).replace('T', " ").trim_end_matches('Z'))
}

/// A duration by its size: `0.3 s`, `4 min 5 s`.
fn brief(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    text::duration(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs())
}

/// A number that was measured, without what is behind the point if there is much before it.
fn count(number: f64) -> String {
    if number > 0.0 && number < 10.0 {
        return format!("{number:.1}");
    }
    text::grouped(std::time::Duration::try_from_secs_f64(number).unwrap_or_default().as_secs())
}

fn whole(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Only the stylesheet and the script of this page, by their hashes: a script that replaces a part of the page by one of another answer has the same.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        source(SCRIPT),
        source(STYLE)
    )
});

/// What a policy calls a text: <https://www.w3.org/TR/CSP3/#grammardef-hash-source>
fn source(text: &str) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut name = "sha256-".to_owned();
    for three in Sha256::digest(text).chunks(3) {
        let bits =
            three.iter().chain([0, 0].iter()).take(3).fold(0, |bits, byte| (bits << 8) | usize::from(*byte));
        for place in 0..4 {
            let digit = digits.get((bits >> (18 - 6 * place)) & 63).copied().unwrap_or_default();
            name.push(if place > three.len() { '=' } else { char::from(digit) });
        }
    }
    name
}

const TABLES_SHOWN: usize = 200;
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// Streams that become one.
const MARK: &str = "<svg viewBox=\"0 0 32 32\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"3\" stroke-linecap=\"round\" aria-hidden=\"true\">\
<path d=\"M3 6c9 0 8 10 15 10h11M3 16h15M3 26c9 0 8-10 15-10\"/></svg>";
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='none' stroke='%230b6e8f' stroke-width='3' \
stroke-linecap='round'%3E%3Cpath d='M3 6c9 0 8 10 15 10h11M3 16h15M3 26c9 0 8-10 15-10'/%3E%3C/svg%3E";

#[cfg(test)]
mod tests;
