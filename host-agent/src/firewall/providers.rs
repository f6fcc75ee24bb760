//! The model providers that the host's owner configured: where prompts of devices may go.
//!
//! Codex takes the name of any provider that it knows, also of those that are built in and that nobody set up
//! here (measured on 0.169.0): `ollama` sends prompts to whatever listens on a port of the host, and `openai`
//! past the gateway that an owner chose instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::IgnoredAny;

/// What Codex uses where its configuration names no provider.
const BUILT_IN: &str = "openai";
/// Names that are kept; of more, the first ones in the order of the alphabet.
const MAX_PROVIDERS: usize = 256;
/// Longest name that is kept, in bytes.
const MAX_NAME: usize = 256;

/// The names, shared by all channels of an environment. None is configured until Codex has said so.
#[derive(Debug, Default)]
pub struct Providers(Mutex<Arc<BTreeSet<String>>>);

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
    model_providers: Option<BTreeMap<String, IgnoredAny>>,
}

impl Providers {
    /// Whether the owner configured a provider of this name, or uses it.
    pub fn has(&self, name: &str) -> bool {
        let names = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        names.contains(name)
    }

    /// Takes them from the result of Codex's `config/read`. Something else changes nothing.
    pub fn learn(&self, result: &str) {
        let Ok(Read { config }) = serde_json::from_str(result) else { return };
        let used = config.model_provider.unwrap_or_else(|| BUILT_IN.to_owned());
        let configured = config.model_providers.unwrap_or_default().into_keys();
        let names = std::iter::once(used).chain(configured).filter(|name| name.len() <= MAX_NAME);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(names.take(MAX_PROVIDERS).collect());
    }

    /// Codex is not there: nothing is known of its configuration.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }
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
        assert_eq!(providers.0.lock().unwrap().len(), MAX_PROVIDERS);
    }
}
