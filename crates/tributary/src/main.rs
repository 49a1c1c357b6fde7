//! The `tributary` program.
//!
//! Owns: nothing; it hands over to `cli`.
//! Does not: anything else.
//! Holds: the exit code is what `cli` says.
//! Fails: never by itself.

use std::process::ExitCode;

/// Row groups and parts come and go by tens of megabytes on many threads: what is freed goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tributary::cli::main()
}
