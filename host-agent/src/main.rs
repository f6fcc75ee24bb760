//! `reachback`: the host agent, and the controlling role.

use std::process::ExitCode;

use reachback_host::cli::{self, Cli};
use reachback_relay::{arguments, log};

fn main() -> ExitCode {
    log::tell_panics();
    let cli: Cli = arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("reachback: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli));
    // A prompt may still be waiting for a line on standard input: don't wait for it.
    runtime.shutdown_background();
    code
}
