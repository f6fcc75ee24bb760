//! With the machine's own git, and with stand-ins for one that does not know its test hook.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

/// Folders for one test, and a configuration whose `git` is the machine's, or what a script says.
fn ground(git: Option<&str>) -> (TempDir, Ground, CodexConfig) {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::prepare(&dir.path().join("home/codex")).unwrap();
    let mut env: Vec<(OsString, OsString)> = vec![("HOME".into(), dir.path().into())];
    if let Some(script) = git {
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("git"), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = std::env::join_paths([bin, "/usr/bin".into(), "/bin".into()]).unwrap();
        env.push(("PATH".into(), path));
    }
    let config = CodexConfig { home: Some(dir.path().join("codex-home")), env, ..CodexConfig::default() };
    (dir, ground, config)
}

async fn init(config: &CodexConfig, folder: &Path) {
    let args = ["init".as_ref(), "-q".as_ref(), folder.as_os_str()];
    assert_eq!(git(config, &Hold::default(), &args).await.unwrap(), Some(0));
}

#[test]
fn its_folders_are_private_and_the_one_to_run_in_is_empty() {
    let (_dir, ground, _) = ground(None);
    for folder in [ground.empty(), ground.git()] {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn git_enters_workspaces_and_nothing_that_lies_in_them() {
    let (dir, ground, config) = ground(None);
    let top = dir.path().canonicalize().unwrap();
    let odd = top.join("a \"quoted\" folder\\with # and ; in it");
    let inner = odd.join("inner");
    let other = top.join("other");
    for folder in [&odd, &inner, &other] {
        init(&config, folder).await;
    }
    // The user's own configuration allows everything.
    std::fs::write(dir.path().join(".gitconfig"), "[safe]\n\tdirectory = *\n").unwrap();
    let hold = ground.hold(&config).await;
    assert!(hold.env.iter().any(|(name, _)| name == FOREIGN), "{hold:?}");
    let refuses = async |folder: &Path| ground.refuses(&config, &hold, folder).await.unwrap();
    assert!(refuses(&odd).await, "there is no list yet");
    ground.list(std::slice::from_ref(&odd));
    assert!(!refuses(&odd).await && refuses(&inner).await && refuses(&other).await);
    ground.list(&[odd.clone(), other.clone()]);
    assert!(!refuses(&odd).await && refuses(&inner).await && !refuses(&other).await);
    ground.list(&[]);
    assert!(refuses(&odd).await && refuses(&other).await);
    assert_eq!(std::fs::read_dir(ground.git()).unwrap().count(), 1, "the trial left something behind");
}

#[tokio::test]
async fn what_the_users_environment_tells_git_stays() {
    let (dir, ground, mut config) = ground(None);
    for (name, value) in [(COUNT, "1"), ("GIT_CONFIG_KEY_0", "user.name"), ("GIT_CONFIG_VALUE_0", "me")] {
        config.env.push((name.into(), value.into()));
    }
    let folder = dir.path().join("repository");
    init(&config, &folder).await;
    let hold = ground.hold(&config).await;
    assert!(hold.env.contains(&(COUNT.to_owned(), "3".into())), "{hold:?}");
    assert!(!hold.env.iter().any(|(name, _)| name.ends_with("_0")), "{hold:?}");
    assert!(hold.settings.contains(&format!("shell_environment_policy.set.{COUNT}=\"1\"")), "{hold:?}");
    assert!(ground.refuses(&config, &hold, &folder).await.unwrap());
}

#[tokio::test]
async fn a_git_that_does_not_know_the_hook_is_kept_from_every_repository() {
    let (dir, ground, config) = ground(Some("unset GIT_TEST_ASSUME_DIFFERENT_OWNER; exec /usr/bin/git \"$@\""));
    std::fs::create_dir(config.home.as_ref().unwrap()).unwrap();
    let toml = "[shell_environment_policy]\nexclude = [\"SECRET*\"]\n";
    std::fs::write(config.home.as_ref().unwrap().join("config.toml"), toml).unwrap();
    let folder = dir.path().join("repository");
    init(&config, &folder).await;
    let hold = ground.hold(&config).await;
    assert_eq!(hold.env, [("GIT_DIR".to_owned(), OsString::from("/dev/null"))]);
    let settings: Table = hold.settings.join("\n").parse().unwrap();
    assert_eq!(settings["shell_environment_policy"]["exclude"].to_string(), "[\"SECRET*\", \"GIT_DIR\"]");
    assert!(ground.refuses(&config, &hold, &folder).await.unwrap());
}

#[tokio::test]
async fn without_git_the_list_is_there_for_one_that_is_installed_later() {
    let (dir, ground, mut config) = ground(None);
    config.env.push(("PATH".into(), dir.path().into()));
    assert!(ground.hold(&config).await.env.iter().any(|(name, _)| name == FOREIGN));
}

#[test]
fn names_that_git_would_misread_are_left_out() {
    for odd in ["/srv/*", "/srv/a\nb", "/srv/a\rb"] {
        assert!(!safe_directories(&[odd.into()]).contains("directory"), "{odd:?}");
    }
}

#[test]
fn a_list_that_cannot_be_written_opens_nothing() {
    let (dir, ground, _) = ground(None);
    ground.list(&["/srv/repo".into()]);
    // The folder is gone, as is what was in it.
    std::fs::rename(ground.git(), dir.path().join("moved")).unwrap();
    ground.list(&[]);
    assert_eq!(*ground.listed.lock().unwrap(), None);
    std::fs::rename(dir.path().join("moved"), ground.git()).unwrap();
    ground.list(&[]);
    assert!(!std::fs::read_to_string(ground.file()).unwrap().contains("/srv/repo"));
}
