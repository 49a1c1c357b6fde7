//! The status page: the status document as a table for people.
//!
//! Owns: its HTML; no script, no other file, reloads itself.
//! Does not: show more than the status document.
//! Holds: every text is escaped, and the tables shown are bounded.
//! Fails: never.

use std::fmt::Write as _;

use crate::status::{Document, SnapshotProgress, SnapshotStatus};

/// The page.
pub(super) fn render(document: &Document) -> String {
    let mut html = String::from(HEAD);
    let positions = document.positions;
    let _ = write!(
        html,
        "<h1>Tributary <small>{}</small></h1><p>{} &rarr; {} &middot; <b>{}</b></p>",
        escape(&document.version),
        escape(&document.pipeline),
        escape(&document.lake),
        document.state.label()
    );
    let rows = [
        ("received", positions.received.to_string()),
        ("cut", positions.cut.to_string()),
        ("logged", positions.logged.to_string()),
        ("published", positions.published.to_string()),
        ("confirmed", positions.confirmed.to_string()),
        ("lag", document.lag.to_string()),
        (
            "kept by the slot",
            document.slot.retained_bytes.map_or_else(String::new, |bytes| format!("{bytes} bytes")),
        ),
    ];
    html.push_str("<table>");
    for (name, value) in rows {
        let _ = write!(html, "<tr><th>{name}<td>{value}");
    }
    html.push_str("</table>");
    snapshot(&mut html, &document.snapshot);
    html.push_str("<h2>Tables</h2><table><tr><th>table<th>rows<th>files<th>bytes");
    for table in document.tables.iter().take(TABLES_SHOWN) {
        let name = escape(&table.table);
        let _ = write!(html, "<tr><td>{name}<td>{}<td>{}<td>{}", table.rows, table.files, table.bytes);
    }
    html.push_str("</table>");
    let more = document.tables.len().saturating_sub(TABLES_SHOWN) + document.tables_not_listed;
    if more > 0 {
        let _ = write!(html, "<p>and {more} more");
    }
    if !document.errors.is_empty() {
        html.push_str("<h2>Errors</h2><table>");
        for error in document.errors.iter().rev() {
            let (kind, text) = (escape(&error.kind), escape(&error.error));
            let _ = write!(html, "<tr><td>{}<td>{kind}<td>{text}", escape(&error.at));
        }
        html.push_str("</table>");
    }
    html.push_str("<p><a href=/metrics>metrics</a> <a href=/status.json>status.json</a>");
    html
}

/// How far the rows are read that tables had already, and what was set aside. Of a snapshot that is done and forgotten, nothing.
fn snapshot(html: &mut String, status: &SnapshotStatus) {
    if status.state == "none" {
        return;
    }
    let (running, aside) = (status.running(), status.aside().count());
    let _ = write!(
        html,
        "<h2>Snapshot <small>{}</small></h2><p>{} tables read, {} to go, {aside} set aside",
        escape(&status.state),
        status.done(),
        running.len()
    );
    if running.is_empty() && aside == 0 {
        return;
    }
    html.push_str("<table><tr><th>table<th>read<th><th>rows<th>bytes<th>rows/s<th>left");
    if running.len() > 1 {
        progress(html, "all", &status.total);
    }
    for table in running.iter().take(TABLES_SHOWN) {
        progress(html, &table.table, &table.progress());
    }
    for table in status.aside().take(TABLES_SHOWN) {
        let reason = table.reason.as_deref().unwrap_or("unknown");
        let (name, reason) = (escape(&table.table), escape(reason));
        let _ = write!(html, "<tr><td>{name}<td colspan=6>set aside: {reason}");
    }
    html.push_str("</table>");
    if running.len() > TABLES_SHOWN {
        let _ = write!(html, "<p>and {} more in /status.json", running.len() - TABLES_SHOWN);
    }
}

fn progress(html: &mut String, name: &str, progress: &SnapshotProgress) {
    let SnapshotProgress { rows, bytes, percent, rows_per_second, eta_seconds } = progress;
    let read = percent.map_or_else(
        || "waits<td>".to_owned(),
        |percent| format!("<progress max=100 value={percent}></progress><td>{percent:.1} %"),
    );
    let speed = rows_per_second.map_or_else(String::new, |rows| format!("{rows:.0}"));
    let left = eta_seconds.map_or_else(String::new, |seconds| {
        format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
    });
    let name = escape(name);
    let _ = write!(html, "<tr><td>{name}<td>{read}<td>{rows}<td>{bytes}<td>{speed}<td>{left}");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const TABLES_SHOWN: usize = 200;
const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5><title>Tributary</title>\
<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}\
table{border-collapse:collapse}th,td{text-align:left;padding:.2em 1.5em .2em 0;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}\
small{font-weight:normal;color:#777}</style>";
