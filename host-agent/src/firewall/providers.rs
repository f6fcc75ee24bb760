//! The model providers that the host's owner configured, and the models: where prompts of devices may go.
//!
//! Codex takes the name of any provider that it knows, also of those that are built in and that nobody set up
//! here (measured on 0.169.0): `ollama` sends prompts to whatever listens on a port of the host, and `openai`
//! past the gateway that an owner chose instead. It takes any model's name, too, and passes it on to the provider:
//! to a gateway that serves many, that is another price, or another place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde::de::IgnoredAny;

/// What Codex uses where its configuration names no provider.
const BUILT_IN: &str = "openai";
/// Models that are kept.
const MAX_MODELS: usize = 4096;
/// Names that are kept; of more, the first ones in the order of the alphabet.
const MAX_PROVIDERS: usize = 256;
/// Longest name that is kept, in bytes.
const MAX_NAME: usize = 256;

/// The names, shared by all channels of an environment. None is configured until Codex has said so.
#[derive(Debug, Default)]
pub struct Providers(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    providers: BTreeSet<String>,
    /// What the configuration names.
    models: BTreeSet<String>,
    /// What Codex lists.
    listed: BTreeSet<String>,
}

/// Of Codex's `config/read`, what is looked at: never what the providers' own settings hold.
#[derive(Deserialize)]
struct Read {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    model_provider: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    review_model: Option<String>,
    /// Of voice.
    #[serde(default)]
    experimental_realtime_ws_model: Option<String>,
    #[serde(default)]
    model_providers: Option<BTreeMap<String, IgnoredAny>>,
}

impl Providers {
    /// Whether the owner configured a provider of this name, or uses it.
    pub fn has(&self, name: &str) -> bool {
        self.names().providers.contains(name)
    }

    /// Whether Codex lists a model of this name, or its configuration names it.
    pub fn has_model(&self, name: &str) -> bool {
        let names = self.names();
        names.models.contains(name) || names.listed.contains(name)
    }

    /// Takes what the result of Codex's `config/read` names. Something else changes nothing.
    pub fn learn(&self, result: &str) {
        let Ok(Read { config }) = serde_json::from_str(result) else { return };
        let used = config.model_provider.unwrap_or_else(|| BUILT_IN.to_owned());
        let configured = config.model_providers.unwrap_or_default().into_keys();
        let is_kept = |name: &String| name.len() <= MAX_NAME;
        let mut names = self.names();
        names.providers = std::iter::once(used).chain(configured).filter(is_kept).take(MAX_PROVIDERS).collect();
        let models = [config.model, config.review_model, config.experimental_realtime_ws_model];
        names.models = models.into_iter().flatten().filter(is_kept).collect();
    }

    /// Takes a page of Codex's `model/list`, and gives the cursor of the next one.
    pub fn learn_models(&self, result: &str) -> Option<String> {
        let List { data, next_cursor } = serde_json::from_str(result).ok()?;
        let mut names = self.names();
        for name in data.into_iter().map(|model| model.model).filter(|name| name.len() <= MAX_NAME) {
            if names.listed.len() >= MAX_MODELS {
                return None;
            }
            names.listed.insert(name);
        }
        next_cursor
    }

    /// Codex is not there: nothing is known of its configuration.
    pub fn clear(&self) {
        *self.names() = Names::default();
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of Codex's `model/list`, what is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    data: Vec<Model>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Model {
    model: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn learned(config: &serde_json::Value) -> Providers {
        let providers = Providers::default();
        providers.learn(&json!({ "config": config, "origins": {} }).to_string());
        providers
    }

    #[test]
    fn a_provider_is_configured_that_the_owner_set_up_or_uses() {
        let providers = learned(
            &json!({ "model_provider": "mine", "model_providers": { "mine": {}, "other": { "http_headers": null } } }),
        );
        assert!(providers.has("mine") && providers.has("other"));
        assert!(!providers.has("openai") && !providers.has("ollama") && !providers.has(""));
    }

    #[test]
    fn without_a_word_of_the_owner_it_is_the_one_that_codex_uses() {
        for config in [json!({}), json!({ "model_provider": null, "model_providers": null })] {
            let providers = learned(&config);
            assert!(providers.has("openai") && !providers.has("ollama"));
        }
    }

    #[test]
    fn nothing_is_configured_before_codex_said_so_and_after_it_has_gone() {
        let providers = learned(&json!({}));
        providers.learn("{}");
        assert!(providers.has("openai"), "what is no configuration changes nothing");
        providers.clear();
        assert!(!providers.has("openai") && !Providers::default().has("openai"));
    }

    #[test]
    fn names_are_bounded() {
        let many: serde_json::Map<_, _> = (0..2 * MAX_PROVIDERS).map(|n| (format!("p{n}"), json!({}))).collect();
        let providers = learned(&json!({ "model_provider": "x".repeat(MAX_NAME + 1), "model_providers": many }));
        assert_eq!(providers.names().providers.len(), MAX_PROVIDERS);
    }

    #[test]
    fn a_model_is_known_that_codex_lists_or_its_configuration_names() {
        let providers =
            learned(&json!({ "model": "used", "review_model": "reviews", "experimental_realtime_ws_model": "speaks" }));
        let page = |names: &[&str], next: Option<&str>| {
            let data: Vec<_> = names.iter().map(|name| json!({ "model": name, "hidden": true })).collect();
            json!({ "data": data, "nextCursor": next }).to_string()
        };
        assert_eq!(providers.learn_models(&page(&["a", "b"], Some("c2"))).as_deref(), Some("c2"));
        assert_eq!(providers.learn_models(&page(&["c"], None)), None);
        assert_eq!(providers.learn_models("nothing of the kind"), None);
        for known in ["used", "reviews", "speaks", "a", "b", "c"] {
            assert!(providers.has_model(known), "{known}");
        }
        for other in ["", "A", "a ", "d"] {
            assert!(!providers.has_model(other), "{other}");
        }
        // The owner chooses another one.
        providers.learn(&json!({ "config": { "model": "another" } }).to_string());
        assert!(providers.has_model("another") && providers.has_model("a") && !providers.has_model("used"));

        let many: Vec<_> = (0..2 * MAX_MODELS).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(providers.learn_models(&page(&many, Some("more"))), None, "it reads on for ever");
        assert_eq!(providers.names().listed.len(), MAX_MODELS);
        providers.clear();
        assert!(!providers.has_model("another") && !providers.has_model("a"));
    }
}
