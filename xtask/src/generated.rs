//! Files that are written from code: `web/src/api/types.ts`, the agent's API
//! for TypeScript. A test of host-agent fails while one is out of date.

use std::path::Path;
use std::process::Command;

use crate::{process, web};

/// Where the web app has the API's types, from `web/`.
const TYPES: &str = "src/api/types.ts";
/// The test that writes them.
const WRITER: &str = "agent::api::types::write_the_types_for_typescript";

/// Write what is made from code: the API's types for TypeScript.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Writes all of them.
pub(crate) fn write(repository: &Path) -> anyhow::Result<()> {
    let words = ["test", "--quiet", "--package", "reachback-host", "--lib", "--", "--ignored", "--exact", WRITER];
    process::run(Command::new("cargo").current_dir(repository).args(words))?;
    web::format(repository, TYPES)
}
