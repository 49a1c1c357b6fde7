use super::*;
use crate::config::Config;
use crate::source::held::Held;
use crate::status::ErrorStatus;

const NASTY: &str = "<img src=x onerror=alert(1)>\"'&";

/// Everything that comes from the database, the store or the configuration.
fn nasty() -> Document {
    let mut config = Config::default();
    config.source.slot = NASTY.to_owned();
    config.lake.url = NASTY.to_owned();
    let mut document = Document::new(&config, State::Streaming);
    document.tables.push(TableStatus {
        state: TABLE_NEEDS_RESYNC.to_owned(),
        needs_resync: [(NASTY.to_owned(), NASTY.to_owned())].into(),
        ..TableStatus::new(NASTY.to_owned())
    });
    document.errors.push(ErrorStatus {
        at: NASTY.to_owned(),
        kind: NASTY.to_owned(),
        error: NASTY.to_owned(),
        hint: Some(NASTY.to_owned()),
    });
    document.slot.wal_status = Some(NASTY.to_owned());
    document.slot.invalidation = Some(NASTY.to_owned());
    document.slot.held.push(Held { by: By::Slot, bytes: Some(1), what: NASTY.to_owned() });
    document.version = NASTY.to_owned();
    document
}

#[test]
fn every_text_is_escaped() {
    let html = render(&nasty(), &[]);
    assert!(!html.contains("<img") && !html.contains("onerror=alert(1)>\""), "{html}");
    let escaped = "&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;";
    // Title, slot, lake, the slot's state twice, who holds its log, the table and its remedy, column and reason, an error's four, the version.
    assert_eq!(html.matches(escaped).count(), 15, "{html}");
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let html = render(&nasty(), &[]);
    for word in ["src=\"", "http://", "https://", "@import", "url(", "style=\""] {
        let known = html.replace("xmlns='http://www.w3.org/2000/svg'", "");
        assert!(!known.contains(word), "{word}");
    }
    assert_eq!(html.matches("<script>").count(), 1);
}

#[test]
fn the_way_shows_what_lies_between() {
    let mut document = Document::new(&Config::default(), State::Streaming);
    document.positions.received = Lsn(0x5000);
    document.positions.cut = Lsn(0x4c00);
    document.positions.logged = Lsn(0x4c00);
    document.positions.published = Lsn(0x4c00);
    document.positions.confirmed = Lsn(0x2c00);
    let html = render(&document, &[]);
    let step = |class: &str, name: &str, gap: &str, lsn: &str| {
        format!(
            "<li class=\"{class}\" id=\"{name}\"><span class=\"gap number\">{gap}</span><div class=\"step\"><b>{name}</b><span class=\"lsn\">{lsn}</span>"
        )
    };
    for expected in [
        step("", "received", "", "0/5000"),
        step("moving", "cut", "1.0 KiB", "0/4C00"),
        step("", "logged", "", "0/4C00"),
        step("", "published", "", "0/4C00"),
        step("moving", "confirmed", "8.0 KiB", "0/2C00"),
    ] {
        assert!(html.contains(&expected), "no {expected} in {html}");
    }
}

#[test]
fn of_very_many_tables_some_are_shown_and_those_that_need_something() {
    let mut document = Document::new(&Config::default(), State::Streaming);
    for number in 0..TABLES_SHOWN + 7 {
        document.tables.push(TableStatus::new(format!("public.t{number:04}")));
    }
    document.tables.push(TableStatus {
        state: TABLE_NEEDS_RESYNC.to_owned(),
        ..TableStatus::new("public.z".to_owned())
    });
    document.tables_not_listed = 5;
    let html = render(&document, &[]);
    assert_eq!(html.matches("<td class=\"name\">").count(), TABLES_SHOWN);
    assert!(html.contains("<td class=\"name\">public.z"));
    assert!(html.contains("and 13 more"), "{html}");
}

#[test]
fn an_error_that_mends_itself_says_so() {
    let mut document = Document::new(&Config::default(), State::Starting);
    document.errors.push(ErrorStatus {
        at: "2026-08-01T10:20:30.123456Z".to_owned(),
        kind: "transient".to_owned(),
        error: "the server is gone".to_owned(),
        hint: None,
    });
    let html = render(&document, &[]);
    assert!(html.contains("2026-08-01 10:20:30 UTC"), "{html}");
    assert!(
        html.contains("<p>the server is gone</p><p class=\"remedy\">It is tried again by itself.</p>"),
        "{html}"
    );
}

#[test]
fn a_policy_names_texts_as_browsers_do() {
    // The first is what a browser says of an empty text.
    assert_eq!(source(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    let html = render(&nasty(), &[]);
    assert!(
        html.contains(&format!("<style>{STYLE}</style>"))
            && html.contains(&format!("<script>{SCRIPT}</script>"))
    );
}

/// What is shown of a slot with a budget of 10 GiB.
fn slot_of(retained_bytes: Option<u64>, level: Level) -> String {
    let mut document = Document::new(&Config::default(), State::Streaming);
    document.slot.wal_status = Some("reserved".to_owned());
    document.slot.budget_bytes = Some(10 << 30);
    (document.slot.retained_bytes, document.slot.level) = (retained_bytes, level);
    render(&document, &[])
}

#[test]
fn a_budget_is_shown_with_a_mood() {
    for (retained, level, class, percent) in [
        (1 << 30, Level::Calm, "", 10),
        (7 << 30, Level::High, "warn", 70),
        (9 << 30, Level::Tight, "warn", 90),
        (20 << 30, Level::Over, "bad", 200),
    ] {
        let html = slot_of(Some(retained), level);
        let tile = format!(
            "<div class=\"card tile {class}\" id=\"budget\"><span>WAL that Postgres keeps</span><b>{}</b>\
             <span>budget: {percent} % of 10.0 GiB</span><span>reserved</span></div>",
            text::bytes(retained)
        );
        assert!(html.contains(&tile), "no {tile} in {html}");
    }
    // Nobody knows what is used while the source cannot be asked, whatever was known before.
    let unknown = slot_of(None, Level::Tight);
    assert!(!unknown.contains("budget:"), "{unknown}");
    assert!(unknown.contains("<span>WAL that Postgres keeps</span><b>unknown</b>"), "{unknown}");
}

#[test]
fn who_holds_the_log_is_shown_with_what_ends_it() {
    let mut document = Document::new(&Config::default(), State::Streaming);
    assert!(!render(&document, &[]).contains("Why WAL is kept"));
    document.slot.level = Level::High;
    document.slot.drop_frees_bytes = Some(0);
    for (by, bytes, what) in [
        (By::Daemon, Some(3 << 30), "this daemon: the stream has not brought it yet"),
        (By::Slot, Some(2 << 30), "slot `elsewhere` (of a standby, in use)"),
        (By::Feedback, None, "slot `replica` keeps rows"),
    ] {
        document.slot.held.push(Held { by, bytes, what: what.to_owned() });
    }
    let html = render(&document, &[]);
    for expected in [
        "<span class=\"chip warn\">this daemon</span> <span class=\"soft number\">3.0 GiB</span><p>this daemon: the stream has not brought it yet</p><p class=\"remedy\">It goes as",
        "<p>slot `elsewhere` (of a standby, in use)</p><p class=\"remedy\">Its owner has to read on, or to drop it.</p>",
        "<span class=\"soft number\"></span><p>slot `replica` keeps rows</p>",
        "would free nothing: another slot keeps as much",
    ] {
        assert!(html.contains(expected), "no {expected} in {html}");
    }
}
