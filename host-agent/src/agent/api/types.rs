//! What the API takes and says, for TypeScript: `web/src/api/types.ts`.
//!
//! `cargo xtask gen` writes the file with the ignored test below and lets
//! prettier lay it out; the other test fails where the file is not what the
//! types here say.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use reachback_proto::scope::Scope;
use ts_rs::{Config, TS, TypeVisitor};

use super::error::Refusal;
use super::notices::Notice;
use super::{Call, describe};

const HEAD: &str = "\
// Written by `cargo xtask gen` from host-agent/src/agent/api/. What each member means: docs/api.md.
/* eslint-disable @typescript-eslint/array-type, @typescript-eslint/consistent-type-definitions */

import type { Scope } from \"../scope\";
";

/// The declarations, by name.
pub(super) struct Types {
    config: Config,
    declared: BTreeMap<String, String>,
    methods: String,
}

impl Types {
    pub(super) fn new() -> Self {
        // All of our numbers stay below 2^53.
        let config = Config::new().with_large_int("number");
        Self { config, declared: BTreeMap::new(), methods: String::new() }
    }

    /// Adds a method with the types of its function.
    pub(super) fn method<P: TS + 'static, R: TS + 'static, F: Future<Output = Result<R, Refusal>>>(
        &mut self,
        name: &str,
        needed: Scope,
        _: impl Fn(Call, P) -> F,
    ) {
        self.visit::<P>();
        self.visit::<R>();
        let (params, result) = (P::name(&self.config), R::name(&self.config));
        writeln!(self.methods, "\"{name}\": {{ scope: \"{needed}\"; params: {params}; result: {result} }};")
            .expect("a String takes everything");
    }

    pub(super) fn text(mut self) -> String {
        self.visit::<Notice>();
        self.visit::<Refusal>();
        describe(&mut self);
        let mut text = HEAD.to_owned();
        for declaration in self.declared.values() {
            text.push('\n');
            text.push_str(declaration);
        }
        text + "\n/** Each method: who may call it, what it takes, what it says. */\nexport type Methods = {\n"
            + &self.methods
            + "};\n"
    }
}

impl TypeVisitor for Types {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Only types of our own have a file to lie in.
        if T::output_path().is_none() || self.declared.contains_key(&T::ident(&self.config)) {
            T::visit_generics(self);
            return;
        }
        let docs = T::docs().unwrap_or_default();
        let declaration = format!("{docs}export {}\n", T::decl(&self.config));
        self.declared.insert(T::ident(&self.config), declaration);
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../web/src/api/types.ts")
}

/// Without what prettier changes: layout, and where it says the same with other punctuation.
fn words(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || ",;|\"".contains(c)).filter(|word| !word.is_empty()).collect()
}

#[test]
#[ignore = "writes web/src/api/types.ts; `cargo xtask gen` runs it"]
fn write_the_types_for_typescript() {
    let file = file();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, Types::new().text()).unwrap();
}

#[test]
fn the_types_for_typescript_are_those_of_the_api() {
    let there = std::fs::read_to_string(file()).unwrap_or_default();
    assert_eq!(
        words(&there),
        words(&Types::new().text()),
        "web/src/api/types.ts is not what the API is now: run `cargo xtask gen`"
    );
}
