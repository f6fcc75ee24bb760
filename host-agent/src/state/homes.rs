//! Files of earlier builds, in `tests/homes`: each is read, and written again as it was.
//!
//! This fails as soon as a field changes, so that nobody changes one without a
//! thought for the homes that are out there.

use std::any::type_name;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::atomic::{self, Document};
use super::{awake, codex, demo, devices, host, lock, paired_hosts, redirect, remote_control, ssh_hosts, workspaces};
use crate::platform::files;

/// A file of `tests/homes`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/homes").join(name)
}

/// What today's build writes of what it reads in this file is the same file.
#[track_caller]
fn is_written_as_in<T: Document>(name: &str) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("document.json");
    std::fs::copy(fixture(name), &path).unwrap();
    files::restrict(&path).unwrap();
    let json = || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    let before = json();
    let document: T = atomic::load(&path).unwrap_or_else(|error| panic!("{name}: {error}")).unwrap();
    atomic::save(&path, &document).unwrap();
    assert_eq!(
        before,
        json(),
        "{} is no longer written as in tests/homes/{name}: see \"Changing a state file\" in CONTRIBUTING.md",
        type_name::<T>()
    );
}

#[test]
fn every_document_is_written_as_in_the_newest_home() {
    is_written_as_in::<host::HostFile>("v2/tower/host/host.json");
    is_written_as_in::<devices::DeviceList>("v1/unseen/host/devices.json");
    is_written_as_in::<lock::Holder>("v1/tower/agent.json");
    is_written_as_in::<workspaces::WorkspaceList>("v1/folders/host/workspaces.json");
    is_written_as_in::<ssh_hosts::SshHostList>("v1/machines/host/ssh.json");
    is_written_as_in::<awake::Awake>("v1/awake/host/awake.json");
    is_written_as_in::<codex::StartedCodex>("v1/started/host/codex.json");
    is_written_as_in::<remote_control::RemoteControl>("v1/enrolled/host/remote_control.json");
    is_written_as_in::<redirect::Redirect>("v1/redirected/host/redirect.json");
    is_written_as_in::<demo::Mark>("v1/demo/demo.json");
    is_written_as_in::<paired_hosts::HostFile>("v2/laptop/controller/hosts/mqm2ab7gu34axk3bjbuigrc2mu.json");
}
