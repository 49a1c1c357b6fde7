//! Text search.
//!
//! Owns: `tsvector` and `tsquery` in binary.
//! Does not: parse their texts; the lake keeps these.
//! Holds: a query of any depth is rendered without recursion, in time that grows with its length.
//! Fails: [`Malformed`] on operators that there are not, or queries that do not end.

use crate::binary::{take, write};
use crate::text::{Malformed, split_once};

/// Writes `'fat':2,4B 'rat':5C`.
pub(crate) fn tsvector(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let lexemes = u32::from_be_bytes(take(&mut rest)?);
    for place in 0..lexemes {
        if place > 0 {
            text.push(b' ');
        }
        write_lexeme(take_lexeme(&mut rest)?, text);
        let positions = u16::from_be_bytes(take(&mut rest)?);
        for place in 0..positions {
            let position = u16::from_be_bytes(take(&mut rest)?);
            let separator = if place == 0 { ':' } else { ',' };
            // Two bits of weight, fourteen of position. The lowest weight is not printed.
            let weight = match position >> 14 {
                0 => "",
                1 => "C",
                2 => "B",
                _ => "A",
            };
            write(text, format_args!("{separator}{}{weight}", position & 0x3FFF));
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Malformed) }
}

/// Reads up to the NUL.
fn take_lexeme<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (lexeme, after) = split_once(rest, |byte| byte == 0).ok_or(Malformed)?;
    *rest = after;
    Ok(lexeme)
}

fn write_lexeme(lexeme: &[u8], text: &mut Vec<u8>) {
    text.push(b'\'');
    for byte in lexeme {
        if matches!(byte, b'\'' | b'\\') {
            text.push(*byte);
        }
        text.push(*byte);
    }
    text.push(b'\'');
}

/// Writes `'fat' & !( 'cat' | 'rat' )` as the `infix` of Postgres does.
pub(crate) fn tsquery(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let nodes = query_nodes(bytes)?;
    if nodes.is_empty() {
        return Ok(());
    }
    // What is still to be written, the next last.
    let mut steps = vec![Step::Operand { place: 0, priority: 0, is_right_of_phrase: false }];
    while let Some(step) = steps.pop() {
        match step {
            Step::Operator(operator) => operator.render(text),
            Step::Close => text.extend_from_slice(b" )"),
            Step::Operand { place, priority: outer, is_right_of_phrase } => {
                match *nodes.get(place).ok_or(Malformed)? {
                    Node::Lexeme { lexeme, weights, is_prefix } => {
                        write_lexeme(lexeme, text);
                        render_flags(weights, is_prefix, text);
                    }
                    Node::Operation { operator, left } => {
                        let priority = operator.priority();
                        let is_phrase = matches!(operator, Operator::Phrase { .. });
                        if priority < outer || is_phrase && is_right_of_phrase {
                            text.extend_from_slice(b"( ");
                            steps.push(Step::Close);
                        }
                        steps.push(Step::Operand {
                            place: place + 1,
                            priority,
                            is_right_of_phrase: is_phrase,
                        });
                        steps.push(Step::Operator(operator));
                        steps.extend(left.map(|place| Step::Operand {
                            place,
                            priority,
                            is_right_of_phrase: false,
                        }));
                    }
                }
            }
        }
    }
    Ok(())
}

enum Step {
    /// A node, below an operator of that priority.
    Operand {
        place: usize,
        priority: u8,
        is_right_of_phrase: bool,
    },
    Operator(Operator),
    Close,
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Lexeme {
        lexeme: &'a [u8],
        weights: u8,
        is_prefix: bool,
    },
    /// The right operand is the next node; a negation has none to its left.
    Operation {
        operator: Operator,
        left: Option<usize>,
    },
}

#[derive(Clone, Copy)]
enum Operator {
    Not,
    And,
    Or,
    Phrase { distance: i16 },
}

impl Operator {
    fn priority(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Phrase { .. } => 3,
            Operator::Not => 4,
        }
    }

    fn render(self, text: &mut Vec<u8>) {
        match self {
            Operator::Not => text.push(b'!'),
            Operator::And => text.extend_from_slice(b" & "),
            Operator::Or => text.extend_from_slice(b" | "),
            Operator::Phrase { distance: 1 } => text.extend_from_slice(b" <-> "),
            Operator::Phrase { distance } => write(text, format_args!(" <{distance}> ")),
        }
    }
}

/// The nodes of a query in the order they are sent in: an operator, its right operand, its left operand.
fn query_nodes(bytes: &[u8]) -> Result<Vec<Node<'_>>, Malformed> {
    let mut rest = bytes;
    let count = u32::from_be_bytes(take(&mut rest)?);
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(take_node(&mut rest)?);
    }
    if !rest.is_empty() {
        return Err(Malformed);
    }
    // Backwards, the operands are met before their operator.
    let mut operands = Vec::new();
    for (place, node) in nodes.iter_mut().enumerate().rev() {
        if let Node::Operation { operator, left } = node {
            operands.pop().ok_or(Malformed)?;
            *left = match operator {
                Operator::Not => None,
                Operator::And | Operator::Or | Operator::Phrase { .. } => {
                    Some(operands.pop().ok_or(Malformed)?)
                }
            };
        }
        operands.push(place);
    }
    if operands.len() <= 1 { Ok(nodes) } else { Err(Malformed) }
}

fn take_node<'a>(rest: &mut &'a [u8]) -> Result<Node<'a>, Malformed> {
    let operator = match take(rest)? {
        [1] => {
            let [weights, prefix] = take(rest)?;
            return Ok(Node::Lexeme { lexeme: take_lexeme(rest)?, weights, is_prefix: prefix != 0 });
        }
        [2] => match take(rest)? {
            [1] => Operator::Not,
            [2] => Operator::And,
            [3] => Operator::Or,
            [4] => Operator::Phrase { distance: i16::from_be_bytes(take(rest)?) },
            _ => return Err(Malformed),
        },
        _ => return Err(Malformed),
    };
    Ok(Node::Operation { operator, left: None })
}

/// Writes `:*AB`.
fn render_flags(weights: u8, is_prefix: bool, text: &mut Vec<u8>) {
    if weights == 0 && !is_prefix {
        return;
    }
    text.push(b':');
    if is_prefix {
        text.push(b'*');
    }
    for (bit, weight) in [(8, b'A'), (4, b'B'), (2, b'C'), (1, b'D')] {
        if weights & bit != 0 {
            text.push(weight);
        }
    }
}
