//! The end-to-end harness: what the scenarios in `e2e/` stand on.

pub mod codex;
