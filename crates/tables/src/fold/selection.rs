//! Which tables are wanted: globs on `schema.table` of roots; and globs on `schema.table.column`.
//!
//! Owns: the parsed globs.
//! Does not: know any table.
//! Holds: `*` and `?` never reach over the dots between schema, table and column; `\` takes the next character literally.
//! Fails: [`GlobError`] names the glob and what is wrong with it.

/// The tables that are wanted.
#[derive(Clone, Debug)]
pub struct Selection {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
}

/// Names that columns of some tables do not get.
#[derive(Clone, Debug, Default)]
pub struct Reserved(Vec<(Selection, Vec<String>)>);

impl Reserved {
    /// For the tables of each selection, these.
    pub fn new(names: Vec<(Selection, Vec<String>)>) -> Reserved {
        Reserved(names)
    }

    /// Those of a table that has any of these names.
    pub fn of<'n>(&self, tables: impl Iterator<Item = (&'n str, &'n str)> + Clone) -> Vec<String> {
        let of_table =
            |selection: &Selection| tables.clone().any(|(schema, name)| selection.includes(schema, name));
        let names = self.0.iter().filter(|(selection, _)| of_table(selection));
        names.flat_map(|(_, names)| names.iter().cloned()).collect()
    }
}

/// What is said of tables by their names. Of several globs that name one, the last counts.
#[derive(Clone, Debug)]
pub struct ByTable<T> {
    otherwise: T,
    rules: Vec<(Selection, T)>,
}

impl<T: Copy> ByTable<T> {
    /// For the tables of each selection that, for all others `otherwise`.
    pub fn new(otherwise: T, rules: Vec<(Selection, T)>) -> ByTable<T> {
        ByTable { otherwise, rules }
    }

    /// The same for all tables.
    pub fn same(value: T) -> ByTable<T> {
        ByTable::new(value, Vec::new())
    }

    /// What is said of a table that has any of these names.
    pub fn of<'n>(&self, names: impl Iterator<Item = (&'n str, &'n str)> + Clone) -> T {
        let names_it =
            |selection: &Selection| names.clone().any(|(schema, name)| selection.includes(schema, name));
        let last = self.rules.iter().rfind(|(selection, _)| names_it(selection));
        last.map_or(self.otherwise, |(_, value)| *value)
    }
}

/// A glob that cannot be what its author meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("glob `{glob}` {problem}")]
pub struct GlobError {
    glob: String,
    problem: String,
}

#[derive(Clone, Debug)]
struct Glob {
    schema: Vec<Token>,
    table: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// `*`: any characters, or none.
    Any,
    /// `?`: one character.
    One,
    Literal(char),
}

impl Selection {
    /// The tables that a glob of `include` names, and none of `exclude` does.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Selection, GlobError> {
        let parse =
            |globs: &[String]| globs.iter().map(|glob| Glob::parse(glob)).collect::<Result<Vec<_>, _>>();
        Ok(Selection { include: parse(include)?, exclude: parse(exclude)? })
    }

    /// Whether it names no table.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty()
    }

    /// Whether the table is wanted.
    pub fn includes(&self, schema: &str, table: &str) -> bool {
        self.include.iter().any(|glob| glob.matches(schema, table)) && !self.excludes(schema, table)
    }

    /// Whether the table is unwanted by name.
    pub fn excludes(&self, schema: &str, table: &str) -> bool {
        self.exclude.iter().any(|glob| glob.matches(schema, table))
    }
}

/// A glob on `schema.table.column`.
#[derive(Clone, Debug)]
pub struct ColumnGlob {
    table: Glob,
    column: Vec<Token>,
}

impl ColumnGlob {
    pub(crate) fn parse(glob: &str) -> Result<ColumnGlob, GlobError> {
        let [schema, table, column] = parts(glob, "schema.table.column, for example public.orders.price")?;
        Ok(ColumnGlob { table: Glob { schema, table }, column })
    }

    /// Whether it names that column.
    pub fn matches(&self, schema: &str, table: &str, column: &str) -> bool {
        self.table.matches(schema, table) && fits(&self.column, column)
    }

    /// Whether it may name several columns.
    pub(crate) fn is_wild(&self) -> bool {
        self.tokens().any(|token| !matches!(token, Token::Literal(_)))
    }

    /// How much of a name it gives.
    pub(crate) fn literals(&self) -> usize {
        self.tokens().filter(|token| matches!(token, Token::Literal(_))).count()
    }

    fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.table.schema.iter().chain(&self.table.table).chain(&self.column)
    }
}

/// The parts of a glob, which dots separate; those beyond the last separator are literal.
fn parts<const N: usize>(glob: &str, form: &'static str) -> Result<[Vec<Token>; N], GlobError> {
    let wrong = |problem: String| GlobError { glob: glob.to_owned(), problem };
    let mut parts = Vec::new();
    let mut tokens = Vec::new();
    let mut rest = glob.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '*' if tokens.last() == Some(&Token::Any) => {}
            '*' => tokens.push(Token::Any),
            '?' => tokens.push(Token::One),
            '.' if parts.len() + 1 < N => parts.push(std::mem::take(&mut tokens)),
            '\\' => {
                let escaped = rest.next().ok_or_else(|| wrong("ends in a lone backslash".to_owned()))?;
                tokens.push(Token::Literal(escaped));
            }
            '[' | ']' | '{' | '}' => {
                return Err(wrong(
                    "has a bracket; only * and ? are wild, and a backslash makes any character literal"
                        .to_owned(),
                ));
            }
            literal => tokens.push(Token::Literal(literal)),
        }
    }
    parts.push(tokens);
    if parts.iter().any(Vec::is_empty) && parts.len() == N {
        return Err(wrong(format!("has nothing before or after a dot; write {form}")));
    }
    parts.try_into().map_err(|_| wrong(format!("has too few dots; write {form}")))
}

impl Glob {
    fn parse(glob: &str) -> Result<Glob, GlobError> {
        let [schema, table] = parts(glob, "schema.table, for example public.orders or *.orders")?;
        Ok(Glob { schema, table })
    }

    fn matches(&self, schema: &str, table: &str) -> bool {
        fits(&self.schema, schema) && fits(&self.table, table)
    }
}

/// Whether the tokens spell the text. One `*` is retried at a time: the last one, which suffices.
fn fits(tokens: &[Token], text: &str) -> bool {
    let (mut tokens, mut text) = (tokens, text.chars());
    let mut retry = None;
    loop {
        let letter = text.clone().next();
        match (tokens.split_first(), letter) {
            (Some((Token::Any, after)), _) => {
                retry = Some((after, text.clone()));
                tokens = after;
                continue;
            }
            (Some((Token::One, after)), Some(_)) => tokens = after,
            (Some((Token::Literal(want), after)), Some(letter)) if *want == letter => tokens = after,
            (None, None) => return true,
            (Some(_) | None, _) => {
                // The last `*` takes one character more, if there is one.
                let Some((after, from)) = &mut retry else { return false };
                if from.next().is_none() {
                    return false;
                }
                (tokens, text) = (*after, from.clone());
                continue;
            }
        }
        text.next();
    }
}

#[cfg(test)]
mod tests;
