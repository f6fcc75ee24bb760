//! Waiting for whichever of several futures ends first.
//!
//! `select!` polls all of them whatever woke the task. Where each is a way of messages, that is a look into every socket for
//! each message; here only what was woken is polled.

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

/// Waits for the first of these to end; the others are dropped with it.
pub(crate) async fn first_of<T, const N: usize>(futures: [BoxFuture<'_, T>; N]) -> T {
    let mut futures = FuturesUnordered::from_iter(futures);
    match futures.next().await {
        Some(first) => first,
        // There was none.
        None => std::future::pending().await,
    }
}
