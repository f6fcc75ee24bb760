//! End-to-end tests, one behaviour family a module.

mod answers;
mod api;
mod blind;
mod codex_backend;
mod firewall_schema;
mod floods;
mod folders;
mod frozen;
mod ground;
mod homes;
mod left_behind;
mod limits;
mod links;
mod meeting;
mod merged_text;
mod paths;
mod prompts;
mod refusals;
mod revoke;
mod signals;
mod state_files;
mod status;
mod tui;
mod walk;
mod watching;
mod workspaces;
