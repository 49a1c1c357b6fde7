//! What was found wrong by somebody who cannot fail himself.
//!
//! Owns: the list, of this thread.
//! Does not: find anything.
//! Holds: the first one is the one that is told.
//! Fails: with it.

use std::cell::RefCell;

thread_local! {
    static PROBLEMS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn note(problem: String) {
    PROBLEMS.with_borrow_mut(|problems| problems.push(problem));
}

pub(crate) fn first() -> Result<(), String> {
    PROBLEMS.with_borrow(|problems| problems.first().map_or(Ok(()), |problem| Err(problem.clone())))
}

pub(crate) fn forget() {
    PROBLEMS.with_borrow_mut(Vec::clear);
}
