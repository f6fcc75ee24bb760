//! What the documents say about the code must be true: the threat model names
//! a test for each claim, and pages link to each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::repository;

/// Pages for people, from the repository's root.
const PAGES: [&str; 12] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/adapters.md",
    "docs/api.md",
    "docs/operations.md",
    "docs/out-of-scope.md",
    "docs/protocol.md",
    "docs/threat-model.md",
    "docs/web-speed.md",
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file of the crates.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" && name != "node_modules" {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let mut files = Vec::new();
    for crate_dir in ["proto", "relay", "host-agent", "tests"] {
        sources(&repository().join(crate_dir), &mut files);
    }
    let code: Vec<String> = files.iter().map(|path| read(path)).collect();
    let page = read(&repository().join("docs/threat-model.md"));
    // Tests are sentences: words of lower case, at least three.
    let is_test = |word: &&str| {
        word.matches('_').count() >= 2 && word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 50, "the page names only {} tests: was its form changed?", named.len());
    let exists = |name: &&str| code.iter().any(|text| text.contains(&format!("fn {name}(")));
    let missing: Vec<&str> = named.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "docs/threat-model.md names tests that are not there: {missing:?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in PAGES {
        let path = repository().join(page);
        let folder = path.parent().expect("a page lies in a folder");
        for target in read(&path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{page} links to {target}, which is not there");
            }
        }
    }
}
