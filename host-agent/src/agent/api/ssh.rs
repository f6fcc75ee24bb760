//! `ssh/list`, `ssh/add` and `ssh/remove`: which machines of the host's SSH configuration devices see as environments.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::environments::EnvironmentInfo;
use super::error::Refusal;
use super::{ApiContext, Call, Done, NoParams};
use crate::agent::ssh_hosts::SshHosts;
use crate::local_api::Failure;
use crate::ssh::Found;
use reachback_proto::ids::DeviceId;

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct SshListResult {
    /// In the order of the configuration's files.
    data: Vec<SshHostInfo>,
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
    Ok(SshListResult { data })
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
        let added = hosts.added(&alias).is_some();
        match &found.settings {
            Ok(settings) => Self {
                alias,
                user: Some(settings.user().to_owned()),
                host_name: Some(settings.host_name().to_owned()),
                port: settings.port(),
                added,
                error: None,
            },
            Err(error) => {
                Self { alias, user: None, host_name: None, port: None, added, error: Some(error.to_string()) }
            }
        }
    }
}
