//! How fast Reachback is, beside the same client without it, and beside processes that only copy bytes.
//!
//! `cargo xtask bench` builds and runs it. Linux only: it reads `/proc`, and chooses the processors that everything runs on.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("error: this measures on Linux only, where it can choose the processors");
    ExitCode::FAILURE
}
