//! Crates that `deny.toml` bans do not come in: its list, held against
//! `Cargo.lock` wherever the tests run. cargo-deny reads the same list, and
//! more of it, where it is installed.

use toml::{Table, Value};

/// What is wrong with a lock file, one sentence for each crate.
fn offences(deny: &str, lock: &str) -> Vec<String> {
    let deny: Table = deny.parse().expect("deny.toml is TOML");
    let lock: Table = lock.parse().expect("Cargo.lock is TOML");
    let packages: Vec<&Value> = lock["package"].as_array().expect("packages").iter().collect();
    let named = |name: &str| packages.iter().filter(|package| package["name"].as_str() == Some(name)).count();

    let mut offences = Vec::new();
    for ban in deny["bans"]["deny"].as_array().expect("a list of banned crates") {
        let name = ban["crate"].as_str().expect("the name of a crate");
        assert!(!name.contains(['@', ':', ' ']), "deny.toml bans versions of {name}: this test reads names only");
        let once = ban.get("deny-multiple-versions").and_then(Value::as_bool) == Some(true);
        let allowed = usize::from(once);
        if named(name) > allowed {
            let how = if once { "is there more than once" } else { "is banned" };
            let reason = ban.get("reason").and_then(Value::as_str).unwrap_or_default();
            offences.push(format!("{name} {how} ({reason}); it comes with {}", dependents(&packages, name).join(", ")));
        }
    }
    offences
}

/// The packages that depend on this one. A dependency is `name`, or `name version` where there are several.
fn dependents(packages: &[&Value], name: &str) -> Vec<String> {
    let depends = |package: &&&Value| {
        let dependencies = package.get("dependencies").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        dependencies.iter().any(|on| on.as_str().and_then(|on| on.split(' ').next()) == Some(name))
    };
    let said = |package: &&Value| {
        let word = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("name"), word("version"))
    };
    packages.iter().filter(depends).map(said).collect()
}

const DENY: &str = include_str!("../../deny.toml");

#[test]
fn no_banned_crate_is_in_the_lock_file() {
    let offences = offences(DENY, include_str!("../../Cargo.lock"));
    assert!(offences.is_empty(), "Cargo.lock has what deny.toml bans:\n{}", offences.join("\n"));
}

#[test]
fn a_banned_crate_is_named_with_whoever_brings_it() {
    let lock = r#"
        [[package]]
        name = "harmless"
        version = "1.0.0"
        dependencies = ["hyper-tls"]
        [[package]]
        name = "hyper-tls"
        version = "0.6.0"
        dependencies = ["native-tls", "ring"]
        [[package]]
        name = "native-tls"
        version = "0.2.14"
        [[package]]
        name = "openssl-probe"
        version = "0.2.0"
        [[package]]
        name = "ring"
        version = "0.17.14"
    "#;
    let offences = offences(DENY, lock);
    assert_eq!(offences.len(), 1, "{offences:?}");
    assert!(offences[0].starts_with("native-tls is banned (one TLS library"), "{offences:?}");
    assert!(offences[0].ends_with("it comes with hyper-tls 0.6.0"), "{offences:?}");
}

#[test]
fn a_second_version_of_what_may_be_there_once_is_named_with_whoever_brings_each() {
    let lock = r#"
        [[package]]
        name = "new"
        version = "2.0.0"
        dependencies = ["rustls 0.23.30"]
        [[package]]
        name = "old"
        version = "1.0.0"
        dependencies = ["rustls 0.22.4"]
        [[package]]
        name = "rustls"
        version = "0.22.4"
        [[package]]
        name = "rustls"
        version = "0.23.30"
    "#;
    let offences = offences(DENY, lock);
    assert_eq!(offences.len(), 1, "{offences:?}");
    assert!(offences[0].starts_with("rustls is there more than once"), "{offences:?}");
    assert!(offences[0].ends_with("it comes with new 2.0.0, old 1.0.0"), "{offences:?}");
}
