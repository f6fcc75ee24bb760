//! End-to-end tests, one behaviour family a module.

mod answers;
mod api;
#[cfg(target_os = "linux")]
mod asleep;
mod attach;
mod attention;
mod awake;
mod bench;
mod blind;
mod chatgpt;
mod codex_backend;
mod codex_use;
mod commands;
mod conformance;
mod demo_machine;
mod firewall_schema;
mod floods;
mod folders;
mod frozen;
mod ground;
mod help;
mod homes;
mod left_behind;
mod liar;
mod limits;
mod links;
mod live_text;
#[cfg(target_os = "linux")]
#[expect(dead_code, reason = "tests of the agent use more of it")]
#[path = "../../host-agent/src/platform/awake/testing.rs"]
mod logind;
mod meeting;
mod merged_text;
mod middleman;
mod pages;
mod paths;
mod prompts;
mod proxies;
mod quic;
mod reasons;
mod refusals;
mod remote_control;
mod revoke;
mod services;
mod signals;
mod soak;
mod ssh;
mod ssh_codes;
mod ssh_codex;
mod ssh_folders;
mod ssh_hosts;
mod ssh_install;
mod ssh_login;
mod ssh_silence;
mod ssh_work;
mod state_files;
mod status;
mod stdio;
mod troubles;
mod tui;
mod vendor;
mod walk;
mod watching;
mod withheld;
mod work;
mod workspaces;
