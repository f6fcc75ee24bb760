//! Who reads for devices: a task for each device and environment, with a connection to Codex of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reachback_proto::ids::DeviceId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::items::{self, ItemPage};
use super::threads::{self, ThreadPage};
use super::{ItemQuery, NotRead, ThreadQuery};
use crate::agent::desk::Seat;
use crate::agent::environments::Environments;
use crate::audit::AuditLog;
use crate::state::devices::DeviceStore;

/// Pages that a device may wait for in an environment, on all of its sessions together.
const WAITING: usize = 32;
/// How long a connection for a device stays when nobody asks.
const IDLE: Duration = Duration::from_secs(60);

/// Reads pages for devices.
pub(crate) struct Readers {
    environments: Arc<Environments>,
    devices: Arc<DeviceStore>,
    audit: Arc<AuditLog>,
    running: Mutex<HashMap<(DeviceId, String), Reader>>,
}

/// A task that ends by itself when it is idle, and with this.
struct Reader {
    jobs: mpsc::Sender<Job>,
    _task: AbortOnDropHandle<()>,
}

enum Job {
    Items(ItemQuery, Done<ItemPage>),
    Threads(ThreadQuery, Done<ThreadPage>),
}

type Done<T> = oneshot::Sender<Result<T, NotRead>>;

impl Readers {
    /// Nobody reads yet.
    pub(crate) fn new(environments: Arc<Environments>, devices: Arc<DeviceStore>, audit: Arc<AuditLog>) -> Self {
        Self { environments, devices, audit, running: Mutex::default() }
    }

    /// A page of a thread.
    pub(crate) async fn items(
        &self,
        device: DeviceId,
        environment: &str,
        query: ItemQuery,
    ) -> Result<ItemPage, NotRead> {
        self.ask(device, environment, |done| Job::Items(query, done)).await
    }

    /// A page of the list of threads.
    pub(crate) async fn threads(
        &self,
        device: DeviceId,
        environment: &str,
        query: ThreadQuery,
    ) -> Result<ThreadPage, NotRead> {
        self.ask(device, environment, |done| Job::Threads(query, done)).await
    }

    async fn ask<T>(
        &self,
        device: DeviceId,
        environment: &str,
        job: impl FnOnce(Done<T>) -> Job,
    ) -> Result<T, NotRead> {
        let (done, answer) = oneshot::channel();
        self.reader(device, environment)?.try_send(job(done)).map_err(|_| NotRead::Busy)?;
        answer.await.unwrap_or(Err(NotRead::Lost))
    }

    /// The way to a reader that is there.
    fn reader(&self, device: DeviceId, environment: &str) -> Result<mpsc::Sender<Job>, NotRead> {
        self.environments.find(environment).ok_or(NotRead::Environment)?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, reader| !reader.jobs.is_closed());
        let reader = running.entry((device, environment.to_owned())).or_insert_with(|| {
            let (environments, devices) = (Arc::clone(&self.environments), Arc::clone(&self.devices));
            let seat = Seat::new((device, environment.to_owned()), environments, devices, Arc::clone(&self.audit));
            let (jobs, jobs_in) = mpsc::channel(WAITING);
            Reader { jobs, _task: AbortOnDropHandle::new(tokio::spawn(read(seat, jobs_in))) }
        });
        Ok(reader.jobs.clone())
    }
}

async fn read(mut seat: Seat, mut jobs: mpsc::Receiver<Job>) {
    while let Ok(Some(job)) = timeout(IDLE, next(&mut seat, &mut jobs)).await {
        carry_out(&mut seat, job).await;
    }
    // What came in between is done as well: nothing is taken after this.
    jobs.close();
    while let Some(job) = jobs.recv().await {
        carry_out(&mut seat, job).await;
    }
}

/// The next job. A connection that ends meanwhile is not kept for it.
async fn next(seat: &mut Seat, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    loop {
        let Some(desk) = seat.open_desk() else { return jobs.recv().await };
        tokio::select! {
            job = jobs.recv() => return job,
            heard = desk.hear() => if heard.is_none() {
                seat.leave();
            },
        }
    }
}

async fn carry_out(seat: &mut Seat, job: Job) {
    match job {
        // Whoever has gone, with the session, waits for nothing.
        Job::Items(_, done) if done.is_closed() => {}
        Job::Threads(_, done) if done.is_closed() => {}
        Job::Items(query, done) => {
            let page = match seat.desk().await {
                Ok(desk) => items::page(desk, query).await,
                Err(error) => Err(error.into()),
            };
            answer(seat, done, page);
        }
        Job::Threads(query, done) => {
            let page = match seat.desk().await {
                Ok(desk) => threads::page(desk, query).await,
                Err(error) => Err(error.into()),
            };
            answer(seat, done, page);
        }
    }
}

fn answer<T>(seat: &mut Seat, done: Done<T>, page: Result<T, NotRead>) {
    if matches!(page, Err(NotRead::Lost)) {
        seat.leave();
    }
    // Whoever asked may have gone.
    let _ = done.send(page);
}
