//! `livmig-coord`: moves running stateful workloads to other storage.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(livmig_coord::run(std::env::args_os()).code())
}
