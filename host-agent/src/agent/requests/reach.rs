//! What a thread may reach, in words for a person: its sandbox and its network.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Folders that are named; more are counted.
const NAMED: usize = 8;

/// The sandbox and the network of a thread. What is accepted once may go beyond them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Reach {
    /// What may be written.
    pub(super) sandbox: String,
    /// Whether programs have the network.
    pub(super) network: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Policy {
    DangerFullAccess,
    ReadOnly {
        #[serde(default)]
        network_access: bool,
    },
    ExternalSandbox {
        network_access: String,
    },
    WorkspaceWrite {
        #[serde(default)]
        writable_roots: Vec<String>,
        #[serde(default)]
        network_access: bool,
    },
}

impl Reach {
    /// From the sandbox policy of a thread's settings; `None` for one that this version does not know.
    pub(super) fn read(policy: &RawValue) -> Option<Self> {
        let (sandbox, has_network) = match serde_json::from_str(policy.get()).ok()? {
            Policy::DangerFullAccess => ("no sandbox: all that this user may".to_owned(), true),
            Policy::ReadOnly { network_access } => ("reads files, writes none".to_owned(), network_access),
            Policy::ExternalSandbox { network_access } => {
                ("a sandbox that is not Codex's own".to_owned(), network_access == "enabled")
            }
            Policy::WorkspaceWrite { writable_roots, network_access } => {
                let more = writable_roots.len().saturating_sub(NAMED);
                let mut words = "writes in its folder".to_owned();
                for root in writable_roots.iter().take(NAMED) {
                    words.push_str(", ");
                    words.push_str(root);
                }
                if more > 0 {
                    words.push_str(&format!(" and {more} more"));
                }
                (words, network_access)
            }
        };
        let network = if has_network { "network" } else { "no network" };
        Some(Self { sandbox, network: network.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn words(policy: &Value) -> Option<(String, String)> {
        let reach = Reach::read(&serde_json::value::to_raw_value(policy).unwrap())?;
        Some((reach.sandbox, reach.network))
    }

    #[test]
    fn a_sandbox_is_told_in_words() {
        let told = |sandbox: &str, network: &str| Some((sandbox.to_owned(), network.to_owned()));
        let read_only = json!({ "type": "readOnly", "networkAccess": false });
        assert_eq!(words(&read_only), told("reads files, writes none", "no network"));
        let writes = json!({ "type": "workspaceWrite", "writableRoots": ["/a", "/b"], "networkAccess": true });
        assert_eq!(words(&writes), told("writes in its folder, /a, /b", "network"));
        let many = json!({ "type": "workspaceWrite", "writableRoots": vec!["/a"; 10] });
        assert!(words(&many).unwrap().0.ends_with("/a and 2 more"));
        assert_eq!(words(&json!({ "type": "dangerFullAccess" })).unwrap().1, "network");
        assert_eq!(words(&json!({ "type": "somethingNewer" })), None);
    }
}
