use std::io;
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;
use lake::log::TableSnapshot;

use super::*;
use crate::config::Config;
use crate::status::SnapshotTable;

/// A terminal that remembers what is on it.
#[derive(Clone, Debug, Default)]
struct Screen(Arc<Mutex<Cells>>);

#[derive(Debug, Default)]
struct Cells {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    in_escape: bool,
}

impl Screen {
    fn change(&self, change: impl FnOnce(&mut Cells)) -> io::Result<()> {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn text(&self) -> String {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = cells.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }
}

impl Cells {
    fn put(&mut self, character: char) {
        if self.in_escape {
            self.in_escape = !character.is_ascii_alphabetic();
            return;
        }
        match character {
            '\x1b' => self.in_escape = true,
            '\n' => (self.row, self.column) = (self.row + 1, 0),
            '\r' => self.column = 0,
            character => {
                // A full line goes on in the next one with the next character, as on every terminal.
                if self.column == WIDTH {
                    (self.row, self.column) = (self.row + 1, 0);
                }
                while self.lines.len() <= self.row {
                    self.lines.push(Vec::new());
                }
                let line = &mut self.lines[self.row];
                line.resize(line.len().max(self.column + 1), ' ');
                line[self.column] = character;
                self.column += 1;
            }
        }
    }
}

const WIDTH: usize = 120;

impl TermLike for Screen {
    fn width(&self) -> u16 {
        u16::try_from(WIDTH).expect("it fits")
    }

    fn height(&self) -> u16 {
        24
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.change(|cells| cells.row = cells.row.saturating_sub(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.change(|cells| cells.row += n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.change(|cells| cells.column += n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.change(|cells| cells.column = cells.column.saturating_sub(n))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.change(|cells| cells.put('\n'))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.change(|cells| text.chars().for_each(|character| cells.put(character)))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.change(|cells| {
            cells.column = 0;
            if let Some(line) = cells.lines.get_mut(cells.row) {
                line.clear();
            }
        })
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn target(screen: &Screen) -> MultiProgress {
    MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255))
}

#[test]
fn bars_stay_below_the_log() {
    let screen = Screen::default();
    let target = target(&screen);
    let shared = Shared::new(&Config::default());
    let mut bars = Bars::new(target.clone());
    let log = |text: &str| target.suspend(|| screen.write_line(text)).expect("written");
    log("started");
    bars.show(&shared.snapshot_status());
    assert_eq!(screen.text(), "started", "nothing is read yet");
    shared.snapshot_begun("public.orders", 2, 1_000);
    shared.snapshot_begun("public.customers", 4, 3_000);
    bars.show(&shared.snapshot_status());
    log("reading");
    shared.snapshot_chunk("public.orders", 1_234, 4_096);
    bars.show(&shared.snapshot_status());
    log("published a cut");
    let text = screen.text();
    let lines: Vec<&str> = text.lines().collect();
    let [first, second, third, all, orders, customers] = *lines else { panic!("other lines:\n{text}") };
    assert_eq!([first, second, third], ["started", "reading", "published a cut"]);
    let begins = |line: &str, with: &str| assert!(line.starts_with(with), "{line}\n{with}");
    begins(all, "  snapshot, 2 to go  ██░░░░░░░░░░░░░░   12.5 %");
    begins(orders, "  public.orders      ████████░░░░░░░░   50.0 %");
    begins(customers, "  public.customers   ░░░░░░░░░░░░░░░░    0.0 %");
    assert!(orders.contains("1,234 rows     4.0 KiB"), "{orders}");
    shared.snapshot_ended("public.orders", 2_000, None);
    shared.snapshot_ended("public.customers", 0, Some("permission denied"));
    bars.show(&shared.snapshot_status());
    log("done");
    assert_eq!(screen.text(), "started\nreading\npublished a cut\ndone");
}

#[test]
fn bars_are_gone_when_the_daemon_ends() {
    let screen = Screen::default();
    let shared = Shared::new(&Config::default());
    let mut bars = Bars::new(target(&screen));
    shared.snapshot_begun("public.orders", 2, 1_000);
    bars.show(&shared.snapshot_status());
    assert!(screen.text().contains("public.orders"));
    drop(bars);
    assert_eq!(screen.text(), "");
}

#[test]
fn of_many_tables_some_are_shown() {
    let table = |number: u64, chunks_done| SnapshotTable {
        chunks: Some(8),
        chunks_done: Some(chunks_done),
        ..SnapshotTable::logged(&TableSnapshot {
            table: format!("s.t{number:04}"),
            ..TableSnapshot::default()
        })
    };
    let waiting = (0..1_000).map(|number| table(number, 0));
    let at_work = (1_000..1_002).map(|number| table(number, 1));
    let lines = lines(&SnapshotStatus::of(waiting.chain(at_work).collect()));
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["snapshot, 1,002 to go", "s.t1000", "s.t1001", "s.t0000", "s.t0001", "s.t0002"]);
}

#[test]
fn a_line_says_what_there_is_to_say() {
    let progress = SnapshotProgress {
        rows: 1_500_000,
        bytes: 5 << 30,
        percent: Some(50.0),
        rows_per_second: Some(99_999.6),
        eta_seconds: Some(3_725),
    };
    assert_eq!(
        line("a_schema.a_table_whose_name_is_rather_long", &progress),
        Line {
            name: "…ble_whose_name_is_rather_long".to_owned(),
            percent: 50.0,
            words: " 50.0 %   1 h 2 min left     99,999 rows/s    1,500,000 rows     5.0 GiB".to_owned(),
        }
    );
}
