//! A host's data connection, from its hello until a device takes it.

use futures_util::StreamExt;
use reachback_proto::close::CloseCode;
use tokio::time::{Instant, sleep_until};

use super::ending::{Ending, finish};
use super::greet::{DataHello, welcome};
use crate::hub::{Delivery, Offer, Spare};
use crate::limits::{Limit, ms};
use crate::link::{Link, Received, ping};
use crate::refusal::Refusal;
use crate::state::State;

/// Serves a data connection: hands its link to a device, at once or when one comes.
pub(super) async fn serve(state: &State, mut link: Link, hello: Box<DataHello>) {
    let (host, boot) = (hello.host, hello.boot);
    let _open = match Box::pin(admit(state, &mut link, hello)).await {
        Ok(()) => state.metrics.link("host_data"),
        Err(ending) => return finish(state, link, ending).await,
    };
    loop {
        let delivery = match state.hub.offer(host, boot).await {
            Ok(Offer::Deliver(delivery)) => Ok(delivery),
            Ok(Offer::Wait(spare)) => wait(state, &mut link, spare).await,
            Err(refusal) => Err(refusal.into()),
        };
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(ending) => return finish(state, link, ending).await,
        };
        match delivery.send(link) {
            Ok(()) => return,
            // The device went away in this very moment: offer the link to the next.
            Err(back) => link = back,
        }
    }
}

async fn admit(state: &State, link: &mut Link, hello: Box<DataHello>) -> Result<(), Ending> {
    if state.store.last_seen(hello.host).await.map_err(Refusal::from)?.is_none() {
        let what = "this relay does not know this host: enrol it on its control connection";
        return Err(Refusal::new(CloseCode::Unauthorized, what).into());
    }
    welcome(state, link, &hello.greeting).await
}

/// Keeps a spare alive until a device claims it.
async fn wait(state: &State, link: &mut Link, mut spare: Spare) -> Result<Delivery, Ending> {
    let limits = state.limits();
    let mut heard = Instant::now();
    let mut pinged = heard;
    loop {
        let dead = heard + ms(limits.silence_ms);
        tokio::select! {
            // A restart comes before the end of the control connection, which it causes. A claim comes
            // before the link's own news: who claimed it waits.
            biased;
            () = state.lifecycle.soft().cancelled() => return Err(Ending::Restarting),
            why = spare.stand_by.end.ended() => return Err(why.into()),
            Ok(delivery) = &mut spare.claim => return Ok(delivery),
            item = link.next() => match item {
                Some(Ok(Received::Alive)) => heard = Instant::now(),
                Some(Ok(Received::Bytes(_))) => {
                    return Err(Refusal::malformed("nothing is sent before CircuitStart").into());
                }
                Some(Ok(Received::Closed)) | None => return Err(Ending::Gone),
                Some(Err(error)) => return Err(error.into()),
            },
            () = sleep_until((pinged + ms(limits.idle_ping_ms)).min(dead)) => {
                if Instant::now() >= dead {
                    return Err(Refusal::timeout(Limit::Silence).into());
                }
                pinged = Instant::now();
                Box::pin(ping(link, ms(limits.write_ms))).await?;
            }
        }
    }
}
