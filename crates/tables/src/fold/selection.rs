//! Which tables are wanted: globs on `schema.table` of roots.
//!
//! Owns: the parsed globs.
//! Does not: know any table.
//! Holds: `*` and `?` never reach over the dot between schema and table; `\` takes the next character literally.
//! Fails: [`GlobError`] names the glob and what is wrong with it.

/// The tables that are wanted.
#[derive(Clone, Debug)]
pub struct Selection {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
}

/// A glob that cannot be what its author meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("glob `{glob}` {problem}")]
pub struct GlobError {
    glob: String,
    problem: &'static str,
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

    /// Whether the table is wanted.
    pub fn includes(&self, schema: &str, table: &str) -> bool {
        self.include.iter().any(|glob| glob.matches(schema, table)) && !self.excludes(schema, table)
    }

    /// Whether the table is unwanted by name.
    pub fn excludes(&self, schema: &str, table: &str) -> bool {
        self.exclude.iter().any(|glob| glob.matches(schema, table))
    }
}

impl Glob {
    fn parse(glob: &str) -> Result<Glob, GlobError> {
        let wrong = |problem| GlobError { glob: glob.to_owned(), problem };
        let (mut schema, mut tokens) = (None, Vec::new());
        let mut rest = glob.chars();
        while let Some(letter) = rest.next() {
            match letter {
                '*' if tokens.last() == Some(&Token::Any) => {}
                '*' => tokens.push(Token::Any),
                '?' => tokens.push(Token::One),
                '.' if schema.is_none() => schema = Some(std::mem::take(&mut tokens)),
                '\\' => {
                    tokens
                        .push(Token::Literal(rest.next().ok_or_else(|| wrong("ends in a lone backslash"))?));
                }
                '[' | ']' | '{' | '}' => {
                    return Err(wrong(
                        "has a bracket; only * and ? are wild, and a backslash makes any character literal",
                    ));
                }
                literal => tokens.push(Token::Literal(literal)),
            }
        }
        let schema = schema
            .ok_or_else(|| wrong("has no dot; write schema.table, for example public.orders or *.orders"))?;
        if schema.is_empty() || tokens.is_empty() {
            return Err(wrong(
                "has nothing before or after its dot; write schema.table, for example public.*",
            ));
        }
        Ok(Glob { schema, table: tokens })
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
