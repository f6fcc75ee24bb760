//! Accept loops that outlive a lack of file descriptors.
//!
//! `accept` fails for reasons that pass: the process or the system has no file
//! descriptor left (`EMFILE`, `ENFILE`), the kernel has no memory (`ENOBUFS`,
//! `ENOMEM`), a connection was gone before it was taken (`ECONNABORTED`). None ends
//! a loop. With nothing left the next try would fail at once, and fill the log; so
//! the loop pauses, longer each time, and says so once. Who connects meanwhile
//! waits in the listening socket, and is served when there is room again.
//!
//! The relay's listener and both local sockets of `reachback` accept through this.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The first pause: a descriptor is often free again by then, and ten tries a second cost nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest: nobody waits longer than this for a descriptor that is free.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so long without an error the trouble is over. At the limit, tries fail and succeed by turns; that is one trouble.
const OVER: Duration = Duration::from_secs(10);

/// What an accept loop remembers of its failures.
#[derive(Debug)]
pub struct Accepting {
    /// Whose connections, for the log.
    whose: &'static str,
    /// When to try again, while it pauses.
    resume: Option<Instant>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    /// What was said of it in the log.
    text: String,
    /// The last pause since a connection was accepted.
    pause: Option<Duration>,
    /// When it failed last.
    last: Instant,
}

impl Accepting {
    /// For a loop that accepts the connections of `whose`: "peers", "local commands".
    pub fn new(whose: &'static str) -> Self {
        Self { whose, resume: None, trouble: None }
    }

    /// The next thing that `accept` gives. Cancel-safe if `accept` is: a pause goes on where it was.
    pub async fn next<T, E, F>(&mut self, accept: impl Fn() -> F) -> T
    where
        E: Error + 'static,
        F: Future<Output = Result<T, E>>,
    {
        loop {
            if let Some(resume) = self.resume {
                sleep_until(resume).await;
                self.resume = None;
            }
            match accept().await {
                Ok(accepted) => {
                    self.succeeded();
                    return accepted;
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn succeeded(&mut self) {
        let Some(trouble) = &mut self.trouble else { return };
        trouble.pause = None;
        if trouble.last.elapsed() >= OVER {
            tracing::info!(whose = self.whose, "connections are accepted again");
            self.trouble = None;
        }
    }

    fn failed(&mut self, error: &(dyn Error + 'static)) {
        if is_about_one(error) {
            tracing::debug!(whose = self.whose, "a connection was gone before it was accepted");
            return;
        }
        let (now, text) = (Instant::now(), in_full(error));
        let before = self.trouble.take().filter(|trouble| now - trouble.last < OVER);
        if before.as_ref().is_none_or(|trouble| trouble.text != text) {
            tracing::error!(
                whose = self.whose,
                error = text,
                "no connection can be accepted, trying on; is the limit of open files high enough?"
            );
        }
        let last = before.and_then(|trouble| trouble.pause);
        let pause = last.map_or(FIRST_PAUSE, |last| LONGEST_PAUSE.min(last * 2));
        self.resume = Some(now + pause);
        self.trouble = Some(Trouble { text, pause: Some(pause), last: now });
    }
}

/// Whether this is the end of one connection, with which its place in the queue is gone too: the next try takes another.
fn is_about_one(error: &(dyn Error + 'static)) -> bool {
    let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset))
}

fn in_full(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What the log says.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn keep(&self) -> tracing::subscriber::DefaultGuard {
            let log = self.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
            tracing::subscriber::set_default(subscriber)
        }

        fn lines(&self) -> usize {
            self.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count()
        }
    }

    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;

    /// Accepts from a listener that gives this, in turn, and tells when it was tried: milliseconds since the start.
    async fn tries(accepting: &mut Accepting, answers: Vec<Result<(), io::Error>>) -> Vec<u64> {
        let start = Instant::now();
        let (answers, tried) = (Mutex::new(answers.into_iter()), Mutex::new(Vec::new()));
        accepting
            .next(|| {
                tried.lock().unwrap().push(start.elapsed().as_millis() as u64);
                ready(answers.lock().unwrap().next().expect("an answer"))
            })
            .await;
        tried.into_inner().unwrap()
    }

    fn failing(times: usize, errno: i32) -> Vec<Result<(), io::Error>> {
        let failures = (0..times).map(|_| Err(io::Error::from_raw_os_error(errno)));
        failures.chain([Ok(())]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lack_of_descriptors_pauses_the_loop_longer_each_time_and_never_ends_it() {
        let mut accepting = Accepting::new("peers");
        let tried = tries(&mut accepting, failing(7, EMFILE)).await;
        assert_eq!(tried, [0, 100, 300, 700, 1500, 2500, 3500, 4500]);
        let tried = tries(&mut accepting, failing(1, EMFILE)).await;
        assert_eq!(tried, [0, 100], "a connection that is accepted shortens the pause again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_hears_of_a_change_and_not_of_each_try() {
        let log = Log::default();
        let _kept = log.keep();
        let mut accepting = Accepting::new("peers");
        for _ in 0..50 {
            tries(&mut accepting, failing(3, EMFILE)).await;
        }
        assert_eq!(log.lines(), 1, "failing and succeeding by turns is one trouble");
        tries(&mut accepting, failing(2, ENFILE)).await;
        assert_eq!(log.lines(), 2, "another error is another trouble");
        tokio::time::advance(OVER).await;
        tries(&mut accepting, failing(0, 0)).await;
        assert_eq!(log.lines(), 3, "that it is over is said");
        tries(&mut accepting, failing(0, 0)).await;
        assert_eq!(log.lines(), 3);
        tries(&mut accepting, failing(1, EMFILE)).await;
        assert_eq!(log.lines(), 4, "and when it comes back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_gone_delays_no_other() {
        let gone = || Err(io::ErrorKind::ConnectionAborted.into());
        let tried = tries(&mut Accepting::new("peers"), vec![gone(), gone(), gone(), Ok(())]).await;
        assert_eq!(tried, [0; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_is_interrupted_goes_on_where_it_was() {
        let start = Instant::now();
        let mut accepting = Accepting::new("peers");
        let tried = Mutex::new(0);
        let accept = || {
            *tried.lock().unwrap() += 1;
            ready(Err::<(), _>(io::Error::from_raw_os_error(EMFILE)))
        };
        while start.elapsed() < Duration::from_millis(250) {
            // As in a `select!` where something else happens all the time.
            let short = tokio::time::timeout(Duration::from_millis(10), accepting.next(&accept)).await;
            assert!(short.is_err());
        }
        assert_eq!(*tried.lock().unwrap(), 2);
    }
}
