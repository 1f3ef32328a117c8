//! What operations say, from the beginning or from where it broke off.

use std::sync::Arc;

use ashlar_proto::wire::farm::{Event, EventsRequest};
use ashlar_store::fault::FaultKind;
use ashlar_store::grpc::fault_of;
use tokio::sync::watch;

use super::operation::{EventSink, Name, is_unknown};
use super::{FarmClient, FarmError};
use crate::patience::{Backoff, asked_to_wait};

const FOLLOW: &str = "follow what work of the farm says";

/// A message with events. Servers keep to 4 MiB.
const LONGEST_MESSAGE: usize = 8 << 20;

impl FarmClient {
    /// Gives what an operation says, until it has ended. Events before number `from` are not
    /// given.
    pub async fn follow(
        &self,
        operation: &str,
        from: u64,
        mut sink: impl FnMut(Event) + Send,
    ) -> Result<(), FarmError> {
        let mut next = from;
        let mut backoff = Backoff::default();
        loop {
            let request = EventsRequest {
                instance_name: self.instance().to_owned(),
                operation: operation.to_owned(),
                from: next,
            };
            let mut client = self.wire().max_decoding_message_size(LONGEST_MESSAGE);
            let status = match client.events(request).await {
                Ok(answer) => {
                    let mut stream = answer.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(message)) => {
                                backoff.reset();
                                let known = next.saturating_sub(message.first);
                                next = next.max(message.first + message.events.len() as u64);
                                let known = usize::try_from(known).unwrap_or(usize::MAX);
                                message.events.into_iter().skip(known).for_each(&mut sink);
                            }
                            Ok(None) => return Ok(()),
                            Err(status) => break status,
                        }
                    }
                }
                Err(status) => status,
            };
            if is_unknown(&status) {
                return Err(FarmError::Unknown(operation.to_owned()));
            }
            let fault = fault_of(FOLLOW, status);
            let passes = fault.kind == FaultKind::Unavailable;
            if !passes || !backoff.wait(asked_to_wait(&fault)).await {
                return Err(FarmError::of_fault(fault));
            }
        }
    }

    /// Follows the operation that is known at each time. Ends when nobody gives names any more.
    pub(super) async fn follow_all(&self, mut names: watch::Receiver<Name>, sink: EventSink) {
        loop {
            let name = names.borrow_and_update().clone();
            let Some(name) = name else {
                if names.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let sink = Arc::clone(&sink);
            let followed = tokio::select! {
                followed = self.follow(&name, 0, move |event| sink(event)) => followed,
                // The work was given anew: the old operation says no more.
                Ok(()) = names.changed() => continue,
            };
            if let Err(error) = followed {
                // The work goes on, and its outcome is waited for.
                tracing::debug!(%error, "events are lost");
            }
            if names.changed().await.is_err() {
                return;
            }
        }
    }
}
