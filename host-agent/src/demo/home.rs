//! The demo's folders: a private `CODEX_HOME` and a small project to play in.
//!
//! `config.toml` is written anew each time, as the model's port changes, and
//! with it a catalog of models that holds the script alone: Codex would warn of
//! a model it does not know, and offer others that are not there. The project
//! is only filled where it is empty, so what was made in it stays. It lies beside
//! REACHBACK_HOME and never in it: devices work there, and keys are no neighbours.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use reachback_proto::words::quote;
use reachback_relay::files::replace;
use serde::Serialize;
use serde_json::{Value, json};

use crate::codex::CodexConfig;
use crate::platform::dirs::beside;
use crate::state::timestamp::Timestamp;

/// The model's name towards Codex.
const MODEL: &str = "reachback-demo";

/// Where Codex keeps its sign-in.
const SIGN_IN: &str = "auth.json";

/// The project's files. No git: the demo should not depend on it.
const PROJECT: [(&str, &str); 2] = [
    (
        "README.md",
        "# A small project\n\
         \n\
         It is here to be played with: Codex works in this folder while you try the demo.\n\
         Its model is a script, so type what the script knows:\n\
         \n\
         - `run ls` asks you before it runs a command\n\
         - `edit` changes a file in this folder\n\
         - `long` talks until you interrupt it\n",
    ),
    ("greet.sh", "#!/bin/sh\n# Says hello to whoever is named.\necho \"Hello, ${1:-world}!\"\n"),
];

/// The demo's folders could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not {act} {}", quote(path.display()))]
pub struct PrepareError {
    act: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The demo's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoHome {
    codex_home: PathBuf,
    project: PathBuf,
}

/// Where the project of the demo in `home` is.
pub fn project_beside(home: &Path) -> PathBuf {
    beside(home, "-project")
}

impl DemoHome {
    /// Makes or renews the folders for a model at `model`: the `CODEX_HOME` in `home`, which is Reachback's, and `project`.
    pub fn prepare(home: &Path, project: &Path, model: SocketAddr) -> Result<Self, PrepareError> {
        let codex_home = home.join("demo").join("codex-home");
        for folder in [&codex_home, project] {
            private_folder(folder).map_err(failed("make", folder))?;
        }
        // Codex looks trust up by the real path.
        let real = |path: &Path| path.canonicalize().map_err(failed("find", path));
        let (codex_home, project) = (real(&codex_home)?, real(project)?);
        if project.starts_with(real(home)?) {
            let inside = "it leads into the demo's home, where devices must not work: choose another home with --home";
            return Err(failed("work in", &project)(io::Error::other(inside)));
        }

        let catalog = codex_home.join("models.json");
        replace(&catalog, catalog_json().as_bytes()).map_err(failed("write", &catalog))?;
        let config = codex_home.join("config.toml");
        replace(&config, config_toml(model, &catalog, &project).as_bytes()).map_err(failed("write", &config))?;
        // Nobody signs in here but `sign_in`, and with that Codex would speak to its maker.
        let sign_in = codex_home.join(SIGN_IN);
        match std::fs::remove_file(&sign_in) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &sign_in)(error)),
            _ => {}
        }
        for (name, text) in PROJECT {
            let file = project.join(name);
            create(&file, text).map_err(failed("write", &file))?;
        }
        Ok(Self { codex_home, project })
    }

    /// Makes up a sign-in with ChatGPT, without which Codex has no remote control. It opens nothing anywhere: it is not signed,
    /// and only the agent on this machine is shown it.
    pub fn sign_in(&self) -> Result<(), PrepareError> {
        let file = self.codex_home.join(SIGN_IN);
        replace(&file, auth_json().as_bytes()).map_err(failed("write", &file))
    }

    /// The private `CODEX_HOME`.
    pub fn codex_home(&self) -> &Path {
        &self.codex_home
    }

    /// The folder to work in.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// How to run `program` in these folders.
    pub fn codex(&self, program: impl Into<PathBuf>) -> CodexConfig {
        let config =
            CodexConfig { program: program.into(), home: Some(self.codex_home.clone()), ..CodexConfig::default() };
        // The scripted model is on loopback.
        config.past_proxies()
    }
}

/// What `codex login` writes, for an account that there is not (version 0.169.0). Codex reads the claims, and leaves the
/// signature to those that it shows the token.
fn auth_json() -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let account = "reachback-demo";
    let claims = json!({
        "iss": "https://reachback.invalid",
        "email": "demo@reachback.invalid",
        // The end of 2099.
        "exp": 4_102_444_799_u64,
        "https://api.openai.com/auth": {
            "chatgpt_account_id": account, "chatgpt_user_id": account, "user_id": account, "chatgpt_plan_type": "pro",
        },
    });
    let token = format!("{}.{}.{}", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims), part(&json!("")));
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": { "id_token": token, "access_token": token, "refresh_token": "none", "account_id": account },
        "last_refresh": Timestamp::now(),
    })
    .to_string()
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError + use<> {
    let path = path.to_owned();
    move |source| PrepareError { act, path, source }
}

/// Codex keeps threads and logs here, which are nobody else's business.
fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file unless it is there.
fn create(path: &Path, text: &str) -> io::Result<()> {
    match std::fs::File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// What of Codex's `config.toml` the demo sets.
#[derive(Serialize)]
struct Config<'a> {
    model: &'a str,
    model_provider: &'a str,
    model_catalog_json: &'a str,
    approval_policy: &'a str,
    sandbox_mode: &'a str,
    check_for_update_on_startup: bool,
    allow_login_shell: bool,
    analytics: Analytics,
    model_providers: One<'a, Provider<'a>>,
    projects: One<'a, Project<'a>>,
}

#[derive(Serialize)]
struct Analytics {
    enabled: bool,
}

#[derive(Serialize)]
struct Provider<'a> {
    name: &'a str,
    base_url: String,
    wire_api: &'a str,
    requires_openai_auth: bool,
    request_max_retries: u8,
    stream_max_retries: u8,
}

#[derive(Serialize)]
struct Project<'a> {
    trust_level: &'a str,
}

type One<'a, T> = std::collections::BTreeMap<&'a str, T>;

fn config_toml(model: SocketAddr, catalog: &Path, project: &Path) -> String {
    let project = project.to_string_lossy();
    let config = Config {
        model: MODEL,
        model_provider: "scripted",
        model_catalog_json: &catalog.to_string_lossy(),
        approval_policy: "on-request",
        sandbox_mode: "workspace-write",
        check_for_update_on_startup: false,
        // The demo shows Codex, not what the user's profile does in a shell that may not write to their home.
        allow_login_shell: false,
        analytics: Analytics { enabled: false },
        model_providers: One::from([(
            "scripted",
            Provider {
                name: "Reachback's scripted model",
                base_url: format!("http://{model}/v1"),
                wire_api: "responses",
                requires_openai_auth: false,
                request_max_retries: 1,
                stream_max_retries: 1,
            },
        )]),
        projects: One::from([(&*project, Project { trust_level: "trusted" })]),
    };
    toml::to_string(&config).expect("strings, numbers and tables are TOML")
}

/// Codex's description of a model, with every member that some version of it wants.
fn catalog_json() -> String {
    serde_json::json!({ "models": [{
        "slug": MODEL,
        "display_name": "Scripted demo",
        "description": "A script on this machine, in place of a model.",
        "priority": 1,
        "visibility": "list",
        "supported_in_api": true,
        "supported_reasoning_levels": [],
        "supports_reasoning_summaries": false,
        "support_verbosity": false,
        "supports_parallel_tool_calls": false,
        "shell_type": "unified_exec",
        "experimental_supported_tools": [],
        "input_modalities": ["text", "image"],
        "context_window": 272_000,
        "truncation_policy": { "mode": "tokens", "limit": 10_000 },
        "base_instructions": "You are a script that shows a newcomer what Codex can do.",
    }] })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn prepare(home: &Path, port: u16) -> Result<DemoHome, PrepareError> {
        DemoHome::prepare(home, &project_beside(home), model(port))
    }

    #[test]
    fn the_project_lies_beside_the_home_and_an_older_one_in_it_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let old = home.join("demo/project/README.md");
        std::fs::create_dir_all(old.parent().unwrap()).unwrap();
        std::fs::write(&old, "made by an earlier build").unwrap();
        let demo = prepare(&home, 1).unwrap();
        assert_eq!(demo.project(), root.path().canonicalize().unwrap().join("home-project"));
        assert!(demo.codex_home().starts_with(home.canonicalize().unwrap()));
        assert_eq!(std::fs::read_to_string(old).unwrap(), "made by an earlier build");
    }

    #[test]
    fn a_project_that_leads_into_the_home_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        // The parent of `home` by its other name: what is beside that lies in it.
        std::fs::create_dir(&home).unwrap();
        let refused = prepare(&home.join(".."), 1).unwrap_err();
        assert!(refused.to_string().starts_with("could not work in “"), "{refused}");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&home, project_beside(&home)).unwrap();
            assert!(prepare(&home, 1).is_err());
            assert!(!home.join("README.md").exists(), "it was filled");
        }
    }

    #[test]
    fn preparing_twice_moves_the_model_and_keeps_the_project() {
        let root = tempfile::tempdir().unwrap();
        let prepare = |port| prepare(&root.path().join("home"), port);
        let home = prepare(1111).unwrap();
        std::fs::write(home.project().join("README.md"), "mine now").unwrap();
        std::fs::remove_file(home.project().join("greet.sh")).unwrap();

        assert_eq!(prepare(2222).unwrap(), home);
        let config = std::fs::read_to_string(home.codex_home().join("config.toml")).unwrap();
        assert!(config.contains("http://127.0.0.1:2222/v1") && !config.contains("1111"), "{config}");
        assert_eq!(std::fs::read_to_string(home.project().join("README.md")).unwrap(), "mine now");
        assert!(home.project().join("greet.sh").exists());
    }

    #[test]
    fn a_sign_in_that_was_made_up_for_one_start_is_gone_at_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let model = "127.0.0.1:9".parse().unwrap();
        let prepare = || DemoHome::prepare(&temp.path().join("home"), &temp.path().join("project"), model).unwrap();
        let home = prepare();
        home.sign_in().unwrap();
        assert!(home.codex_home().join(SIGN_IN).exists());
        prepare();
        assert!(!home.codex_home().join(SIGN_IN).exists());
    }

    #[test]
    fn the_configuration_keeps_codex_local_and_asking() {
        let odd = Path::new("/a \"quoted\" folder\\with.dots");
        let config: toml::Table = config_toml(model(7), Path::new("/models.json"), odd).parse().unwrap();
        assert_eq!(config["approval_policy"].as_str(), Some("on-request"));
        assert_eq!(config["sandbox_mode"].as_str(), Some("workspace-write"));
        assert_eq!(config["check_for_update_on_startup"].as_bool(), Some(false));
        assert_eq!(config["analytics"]["enabled"].as_bool(), Some(false));
        assert_eq!(config["projects"][odd.to_str().unwrap()]["trust_level"].as_str(), Some("trusted"));
        let provider = &config["model_providers"][config["model_provider"].as_str().unwrap()];
        assert_eq!(provider["base_url"].as_str(), Some("http://127.0.0.1:7/v1"));
        assert_eq!(provider["requires_openai_auth"].as_bool(), Some(false));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_into_the_home() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let home = prepare(&root.path().join("new"), 1).unwrap();
        for folder in [home.codex_home(), home.project()] {
            assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_root_that_is_a_file_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = prepare(file.path(), 1).unwrap_err().to_string();
        assert!(refused.starts_with("could not make “"), "{refused}");
    }
}
