//! What a terminal shows at the end of all that it was sent.
//!
//! Owns: the few control sequences that progress bars and log lines use.
//! Does not: scroll; lines that went off the top are kept.
//! Holds: a line that is full goes on in the next one with the next character, as on every terminal.
//! Fails: never; a sequence that is not known changes nothing.

/// The lines, without the spaces at their ends.
pub fn shown(sent: &str, columns: usize) -> Vec<String> {
    let mut screen = Screen { columns, ..Screen::default() };
    let mut characters = sent.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => screen.control(&mut characters),
            '\n' => screen.row += 1,
            '\r' => screen.column = 0,
            character => screen.put(character),
        }
    }
    screen.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
}

#[derive(Default)]
struct Screen {
    columns: usize,
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    /// `ESC [ number letter`
    fn control(&mut self, characters: &mut impl Iterator<Item = char>) {
        if characters.next() != Some('[') {
            return;
        }
        let mut number = String::new();
        for character in characters {
            if !character.is_ascii_alphabetic() {
                number.push(character);
                continue;
            }
            let count = number.parse().unwrap_or(1);
            match character {
                'A' => self.row = self.row.saturating_sub(count),
                'B' => self.row += count,
                'C' => self.column += count,
                'D' => self.column = self.column.saturating_sub(count),
                'K' => self.line().clear(),
                _ => {}
            }
            return;
        }
    }

    fn put(&mut self, character: char) {
        if self.column >= self.columns {
            (self.row, self.column) = (self.row + 1, 0);
        }
        let column = self.column;
        let line = self.line();
        line.resize(line.len().max(column + 1), ' ');
        if let Some(cell) = line.get_mut(column) {
            *cell = character;
        }
        self.column += 1;
    }

    fn line(&mut self) -> &mut Vec<char> {
        self.lines.resize(self.lines.len().max(self.row + 1), Vec::new());
        self.lines.get_mut(self.row).expect("it was made if it was not there")
    }
}
