//! `ssh/list`, `ssh/add` and `ssh/remove`: which machines of the host's SSH configuration devices see as environments; and
//! `ssh/login` and `ssh/answer`: logins to those that ask for a code, where the owner has devices asked for it.

use std::sync::Arc;

use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::asking::{AnswerError, Away};
use super::environments::EnvironmentInfo;
use super::error::{Reason, Refusal};
use super::{ApiContext, Call, Done, NoParams};
use crate::agent::ssh_hosts::SshHosts;
use crate::local_api::Failure;
use crate::ssh::{Found, Secret};

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct SshListResult {
    /// In the order of the configuration's files.
    data: Vec<SshHostInfo>,
    /// Included files that could not be read, each with why, for a person: machines may be missing. Absent where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<String>>", optional))]
    unread: Vec<String>,
}

/// A machine that the host's SSH configuration names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
struct SshHostInfo {
    /// Its name there.
    alias: String,
    /// Who one is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Whether it is an environment of this host.
    added: bool,
    /// Whether the owner has devices asked what it asks for beside a key; absent where not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, ts(as = "Option<bool>", optional))]
    asks_devices: bool,
    /// Why it can't be said what the name means, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct SshParams {
    /// A machine's name, from `ssh/list`.
    alias: String,
}

pub(super) async fn list(call: Call, _: NoParams) -> Result<SshListResult, Refusal> {
    let hosts = &call.context.ssh_hosts;
    let listing = hosts.listing().await.map_err(Refusal::ssh)?;
    let data = listing.found.iter().map(|found| SshHostInfo::of(found, hosts)).collect();
    Ok(SshListResult { data, unread: listing.unread.clone() })
}

pub(super) async fn add(call: Call, params: SshParams) -> Result<EnvironmentInfo, Refusal> {
    let SshParams { alias } = params;
    change(call, move |context, by| async move {
        // Whoever did not hear the answer asks again.
        let added = match context.ssh_hosts.added(&alias) {
            Some(added) => added,
            None => context.ssh_hosts.add(&alias, Some(by)).await?.environment,
        };
        let environment = context.environments.find(&added);
        // It may have been taken back in the meantime.
        environment
            .map(|environment| EnvironmentInfo::of(&environment))
            .ok_or_else(|| Failure::new("ssh_unknown_name", "it was taken back at the same moment").fix("add it again"))
    })
    .await
}

pub(super) async fn remove(call: Call, params: SshParams) -> Result<Done, Refusal> {
    let SshParams { alias } = params;
    change(call, move |context, by| async move {
        if context.ssh_hosts.added(&alias).is_some() {
            context.ssh_hosts.remove(&alias, Some(by)).await?;
        }
        Ok(Done {})
    })
    .await
}

/// Ends with the session of the device that asked for it.
pub(super) async fn login(call: Call, params: SshParams) -> Result<EnvironmentInfo, Refusal> {
    const METHOD: &str = "ssh/login";
    let SshParams { alias } = params;
    let context = Arc::clone(&call.context);
    context.is_admin(call.caller.device).map_err(|scope| Refusal::scope(METHOD, Scope::Admin, scope))?;
    let hosts = &context.ssh_hosts;
    let environment = hosts.added(&alias).ok_or_else(Refusal::environment)?;
    let away = Arc::new(Away::new(call.clone(), alias.clone(), environment.clone()));
    if let Err(why) = hosts.log_in_for(&alias, away).await {
        let refusal = Refusal::login(why);
        // It was refused, whether or not that is written.
        let _ = call.record(&environment, METHOD, Some(refusal.reason()));
        return Err(refusal);
    }
    let found = context.environments.find(&environment).ok_or_else(Refusal::environment)?;
    Ok(EnvironmentInfo::of(&found))
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct SshAnswerParams {
    /// From `ssh/asked`.
    id: u64,
    /// One for each prompt, in their order; absent where there are none, and the login ends.
    #[cfg_attr(test, ts(type = "string[]", optional))]
    answers: Option<Secrets>,
}

/// Texts that a person typed. What is wrong with them is said without them.
struct Secrets(Vec<Secret>);

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(from).map_err(|_| D::Error::custom("it is no list of texts"))?;
        Ok(Self(texts.into_iter().map(Secret::new).collect()))
    }
}

pub(super) async fn answer(call: Call, params: SshAnswerParams) -> Result<Done, Refusal> {
    const METHOD: &str = "ssh/answer";
    let SshAnswerParams { id, answers } = params;
    call.context.is_admin(call.caller.device).map_err(|scope| Refusal::scope(METHOD, Scope::Admin, scope))?;
    let refused = |error| match error {
        AnswerError::NotOpen => Refusal::because(Reason::Answered, &error),
        error => Refusal::member(METHOD, "answers", &error.to_string()),
    };
    let Some(Secrets(answers)) = answers else {
        let environment = call.asking.decline(id).map_err(refused)?;
        // The login ends, whether or not that is written.
        let _ = call.record(&environment, "ssh/declined", None);
        return Ok(Done {});
    };
    let taken = call.asking.take(id, answers).map_err(refused)?;
    // What can't be recorded is not passed on, and the login ends.
    call.record(&taken.environment, METHOD, None).map_err(|_| Refusal::disk())?;
    if taken.pass() { Ok(Done {}) } else { Err(Refusal::because(Reason::Answered, &AnswerError::NotOpen)) }
}

/// Makes a change to the end, also where the device that asked for it is gone meanwhile.
async fn change<T: Send + 'static, F: Future<Output = Result<T, Failure>> + Send + 'static>(
    call: Call,
    make: impl FnOnce(Arc<ApiContext>, DeviceId) -> F,
) -> Result<T, Refusal> {
    let changing = tokio::spawn(make(Arc::clone(&call.context), call.caller.device));
    changing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())).map_err(Refusal::ssh)
}

impl SshHostInfo {
    fn of(found: &Found, hosts: &SshHosts) -> Self {
        let alias = found.alias.name.clone();
        let (added, asks_devices) = (hosts.added(&alias).is_some(), hosts.asks_devices(&alias));
        match &found.settings {
            Ok(settings) => Self {
                alias,
                user: Some(settings.user().to_owned()),
                host_name: Some(settings.host_name().to_owned()),
                port: settings.port(),
                added,
                asks_devices,
                error: None,
            },
            Err(error) => {
                let (user, host_name, port) = (None, None, None);
                Self { alias, user, host_name, port, added, asks_devices, error: Some(error.to_string()) }
            }
        }
    }
}
