//! Runs golden scripts through the fold: real wire bytes in, changes as text out.
//!
//! Owns: the words of a script, and how a change is printed.
//! Does not: know what is right; the script's second half does.
//! Holds: every message is encoded and decoded again before it is applied.
//! Fails: panics with the line that it cannot read.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use pgoutput::encode::{TupleBuilder, encode};
use pgoutput::{
    Begin, Cell, Commit, Decoder, Delete, Insert, Logical, Lsn, Message, Oid, OldTuple, Options, Origin,
    PgTimestamp, Relation, RelationColumn, ReplicaIdentity, Truncate, Type, Update, Xid,
};

use super::super::{ByTable, Fold, FoldEvent, FoldSettings, Folded, Pattern, Patterns, Selection};
use crate::batch::BatchBuilder;
use crate::change::{Change, Image, TxStamp};
use crate::lineage::{ColumnFacts, Facts, LeafFacts, Link, RootFacts};
use crate::schema::{BEFORE_COLUMN, ColumnSpec, TableSchema};
use crate::types::{TypeCatalog, TypeFacts, TypeKind, TypeRules};

/// What a script prints.
pub(super) fn run(script: &str) -> String {
    let mut runner = Runner::default();
    for line in script.lines() {
        let words = words(line);
        if let Some((command, arguments)) = words.split_first() {
            runner.line(command, &Words { line, words: arguments });
        }
    }
    runner.output
}

#[derive(Default)]
struct Runner {
    fold: Option<Fold>,
    /// The last frame, for `again`.
    frame: Vec<u8>,
    final_lsn: Lsn,
    /// What the catalogs say of the columns of a relation: `columns`, or else what was announced of it. A root that is never announced
    /// has all columns of all.
    columns: HashMap<Oid, Vec<ColumnFacts>>,
    announced: HashMap<Oid, Vec<ColumnFacts>>,
    all: Vec<ColumnFacts>,
    /// What the catalogs said after a recording: how a question of recorded messages is answered.
    later: Vec<Facts>,
    output: String,
}

/// Who answers a question about relations and types: the next lines, or what the catalogs said after the recording.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Script,
    Catalogs,
}

/// The words after a command.
struct Words<'s> {
    line: &'s str,
    words: &'s [String],
}

impl Runner {
    fn line(&mut self, command: &str, words: &Words<'_>) {
        match command {
            "settings" => self.fold = Some(Fold::new(words.settings())),
            "session" => {
                let resume_lsn = words.at(0).parse().unwrap();
                self.fold().start_session(resume_lsn);
            }
            "table" => {
                let ((schema, name), columns) = (words.name(1), words.columns(false));
                let specs: Vec<ColumnSpec> = columns.iter().map(spec).collect();
                let key = words.list("key");
                self.fold().restore_table(words.oid(0), schema, name, TableSchema::new(&specs, key));
            }
            "root" | "leaf" | "type" | "gone" => {
                self.fold().learn(words.facts(command));
                self.events();
            }
            "columns" => {
                self.columns.insert(words.oid(0), words.column_facts());
            }
            "later" => match words.at(0) {
                "columns" => {
                    self.columns.insert(words.after().oid(0), words.after().column_facts());
                }
                what => self.later.push(words.after().facts(what)),
            },
            "again" => self.apply_frame(Answers::Script),
            // The position in the header of the message is for people: nothing may depend on it (T01, T04).
            "wal" => {
                self.frame = bytes(words.after().words);
                self.apply_frame(Answers::Catalogs);
            }
            "relation" | "typemessage" | "begin" | "commit" | "insert" | "update" | "delete" | "truncate"
            | "origin" | "message" | "streamstop" => self.message(command, words),
            other => panic!("no command `{other}` in `{}`", words.line),
        }
    }

    fn message(&mut self, command: &str, words: &Words<'_>) {
        match command {
            "relation" => {
                let (schema, name) = words.name(1);
                let identity = words.identity_word(2);
                let columns = words.columns(identity == ReplicaIdentity::Full);
                self.announced.insert(words.oid(0), as_facts(&columns));
                for column in as_facts(&columns) {
                    let attnum = i16::try_from(self.all.len() + 1).unwrap();
                    if self.all.iter().all(|known| known.name != column.name) {
                        self.all.push(ColumnFacts { attnum, ..column });
                    }
                }
                self.apply(&Message::Relation(Relation {
                    xid: None,
                    oid: words.oid(0),
                    namespace: &schema,
                    name: &name,
                    replica_identity: identity,
                    columns: columns
                        .iter()
                        .map(|(name, type_oid, type_modifier, is_identity)| RelationColumn {
                            is_identity: *is_identity,
                            name,
                            type_oid: *type_oid,
                            type_modifier: *type_modifier,
                        })
                        .collect(),
                }));
            }
            "typemessage" => {
                let (namespace, name) = words.name(1);
                self.apply(&Message::Type(Type {
                    xid: None,
                    oid: words.oid(0),
                    namespace: &namespace,
                    name: &name,
                }));
            }
            "begin" => {
                self.final_lsn = words.at(1).parse().unwrap();
                let xid = Xid(words.at(0).parse().unwrap());
                self.apply(&Message::Begin(Begin { final_lsn: self.final_lsn, commit_time: TIME, xid }));
            }
            "commit" => {
                let end_lsn = words.at(0).parse().unwrap();
                let commit_lsn = words.words.get(1).map_or(self.final_lsn, |lsn| lsn.parse().unwrap());
                self.apply(&Message::Commit(Commit { commit_lsn, end_lsn, commit_time: TIME }));
            }
            "truncate" => {
                let flag = |flag: &str| words.words.iter().any(|word| word == flag);
                let relations =
                    words.words.iter().filter_map(|word| word.parse().ok()).map(Oid).collect::<Vec<_>>();
                self.apply(&Message::Truncate(Truncate {
                    xid: None,
                    cascade: flag("cascade"),
                    restart_identity: flag("restart"),
                    relations,
                }));
            }
            "origin" => {
                self.apply(&Message::Origin(Origin { commit_lsn: Lsn(0x90), name: words.at(0) }));
            }
            "message" => self.apply(&Message::Logical(Logical {
                xid: None,
                transactional: words.at(0) == "transactional",
                lsn: words.at(1).parse().unwrap(),
                prefix: words.at(2),
                content: words.at(3).as_bytes(),
            })),
            "streamstop" => self.apply(&Message::StreamStop),
            _ => self.row_message(command, words),
        }
    }

    fn row_message(&mut self, command: &str, words: &Words<'_>) {
        let relation = words.oid(0);
        let cells = &words.words[1..];
        let (old, new) = match cells.iter().position(|cell| cell == "|") {
            Some(bar) => (&cells[..bar], &cells[bar + 1..]),
            None if command == "delete" => (cells, &cells[..0]),
            None => (&cells[..0], cells),
        };
        let (kind, old) = match old.split_first() {
            Some((kind, old)) => (Some(kind.as_str()), tuple(old)),
            None => (None, tuple(&[])),
        };
        let old = match kind {
            Some("K") => Some(OldTuple::Key(old.tuple())),
            Some("O") => Some(OldTuple::Full(old.tuple())),
            Some(other) => panic!("`{other}` is neither K nor O in `{}`", words.line),
            None => None,
        };
        let new = tuple(new);
        let (xid, new) = (None, new.tuple());
        self.apply(&match command {
            "insert" => Message::Insert(Insert { xid, relation, new }),
            "update" => Message::Update(Update { xid, relation, old, new }),
            "delete" => Message::Delete(Delete { xid, relation, old: old.unwrap() }),
            other => panic!("no message `{other}`"),
        });
    }

    fn apply(&mut self, message: &Message<'_>) {
        self.frame.clear();
        encode(message, false, &mut self.frame);
        self.apply_frame(Answers::Script);
    }

    fn apply_frame(&mut self, answers: Answers) {
        let frame = std::mem::take(&mut self.frame);
        let mut decoder = Decoder::new(Options { proto_version: 4, streaming_parallel: false });
        // Outside of a stream block a stop is an error of the decoder's, and here of the fold's.
        let message =
            if frame.first() == Some(&b'E') { Message::StreamStop } else { decoder.decode(&frame).unwrap() };
        self.fold();
        let fold = self.fold.as_mut().unwrap();
        let mut changes = String::new();
        for round in 0.. {
            assert!(round < 10, "it asks for ever: {changes}");
            match fold.apply(&message) {
                // Questions about columns are answered at once; others are the script's.
                Ok(Folded::NeedFacts { relations, types, columns })
                    if relations.is_empty() && types.is_empty() =>
                {
                    let told = |oid: &Oid| self.columns.get(oid).or(self.announced.get(oid));
                    let answer_columns = |oid: &Oid| told(oid).unwrap_or(&self.all).clone();
                    let asked = columns;
                    let columns = asked.iter().map(|oid| (*oid, answer_columns(oid))).collect();
                    fold.learn(Facts { columns, ..Facts::default() });
                    if answers == Answers::Catalogs {
                        fold.learn(answer(&self.later, &asked, &[]));
                    }
                    continue;
                }
                Ok(folded) => {
                    print(&folded, &mut changes);
                    if let (Folded::NeedFacts { relations, types, .. }, Answers::Catalogs) = (folded, answers)
                    {
                        fold.learn(answer(&self.later, &relations, &types));
                        continue;
                    }
                }
                Err(error) => writeln!(changes, "error: {error}").unwrap(),
            }
            break;
        }
        self.events();
        self.output.push_str(&changes);
        self.frame = frame;
    }

    fn fold(&mut self) -> &mut Fold {
        self.fold.get_or_insert_with(|| Fold::new(Words { line: "", words: &[] }.settings()))
    }

    fn events(&mut self) {
        let fold = self.fold.as_mut().unwrap();
        for event in fold.take_events() {
            let name = |table| {
                let table = fold.table(table);
                format!("{}.{}", table.schema_name, table.name)
            };
            let output = &mut self.output;
            match event {
                FoldEvent::TableAppeared { table } => {
                    let schema = &fold.table(table).current;
                    let columns: Vec<&str> =
                        schema.columns.iter().map(|column| column.name.as_str()).collect();
                    let (columns, key) = (columns.join(" "), schema.key.join(" "));
                    writeln!(output, "event table {} v{} ({columns}) key ({key})", name(table), schema.id)
                }
                FoldEvent::SchemaChanged { table, from, to } => {
                    let schema = &fold.table(table).current;
                    let columns: Vec<String> = schema
                        .columns
                        .iter()
                        .map(|column| format!("{}{}", if column.dropped { "-" } else { "" }, column.name))
                        .collect();
                    let (columns, key) = (columns.join(" "), schema.key.join(" "));
                    writeln!(output, "event schema {} v{from} -> v{to} ({columns}) key ({key})", name(table))
                }
                FoldEvent::Renamed { table, schema_name, name: now } => {
                    writeln!(output, "event renamed {} is {schema_name}.{now}", name(table))
                }
                FoldEvent::Stale { table, stale } => {
                    writeln!(
                        output,
                        "event stale {} {}: {}",
                        name(table),
                        stale.column,
                        stale.reason.as_str()
                    )
                }
                FoldEvent::Truncated { table, relation, lsn } => {
                    writeln!(output, "event truncated {relation} of {} at {lsn}", name(table))
                }
                FoldEvent::TruncatedAlone { table } => {
                    writeln!(output, "event truncated {} without its leaves", name(table))
                }
                FoldEvent::Lineage { root, leaves } => {
                    let leaves: Vec<String> =
                        leaves.into_iter().map(|(oid, name)| format!("{oid} {name}")).collect();
                    writeln!(output, "event lineage {root}: {}", leaves.join(", "))
                }
                FoldEvent::Group { table, relation, column, problem } => {
                    writeln!(output, "event group {column} of {}: {problem:?} in {relation}", name(table))
                }
                FoldEvent::Orphan { oid, name } => writeln!(output, "event orphan {oid} {name}"),
                FoldEvent::IdentityDiffers { root, leaf } => {
                    writeln!(output, "event identity of {leaf} differs from its root's {root}")
                }
            }
            .unwrap();
        }
    }
}

impl<'s> Words<'s> {
    /// Those behind the first.
    fn after(&self) -> Words<'s> {
        Words { line: self.line, words: &self.words[1..] }
    }

    fn at(&self, at: usize) -> &str {
        self.words
            .get(at)
            .unwrap_or_else(|| panic!("word {at} is missing after the command in `{}`", self.line))
    }

    fn oid(&self, at: usize) -> Oid {
        Oid(self.at(at).parse().unwrap_or_else(|_| panic!("word {at} is not an OID in `{}`", self.line)))
    }

    fn name(&self, at: usize) -> (String, String) {
        let (schema, name) = self.at(at).split_once('.').unwrap_or(("", self.at(at)));
        (schema.to_owned(), name.to_owned())
    }

    /// The value of `name=value`.
    fn option(&self, name: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn list(&self, name: &str) -> Vec<String> {
        let list = self.option(name).unwrap_or_default().split(',').filter(|word| !word.is_empty());
        list.map(str::to_owned).collect()
    }

    fn settings(&self) -> FoldSettings {
        let include =
            self.option("include").unwrap_or("*.*").split(',').map(str::to_owned).collect::<Vec<_>>();
        FoldSettings {
            selection: Selection::new(&include, &self.list("exclude")).unwrap(),
            before: Selection::new(&self.list("before"), &[]).unwrap(),
            fold_to_root: self.option("fold") != Some("none"),
            patterns: Patterns::new(self.patterns(), std::iter::empty()),
            mark_truncate: ByTable::same(self.option("truncate") != Some("keep")),
            types: TypeRules::default(),
        }
    }

    /// In quotation marks: an expression, and where it leads.
    fn patterns(&self) -> Vec<Pattern> {
        let quoted = self.words.iter().filter_map(|word| word.strip_prefix('"'));
        let pattern = |(expression, into): (&str, &str)| Pattern::new(expression, into).unwrap();
        quoted.filter_map(|text| text.split_once(' ')).map(pattern).collect()
    }

    fn identity_word(&self, at: usize) -> ReplicaIdentity {
        identity(self.at(at)).unwrap_or_else(|| panic!("word {at} is no replica identity in `{}`", self.line))
    }

    /// The columns in parentheses: name, type, flag.
    fn columns(&self, all_flagged: bool) -> Vec<ColumnWords> {
        let open = self.words.iter().position(|word| word == "(").unwrap();
        let close = self.words.iter().position(|word| word == ")").unwrap();
        let columns =
            self.words[open + 1..close].split(|word| word == ",").filter(|column| !column.is_empty());
        columns
            .map(|column| {
                let (oid, modifier) = column[1].split_once(':').unwrap_or((&column[1], "-1"));
                let oid = match oid {
                    "bool" => 16,
                    "bytea" => 17,
                    "int8" => 20,
                    "int4" => 23,
                    "text" => 25,
                    "timestamptz" => 1184,
                    "numeric" => 1700,
                    other => other.parse().unwrap(),
                };
                (column[0].clone(), Oid(oid), modifier.parse().unwrap(), all_flagged || column.len() > 2)
            })
            .collect()
    }

    /// `name=attnum`, `name=attnum:missing` or `name=attnum!` for a default that older rows may not have.
    fn column_facts(&self) -> Vec<ColumnFacts> {
        let columns = self.words.iter().skip(1).map(|word| {
            let (name, rest) = word.split_once('=').unwrap();
            let (rest, missing) =
                rest.split_once(':').map_or((rest, None), |(rest, text)| (rest, Some(text)));
            let has_default = missing.is_some() || rest.ends_with('!');
            let attnum = rest.trim_end_matches('!').parse().unwrap();
            ColumnFacts {
                name: name.to_owned(),
                attnum,
                missing: missing.map(str::to_owned),
                has_default,
                is_generated: false,
            }
        });
        columns.collect()
    }

    fn facts(&self, command: &str) -> Facts {
        let mut facts = Facts::default();
        if command == "gone" {
            facts.gone = (0..self.words.len()).map(|at| self.oid(at)).collect();
            return facts;
        }
        let (oid, (schema, name)) = (self.oid(0), self.name(1));
        let replica_identity =
            self.option("identity").map_or(ReplicaIdentity::Default, |word| identity(word).unwrap());
        match command {
            "root" => {
                let primary_key = self.list("key");
                facts.roots.push(RootFacts { oid, schema, name, primary_key, replica_identity });
            }
            "leaf" => {
                assert_eq!(self.at(2), "of");
                let link = if self.option("link") == Some("rule") { Link::Rule } else { Link::Partition };
                facts.leaves.push(LeafFacts { oid, schema, name, root: self.oid(3), link, replica_identity });
            }
            "type" => {
                let kind = match self.at(2) {
                    "enum" => TypeKind::Enum,
                    "domain" => {
                        TypeKind::Domain { base: self.oid(3), type_modifier: self.at(4).parse().unwrap() }
                    }
                    "array" => TypeKind::Array { element: self.oid(3) },
                    other => panic!("no kind of type `{other}`"),
                };
                facts.types.push(TypeFacts { oid, schema, name, kind });
            }
            other => panic!("no facts `{other}`"),
        }
        facts
    }
}

type ColumnWords = (String, Oid, i32, bool);

/// A table that never changed has its columns in the order of their numbers.
fn as_facts(columns: &[ColumnWords]) -> Vec<ColumnFacts> {
    let facts = |(at, (name, ..)): (usize, &ColumnWords)| {
        let attnum = i16::try_from(at + 1).unwrap();
        ColumnFacts { name: name.clone(), attnum, missing: None, has_default: false, is_generated: false }
    };
    columns.iter().enumerate().map(facts).collect()
}

fn spec((name, type_oid, type_modifier, _): &ColumnWords) -> ColumnSpec {
    ColumnSpec {
        name: name.clone(),
        type_oid: *type_oid,
        type_modifier: *type_modifier,
        resolved: TypeCatalog::default().resolve(*type_oid, *type_modifier),
    }
}

/// What `catalog::facts_for` would tell: with a leaf, its root.
fn answer(later: &[Facts], relations: &[Oid], types: &[Oid]) -> Facts {
    let mut facts = Facts::default();
    let leaves = later.iter().flat_map(|facts| &facts.leaves);
    facts.leaves = leaves.filter(|leaf| relations.contains(&leaf.oid)).cloned().collect();
    let roots = later.iter().flat_map(|facts| &facts.roots);
    let is_above = |oid: Oid| facts.leaves.iter().any(|leaf| leaf.root == oid);
    facts.roots = roots.filter(|root| relations.contains(&root.oid) || is_above(root.oid)).cloned().collect();
    facts.types = later
        .iter()
        .flat_map(|facts| &facts.types)
        .filter(|facts| types.contains(&facts.oid))
        .cloned()
        .collect();
    let known: Vec<Oid> =
        facts.roots.iter().map(|root| root.oid).chain(facts.leaves.iter().map(|leaf| leaf.oid)).collect();
    let is_gone = |oid: &Oid| !known.contains(oid) && !facts.types.iter().any(|facts| facts.oid == *oid);
    facts.gone = relations.iter().chain(types).copied().filter(is_gone).collect();
    facts
}

/// Hexadecimal; `78*2500` is one byte so many times.
fn bytes(words: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let digits = |text: &str| u8::from_str_radix(text, 16).unwrap();
    for word in words {
        match word.split_once('*') {
            Some((byte, times)) => bytes.resize(bytes.len() + times.parse::<usize>().unwrap(), digits(byte)),
            None => bytes.extend((0..word.len()).step_by(2).map(|at| digits(&word[at..at + 2]))),
        }
    }
    bytes
}

fn identity(word: &str) -> Option<ReplicaIdentity> {
    Some(match word {
        "default" => ReplicaIdentity::Default,
        "nothing" => ReplicaIdentity::Nothing,
        "full" => ReplicaIdentity::Full,
        "index" => ReplicaIdentity::Index,
        _ => return None,
    })
}

/// Words, parentheses and commas; a word in double quotes keeps its spaces, and is the text even of `"null"`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => break,
            '(' | ')' | ',' => words.push(letter.to_string()),
            '"' => words.push(format!(
                "\"{}",
                letters.by_ref().take_while(|letter| *letter != '"').collect::<String>()
            )),
            space if space.is_whitespace() => {}
            first => {
                let mut word = String::from(first);
                // A comma inside a word (`key=a,b`) belongs to it.
                while let Some(next) =
                    letters.peek().filter(|next| !next.is_whitespace() && !"()".contains(**next))
                {
                    word.push(*next);
                    letters.next();
                }
                match word.strip_suffix(',') {
                    Some(word) => words.extend([word.to_owned(), ",".to_owned()]),
                    None => words.push(word),
                }
            }
        }
    }
    words
}

fn tuple(cells: &[String]) -> TupleBuilder {
    let mut tuple = TupleBuilder::new();
    for cell in cells {
        match (cell.as_str(), cell.strip_prefix('"'), cell.strip_prefix("0x")) {
            ("null", _, _) => tuple = tuple.null(),
            ("unchanged", _, _) => tuple = tuple.unchanged(),
            (_, Some(text), _) => tuple = tuple.text(text.as_bytes()),
            (_, _, Some(hex)) => {
                let digits: Vec<char> = hex.chars().collect();
                let bytes =
                    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap());
                tuple = tuple.binary(bytes.collect::<Vec<u8>>());
            }
            (text, None, None) => tuple = tuple.text(text.as_bytes()),
        }
    }
    tuple
}

fn print(folded: &Folded<'_, '_>, output: &mut String) {
    match folded {
        Folded::Nothing => Ok(()),
        Folded::Begin(stamp) => writeln!(output, "begin xid={} commit_lsn={}", stamp.xid.0, stamp.commit_lsn),
        Folded::Commit { end_lsn, changes, dropped, .. } => {
            let dropped = if *dropped { " dropped" } else { "" };
            writeln!(output, "commit end_lsn={end_lsn} changes={changes}{dropped}")
        }
        Folded::One(change) => writeln!(output, "  {}", line(change)),
        Folded::Two(first, second) => writeln!(output, "  {}\n  {}", line(first), line(second)),
        Folded::Many(changes) => changes.iter().try_for_each(|change| writeln!(output, "  {}", line(change))),
        Folded::NeedFacts { relations, types, columns: _ } => {
            let list = |oids: &[Oid]| oids.iter().map(Oid::to_string).collect::<Vec<_>>().join(",");
            writeln!(output, "need relations={} types={}", list(relations), list(types))
        }
        Folded::Logical { transactional, lsn, prefix, content } => {
            let transactional = if *transactional { " transactional" } else { "" };
            writeln!(output, "message {prefix} at {lsn} of {} bytes{transactional}", content.len())
        }
    }
    .unwrap();
}

fn line(change: &Change<'_, '_>) -> String {
    let plan = change.plan;
    let op = change.op.as_str();
    let mut line = format!("{op} seq={} v{} relation={}", change.seq, plan.schema.id, plan.relation);
    let (tuple, fill) = match change.image {
        Image::Row { tuple, fill } => (tuple, fill),
        Image::Old(old) => (old.tuple(), None),
        Image::Empty => return line,
    };
    line.push_str(" |");
    let fills: Vec<Cell<'_>> =
        fill.map_or_else(Vec::new, |fill: OldTuple<'_>| fill.tuple().cells().collect());
    for (at, (cell, column)) in tuple.cells().zip(&plan.columns).enumerate() {
        let name = &plan.schema.columns[usize::try_from(*column).unwrap()].name;
        let old = fills.get(at).copied().filter(|cell| !matches!(cell, Cell::Null | Cell::Unchanged));
        let (cell, source) = match (cell, old) {
            (Cell::Unchanged, Some(old)) => (old, " from old"),
            (cell, _) => (cell, ""),
        };
        let value = match cell {
            Cell::Null => "null".to_owned(),
            Cell::Unchanged => "unchanged".to_owned(),
            Cell::Text(text) if text.len() > 100 => format!("{} bytes", text.len()),
            Cell::Text(text) => format!("\"{}\"", String::from_utf8_lossy(text)),
            Cell::Binary(bytes) => bytes.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
        };
        write!(line, " {name}={value}{source}").unwrap();
    }
    for (column, text) in &plan.absent {
        if let Some(text) = text {
            let name = &plan.schema.columns[usize::try_from(*column).unwrap()].name;
            write!(line, " {name}=\"{text}\" by name").unwrap();
        }
    }
    if plan.schema.before {
        line.push_str(&before(change));
    }
    line
}

/// `_cdc_before` of the row that a change becomes.
fn before(change: &Change<'_, '_>) -> String {
    let mut builder = BatchBuilder::new(Arc::clone(&change.plan.schema));
    let stamp = TxStamp { commit_lsn: Lsn(0x150), commit_time_unix_micros: 0, xid: Xid(7) };
    builder.append(&stamp, change).unwrap();
    let batch = builder.finish().unwrap();
    let maps = batch.column_by_name(BEFORE_COLUMN).unwrap().as_map();
    if maps.is_null(0) {
        return " | no old row".to_owned();
    }
    let entries = maps.value(0);
    let (names, texts) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    let entry = |(name, text): (Option<&str>, Option<&str>)| match text {
        Some(text) => format!(" {}=\"{text}\"", name.unwrap()),
        None => format!(" {}=null", name.unwrap()),
    };
    names.iter().zip(texts).fold(" | old".to_owned(), |line, both| line + &entry(both))
}

/// 2026-08-01 00:00:00 UTC: time plays no part in folding.
const TIME: PgTimestamp = PgTimestamp(838_857_600_000_000);
