//! What waits to be sent to somebody: never more than so much.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;
use tonic::Status;

/// How much of something there may be at once. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Allowance {
    held: Arc<AtomicUsize>,
    most: usize,
}

/// A part of an allowance, given back when it is dropped.
#[derive(Debug)]
pub struct Part {
    held: Arc<AtomicUsize>,
    amount: usize,
}

impl Allowance {
    /// So much.
    pub fn of(most: usize) -> Self {
        Self {
            held: Arc::default(),
            most,
        }
    }

    /// Takes a part, if there is as much left.
    pub fn take(&self, amount: usize) -> Option<Part> {
        let fits = |held: usize| {
            let held = held.checked_add(amount)?;
            (held <= self.most).then_some(held)
        };
        let taken = self
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        taken.ok().map(|_| Part {
            held: self.held.clone(),
            amount,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.held.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

/// There is no room, or nobody who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

type Item<T> = (Result<T, Status>, Vec<Part>);

/// Where messages for somebody are put. Cheap to clone.
#[derive(Debug)]
pub struct Outbox<T> {
    sender: mpsc::UnboundedSender<Item<T>>,
    room: Allowance,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            room: self.room.clone(),
        }
    }
}

/// Its other end: what is sent, until somebody ends it.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: mpsc::UnboundedReceiver<Item<T>>,
    is_over: bool,
}

/// An outbox in which so many messages wait at most, and its other end.
pub fn outbox<T>(most: usize) -> (Outbox<T>, Inbox<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let outbox = Outbox {
        sender,
        room: Allowance::of(most),
    };
    let inbox = Inbox {
        receiver,
        is_over: false,
    };
    (outbox, inbox)
}

impl<T> Outbox<T> {
    /// Puts a message there.
    pub fn put(&self, message: T) -> Result<(), Refused> {
        self.put_with(message, Vec::new())
    }

    /// Puts a message there that has parts of allowances until it is sent.
    pub fn put_with(&self, message: T, mut parts: Vec<Part>) -> Result<(), Refused> {
        parts.push(self.room.take(1).ok_or(Refused)?);
        self.sender.send((Ok(message), parts)).map_err(|_| Refused)
    }

    /// Nothing follows: whoever takes the messages is told why.
    pub fn end(&self, why: Status) {
        // Whoever is gone need not be told.
        let _gone = self.sender.send((Err(why), Vec::new()));
    }
}

impl<T> Stream for Inbox<T> {
    type Item = Result<T, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(context).map(|item| {
            let (message, _parts) = item?;
            self.is_over = message.is_err();
            Some(message)
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn there_is_never_more_than_may_be() {
        let (outbox, mut inbox) = outbox(2);
        let bytes = Allowance::of(10);
        let part = |amount| bytes.take(amount).map(|part| vec![part]);
        outbox.put_with(1, part(8).expect("room")).expect("taken");
        assert!(part(3).is_none(), "11 of 10");
        outbox.put(2).expect("taken");
        assert_eq!(outbox.put(3), Err(Refused));
        assert_eq!(inbox.next().await.expect("one").expect("good"), 1);
        assert!(part(3).is_some(), "what was sent counts no more");
        outbox.put(3).expect("taken");
    }

    #[tokio::test]
    async fn nothing_follows_the_end() {
        let (outbox, mut inbox) = outbox(5);
        outbox.put(1).expect("taken");
        outbox.end(Status::unavailable("over"));
        outbox.put(2).expect("taken, and thrown away");
        assert_eq!(inbox.next().await.expect("one").expect("good"), 1);
        inbox.next().await.expect("why").expect_err("over");
        assert!(inbox.next().await.is_none());
        drop(inbox);
        assert_eq!(outbox.put(3), Err(Refused));
    }
}
