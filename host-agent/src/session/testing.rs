//! Two sessions on one link in memory, for tests.

use std::time::Instant;

use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::ids::SessionId;
use reachback_proto::session::{Session, SessionLimits};

use super::{ChannelHandle, SessionEvent, StartedSession, start};
use crate::link::testing::links;

/// A channel's end at the device and at the host, and the sessions that carry it.
pub(crate) async fn channel() -> (ChannelHandle, ChannelHandle, [StartedSession; 2]) {
    let device = start(Session::device(SessionLimits::device(), Instant::now()));
    let mut host = start(Session::host(SessionId([1; 16]), SessionLimits::default(), Instant::now()));
    let (device_link, host_link) = links().await;
    host.handle.attach(host_link, None).await.unwrap();
    device.handle.attach(device_link, None).await.unwrap();
    let near = device.handle.open_channel(LOCAL_ENVIRONMENT).await.unwrap();
    let Some(SessionEvent::ChannelOpened { channel: far, .. }) = host.events.recv().await else {
        panic!("the channel does not open at the host")
    };
    (near, far, [device, host])
}
