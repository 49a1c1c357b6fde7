//! The `tributary` program.
//!
//! Owns: nothing; it hands over to `cli`.
//! Does not: anything else.
//! Holds: the exit code is what `cli` says.
//! Fails: never by itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    tributary::cli::main()
}
