use tempfile::TempDir;

use super::*;

/// An address as an agent has it.
fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}/{}/backend-api", "a".repeat(51) + "q")
}

/// A person's folders: `state` is an agent's home, `codex` a `CODEX_HOME`.
struct Person(TempDir);

impl Person {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("codex")).unwrap();
        Self(folder)
    }

    fn with(text: &str) -> Self {
        let person = Self::new();
        std::fs::write(person.config(), text).unwrap();
        person
    }

    fn codex(&self) -> PathBuf {
        self.0.path().join("codex")
    }

    fn config(&self) -> PathBuf {
        self.codex().join("config.toml")
    }

    fn backup(&self) -> PathBuf {
        self.codex().join(BACKUP)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap()
    }

    /// As a program that starts sees it.
    fn redirect(&self) -> Arc<Redirect> {
        Arc::new(Redirect::open(&self.0.path().join("state"), Some(self.codex())).unwrap())
    }

    /// Wished for.
    fn wished(&self) -> Arc<Redirect> {
        let redirect = self.redirect();
        redirect.want(None).unwrap();
        redirect
    }

    /// What the setting says now.
    fn value(&self) -> String {
        Setting::find(&self.text()).unwrap().expect("a setting").value
    }

    /// Leads it, and is killed.
    fn led_and_killed(&self, port: u16) {
        let leading = self.wished().lead(&address(port)).unwrap();
        std::mem::forget(leading);
    }
}

const MINE: &str = "# mine\nmodel = 'x' # the best\n\n[projects.\"/a\"]\ntrust_level = \"trusted\"\n";

#[test]
fn a_configuration_leads_here_for_as_long_as_the_agent_holds_it_and_is_then_what_it_was() {
    for text in [MINE, "", "chatgpt_base_url = 'https://proxy.example/b' # why\nmodel = 'x'\n", "model = 'x'"] {
        let person = Person::with(text);
        let redirect = person.wished();
        assert_eq!(person.text(), text, "a wish alone changes nothing");
        let leading = redirect.lead(&address(1)).unwrap();
        assert_eq!(person.value(), address(1));
        assert!(redirect.status().leads_here);
        for line in text.lines().filter(|line| !line.starts_with("chatgpt_base_url")) {
            assert!(person.text().contains(line), "{line:?} is gone");
        }
        drop(leading);
        assert_eq!(person.text(), text);
        assert!(!redirect.status().leads_here && redirect.status().wanted);
        assert_eq!(std::fs::read_to_string(person.backup()).unwrap(), text);
    }
}

#[test]
fn what_was_configured_before_is_where_the_rest_goes() {
    let person = Person::with("chatgpt_base_url = \"https://proxy.example/b\"\n");
    let redirect = person.wished();
    let leading = redirect.lead(&address(1)).unwrap();
    for upstream in [&leading.upstream, &redirect.upstream().unwrap()] {
        assert_eq!(format!("{upstream:?}"), "Upstream(proxy.example)");
    }
    drop(leading);
    let person = Person::with(MINE);
    let leading = person.wished().lead(&address(1)).unwrap();
    assert_eq!(format!("{:?}", leading.upstream), "Upstream(chatgpt.com)");

    let person = Person::with("chatgpt_base_url = 'http://far.example'\n");
    let refused = person.redirect().want(None).unwrap_err();
    assert!(matches!(refused, RedirectError::Upstream { .. }), "{refused}");
    assert!(!person.redirect().status().wanted);
}

#[test]
fn a_second_wish_and_a_second_start_change_nothing() {
    let person = Person::with(MINE);
    let redirect = person.wished();
    let leading = redirect.lead(&address(1)).unwrap();
    let text = person.text();
    redirect.want(None).unwrap();
    redirect.want(Some(&person.codex().join("../codex"))).unwrap();
    assert_eq!(person.text(), text);
    drop(leading);
    // What an earlier run kept is not overwritten by what the person has now.
    std::fs::write(person.config(), "model = 'y'\n").unwrap();
    drop(redirect.lead(&address(1)).unwrap());
    assert_eq!(person.text(), "model = 'y'\n");
    assert_eq!(std::fs::read_to_string(person.backup()).unwrap(), MINE);
}

#[test]
fn what_a_killed_agent_left_is_put_back_by_the_next_or_by_a_command() {
    let before = "chatgpt_base_url = 'https://proxy.example'\n";
    for text in [MINE, before] {
        let person = Person::with(text);
        person.led_and_killed(1);
        assert!(person.redirect().status().leads_here);
        // Also at another address than before, and it never takes its own for the person's.
        let leading = person.redirect().lead(&address(2)).unwrap();
        assert_eq!(person.value(), address(2));
        drop(leading);
        assert_eq!(person.text(), text);

        person.led_and_killed(1);
        assert_eq!(person.redirect().restore().unwrap(), Restored::Done);
        assert_eq!(person.text(), text);
        assert!(!person.redirect().status().wanted);
        assert_eq!(person.redirect().restore().unwrap(), Restored::Nothing);
    }
}

#[test]
fn a_value_that_the_person_changed_meanwhile_is_theirs() {
    for now in ["chatgpt_base_url = 'https://mine.example'\n", "model = 'y'\n"] {
        let person = Person::with("chatgpt_base_url = 'https://proxy.example'\n");
        person.led_and_killed(1);
        std::fs::write(person.config(), now).unwrap();
        assert_eq!(person.redirect().restore().unwrap(), Restored::Changed);
        assert_eq!(person.text(), now);
        assert_eq!(person.redirect().restore().unwrap(), Restored::Nothing);
    }
    // The rest of the file may change as it likes.
    let person = Person::with(MINE);
    person.led_and_killed(1);
    std::fs::write(person.config(), person.text() + "[projects.\"/b\"]\ntrust_level = \"trusted\"\n").unwrap();
    assert_eq!(person.redirect().restore().unwrap(), Restored::Done);
    assert_eq!(person.text(), format!("{MINE}[projects.\"/b\"]\ntrust_level = \"trusted\"\n"));
}

#[test]
fn a_configuration_that_was_not_there_is_gone_again_unless_something_else_is_in_it() {
    let person = Person::new();
    let leading = person.wished().lead(&address(1)).unwrap();
    assert_eq!(person.value(), address(1));
    drop(leading);
    assert!(!person.config().exists() && !person.backup().exists());

    // By an agent that was killed, too.
    person.led_and_killed(1);
    drop(person.redirect().lead(&address(1)).unwrap());
    assert!(!person.config().exists());

    let leading = person.wished().lead(&address(1)).unwrap();
    std::fs::write(person.config(), person.text() + "model = 'x'\n").unwrap();
    drop(leading);
    assert_eq!(person.text(), "model = 'x'\n");
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line_and_left_alone() {
    for (text, words) in [
        ("a = 1\nb = \n", "line 2 is no TOML"),
        ("\nchatgpt_base_url = 7\n", "line 2: chatgpt_base_url is no text"),
        (&*format!("\n\nchatgpt_base_url = '{}'\n", address(9)), "line 3, leads to another agent"),
    ] {
        let person = Person::with(text);
        let refused = person.redirect().want(None).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
        assert!(refused.fix().is_some(), "{refused}");
        assert!(!refused.to_string().contains("aaaa"), "a secret is told: {refused}");
        assert_eq!(person.text(), text);
        assert!(!person.backup().exists() && !person.redirect().status().wanted);
    }
    // It broke while an agent ran: it is left, and not forgotten.
    let person = Person::with(MINE);
    let redirect = person.wished();
    let leading = redirect.lead(&address(1)).unwrap();
    let broken = person.text() + "[[[\n";
    std::fs::write(person.config(), &broken).unwrap();
    drop(leading);
    assert_eq!(person.text(), broken);
    std::fs::write(person.config(), broken.replace("[[[\n", "")).unwrap();
    assert_eq!(person.redirect().restore().unwrap(), Restored::Done);
    assert_eq!(person.text(), MINE);
}

#[test]
fn a_line_that_has_codex_drop_the_whole_file_is_told() {
    let person = Person::with("profile = 'x'\n[profiles.x]\nchatgpt_base_url = 'https://proxy.example'\n");
    let redirect = person.wished();
    let leading = redirect.lead(&address(1)).unwrap();
    // What a profile says is none of this setting.
    assert_eq!((format!("{:?}", leading.upstream), person.value()), ("Upstream(chatgpt.com)".into(), address(1)));
    let notes = redirect.status().notes;
    assert!(notes.iter().any(|note| note.contains("take that line out")), "{notes:?}");
}

#[test]
fn a_folder_that_is_not_there_and_another_one_than_the_agents_are_refused() {
    let person = Person::new();
    let other = person.0.path().join("other");
    let nowhere = Redirect::open(&person.0.path().join("state"), Some(other.clone())).unwrap();
    assert!(matches!(nowhere.want(None), Err(RedirectError::NoHome { .. })));
    std::fs::create_dir(&other).unwrap();
    let refused = person.redirect().want(Some(&other)).unwrap_err();
    assert!(matches!(refused, RedirectError::OtherHome { .. }), "{refused}");
    // The folder went while an agent was dead: there is nothing to put back.
    person.led_and_killed(1);
    std::fs::remove_dir_all(person.codex()).unwrap();
    assert_eq!(person.redirect().restore().unwrap(), Restored::Nothing);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_mode_stays_and_what_is_new_is_for_this_user_only() {
        for kept in [0o644, 0o600, 0o440] {
            let person = Person::with(MINE);
            chmod(&person.config(), kept);
            let redirect = person.wished();
            let leading = redirect.lead(&address(1)).unwrap();
            assert_eq!((mode(&person.config()), mode(&person.backup())), (kept, 0o600));
            let notes = redirect.status().notes;
            assert_eq!(notes.iter().any(|note| note.contains("chmod 600")), kept != 0o600, "{notes:?}");
            chmod(&person.codex(), 0o700);
            assert_eq!(redirect.status().notes, [""; 0], "nobody else gets into the folder");
            drop(leading);
            assert_eq!(mode(&person.config()), kept);
        }
        let person = Person::new();
        let _leading = person.wished().lead(&address(1)).unwrap();
        assert_eq!(mode(&person.config()), 0o600);
    }

    #[test]
    fn a_link_stays_one_and_the_file_behind_it_is_changed() {
        let person = Person::new();
        let dotfiles = person.0.path().join("dotfiles");
        std::fs::create_dir(&dotfiles).unwrap();
        symlink("../dotfiles/codex.toml", person.config()).unwrap();
        let refused = person.redirect().want(None).unwrap_err();
        assert!(matches!(refused, RedirectError::Dangling { .. }), "{refused}");

        std::fs::write(dotfiles.join("codex.toml"), MINE).unwrap();
        let redirect = person.wished();
        let leading = redirect.lead(&address(1)).unwrap();
        assert!(person.config().is_symlink() && !dotfiles.join("codex.toml").is_symlink());
        assert_eq!(person.value(), address(1));
        let notes = redirect.status().notes;
        assert!(notes.iter().any(|note| note.contains("commit") && note.contains("codex.toml")), "{notes:?}");
        drop(leading);
        assert!(person.config().is_symlink());
        assert_eq!(std::fs::read_to_string(dotfiles.join("codex.toml")).unwrap(), MINE);
        // Beside the link, not among what the person shares.
        assert_eq!(std::fs::read_dir(&dotfiles).unwrap().count(), 1);
        assert!(person.backup().exists());
    }

    /// Only who may give files away can show this, as tests in containers can.
    #[test]
    fn a_file_or_a_folder_of_another_user_is_refused() {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let person = Person::new();
        let theirs = person.0.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(theirs.join("config.toml"), MINE).unwrap();
        symlink(theirs.join("config.toml"), person.config()).unwrap();
        for path in [theirs.join("config.toml"), theirs.clone(), person.codex()] {
            std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
            let refused = person.redirect().want(None).unwrap_err();
            assert!(
                matches!(&refused, RedirectError::Access(AccessError::NotOurs { path: at, .. }) if *at == path),
                "{refused}"
            );
            let uid = std::fs::metadata(person.0.path()).unwrap().uid();
            std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
        }
        assert_eq!(std::fs::read_to_string(theirs.join("config.toml")).unwrap(), MINE);
        person.wished();
    }
}
