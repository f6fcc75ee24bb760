//! Keeps commands that Codex runs away from some folders, such as the one with the agent's keys.
//!
//! Codex knows *permission profiles*; one made here extends what the user's
//! `config.toml` chooses and denies the folders. Given on the command line it wins
//! over the older `sandbox_mode` in that file, and denies approved commands too.
//! A client that names a sandbox of its own in `thread/start` gets that instead,
//! so the firewall must not let devices do so.
//!
//! Without a sandbox (`danger-full-access`) nothing can be denied; and where the
//! user chose nothing, nothing is, see [`denying`].

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The profile's name, as `/permissions` shows it.
const PROFILE: &str = "reachback";

/// The settings (`key=value`) that deny `folders`, on top of what `config` chooses.
///
/// `None` when it chose to have no sandbox, or nothing at all: then Codex goes by how far each folder is trusted, and any
/// profile made here would be looser than that somewhere.
pub(super) fn denying(folders: &[PathBuf], config: &Table) -> Option<Vec<String>> {
    let base = match (text(config, "default_permissions"), text(config, "sandbox_mode")) {
        // The older setting is the one that counts where both are there.
        (_, Some("danger-full-access")) | (Some(":danger-full-access"), None) => return None,
        (_, Some("read-only")) => ":read-only",
        (_, Some(_)) => ":workspace",
        (None, None) => return None,
        (Some(chosen), None) => chosen,
    };
    let mut filesystem = Table::new();
    let mut profile = Table::from_iter([("extends".to_owned(), Value::from(base))]);
    if base == ":workspace"
        && let Some(settings) = config.get("sandbox_workspace_write").and_then(Value::as_table)
    {
        carry_over(settings, &mut filesystem, &mut profile);
    }
    // Last, so that a writable folder of the user does not open a denied one.
    filesystem.extend(folders.iter().map(|folder| (utf8(folder), Value::from("deny"))));
    profile.insert("filesystem".to_owned(), Value::Table(filesystem));
    Some(vec![
        format!("default_permissions={}", Value::from(PROFILE)),
        format!("permissions.{PROFILE}={}", Value::Table(profile)),
    ])
}

/// What `[sandbox_workspace_write]` says, in the words of a profile.
fn carry_over(settings: &Table, filesystem: &mut Table, profile: &mut Table) {
    let is_set = |name: &str| settings.get(name).and_then(Value::as_bool).unwrap_or(false);
    let roots = settings.get("writable_roots").and_then(Value::as_array).into_iter().flatten();
    filesystem.extend(roots.filter_map(Value::as_str).map(|root| (root.to_owned(), Value::from("write"))));
    for (excluded, folder) in [("exclude_tmpdir_env_var", ":tmpdir"), ("exclude_slash_tmp", ":slash_tmp")] {
        if is_set(excluded) {
            filesystem.insert(folder.to_owned(), Value::from("read"));
        }
    }
    if is_set("network_access") {
        profile
            .insert("network".to_owned(), Value::Table(Table::from_iter([("enabled".to_owned(), Value::from(true))])));
    }
}

fn text<'a>(config: &'a Table, key: &str) -> Option<&'a str> {
    config.get(key).and_then(Value::as_str)
}

fn utf8(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The profile for a `config.toml`, read back.
    fn profile(config: &str) -> Option<Table> {
        let settings = denying(&[PathBuf::from("/home/me/.rea\"ch back")], &config.parse().unwrap())?;
        let read: Table = settings.join("\n").parse().expect("the settings are TOML");
        assert_eq!(read["default_permissions"].as_str(), Some(PROFILE));
        let profile = read["permissions"][PROFILE].as_table().unwrap().clone();
        assert_eq!(profile["filesystem"]["/home/me/.rea\"ch back"].as_str(), Some("deny"));
        Some(profile)
    }

    #[test]
    fn the_users_own_choice_is_what_is_extended() {
        for (config, base) in [
            ("sandbox_mode = 'workspace-write'", ":workspace"),
            ("sandbox_mode = 'read-only'", ":read-only"),
            ("default_permissions = 'mine'", "mine"),
            ("default_permissions = 'mine'\nsandbox_mode = 'read-only'", ":read-only"),
        ] {
            assert_eq!(profile(config).unwrap()["extends"].as_str(), Some(base), "{config}");
        }
    }

    #[test]
    fn without_a_sandbox_or_a_choice_nothing_is_set() {
        assert_eq!(profile(""), None);
        assert_eq!(profile("sandbox_mode = 'danger-full-access'"), None);
        assert_eq!(profile("default_permissions = ':danger-full-access'"), None);
    }

    #[test]
    fn older_settings_of_the_sandbox_are_kept() {
        let profile = profile(
            "sandbox_mode = 'workspace-write'\n[sandbox_workspace_write]\nnetwork_access = true\n\
             writable_roots = ['/data', '/home/me/.rea\"ch back']\nexclude_slash_tmp = true",
        )
        .unwrap();
        assert_eq!(profile["network"]["enabled"].as_bool(), Some(true));
        assert_eq!(profile["filesystem"]["/data"].as_str(), Some("write"));
        assert_eq!(profile["filesystem"][":slash_tmp"].as_str(), Some("read"));
    }
}
