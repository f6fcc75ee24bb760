//! What this machine remembers, in REACHBACK_HOME.
//!
//! ```text
//!   agent.lock                     one agent per home            lock.rs
//!   agent.json                     pid and socket of that agent  lock.rs
//!   demo.json                      that the home is a demo's     demo.rs
//!   host/host.json                 this host's keys, name, relay host.rs
//!   host/devices.json              who may connect               devices.rs
//!   host/workspaces.json           folders open to devices       workspaces.rs
//!   host/awake.json                whether this machine is kept awake awake.rs
//!   host/codex.json                the Codex that was started    codex.rs
//!   host/remote_control.json       where Codex enrolled here     remote_control.rs
//!   host/redirect.json             what leads to this agent      redirect.rs
//!   host/journal.jsonl             prompts that devices sent     journal.rs
//!   host/answers.jsonl             what devices answered         answers.rs
//!   controller/hosts/<id>.json     hosts this machine controls   paired_hosts.rs
//! ```
//!
//! Every file is JSON with a `version`, 0600, written whole to a temporary
//! file and renamed ([`atomic`]), so a crash leaves the old one or the new one.
//! A file that can't be read, understood or trusted is reported with its path
//! and left alone: replacing it would destroy keys that cannot be made again.
//! So is one that a newer build wrote; older ones are brought up to date.
//!
//! A machine's keys as a host and as a device are separate, and so is each
//! pair of keys that it controls a host with.

pub(crate) mod answers;
pub(crate) mod atomic;
pub(crate) mod awake;
pub(crate) mod codex;
pub(crate) mod demo;
pub mod devices;
pub(crate) mod find;
pub(crate) mod host;
pub(crate) mod journal;
mod line_file;
pub(crate) mod lock;
pub mod paired_hosts;
pub(crate) mod redirect;
pub(crate) mod remote_control;
pub(crate) mod ssh_hosts;
pub mod timestamp;
pub(crate) mod work;
pub(crate) mod workspaces;

#[cfg(test)]
mod homes;
mod secret_text;

/// Longest name of a host or a device, in bytes; the limit of the pairing protocol.
pub const MAX_NAME: usize = 64;

/// A name that fits the protocol and a terminal: control characters become spaces, the rest is cut at [`MAX_NAME`] bytes.
pub fn clean_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if name.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        name.push(c);
    }
    name.trim_end().to_owned()
}

/// The folder of this machine as a host: one of those that Codex is kept from.
pub(crate) fn host_dir(home: &std::path::Path) -> std::path::PathBuf {
    home.join("host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_control_characters_and_what_is_over_the_limit() {
        assert_eq!(clean_name("  Ada's\u{1b}[31m phone\n"), "Ada's [31m phone");
        assert_eq!(clean_name(&"é".repeat(40)).len(), MAX_NAME);
        assert_eq!(clean_name(&format!("x{}", "é".repeat(40))).len(), MAX_NAME - 1);
    }
}
