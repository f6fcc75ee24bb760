//! What is written from code: `web/src/api/types.ts`, the agent's API for TypeScript, the table in `docs/adapters.md`, and
//! the one of `--json` in `README.md`. A test beside that code fails while one is out of date.

use std::path::Path;
use std::process::Command;

use crate::{process, web};

/// Where the web app has the API's types, from `web/`.
const TYPES: &str = "src/api/types.ts";
/// The test that writes them.
const WRITER: &str = "agent::api::types::write_the_types_for_typescript";

/// The test that writes what each way to Codex can do.
const TABLE_WRITER: &str = "conformance::write_the_table_of_adapters";

/// The test that writes what `--json` prints.
const LINES_WRITER: &str = "cli::lines::table::write_the_table_of_lines";

/// Write what is made from code: the API's types for TypeScript, the table of ways to Codex, the one of `--json`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Writes all of them.
pub(crate) fn write(repository: &Path) -> anyhow::Result<()> {
    const HOST: [&str; 3] = ["reachback-host", "--lib", "--quiet"];
    for (of, test) in [(HOST, WRITER), (HOST, LINES_WRITER), (["e2e", "--test", "e2e"], TABLE_WRITER)] {
        let words = [&["test", "--package"][..], &of, &["--", "--ignored", "--exact", test]].concat();
        process::run(Command::new("cargo").current_dir(repository).args(words))?;
    }
    web::format(repository, TYPES)
}
