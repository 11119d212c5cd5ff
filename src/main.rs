//! The `regrow` program: see `regrow --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    regrow::cli::run()
}
