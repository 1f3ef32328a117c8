//! What clients ask of the queue.

use std::sync::Arc;
use std::time::Duration;

use ashlar_proto::wire::farm::describe_response::Kind;
use ashlar_proto::wire::farm::session_request;
use ashlar_proto::wire::farm::{
    ChannelData, DescribeResponse, EventsResponse, ListBuildsResponse, SessionRequest,
    SessionResponse,
};
use ashlar_proto::wire::longrunning::{
    ListOperationsResponse, Operation as WireOperation, operation,
};
use ashlar_queue::{
    BuildKey, Canceller, Cursor, Event, Filter, OperationId, OperationView, Refusal, SessionId,
    Submission, WaiterId,
};
use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::dispatcher::Dispatcher;
use super::name::OperationName;
use super::operation::{Operation, to_build};
use super::outbox::{Inbox, Outbox, outbox};
use super::session::greet;
use crate::auth::{Caller, Right};
use crate::status::later;
use crate::{limits, status};

/// Operations of one page.
const PAGE: usize = 100;

/// So soon somebody may come again to a server that is not ready.
pub const SOON: Duration = Duration::from_millis(500);

/// What those are told whose stream ends because the queue is elsewhere now.
pub fn moved() -> Status {
    later(
        Code::Unavailable,
        "the queue is not here any more: come again",
        SOON,
    )
}

/// What clients are told of operations that are not there.
fn unknown() -> Status {
    Status::not_found("there is no such operation, or not any more")
}

/// Somebody who waits for an operation, until this is dropped.
#[derive(Debug)]
pub struct Waiter {
    dispatcher: Arc<Dispatcher>,
    id: WaiterId,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.dispatcher.happen(Event::Detach { waiter: self.id });
    }
}

/// A client that is there, until this is dropped.
#[derive(Debug)]
pub struct Session {
    dispatcher: Arc<Dispatcher>,
    key: BuildKey,
    id: u64,
    outbox: Outbox<SessionResponse>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.dispatcher.state();
        if let Some(ended) = state.sessions.close(&self.key, self.id) {
            state.end_channels(ended, "the build's client is not there any more");
        }
        let session = SessionId(self.id);
        self.dispatcher
            .drive(&mut state, Event::SessionClosed { session });
    }
}

fn refused(refusal: &Refusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        Refusal::Full { retry_after, .. } => later(Code::ResourceExhausted, message, *retry_after),
        Refusal::Poison { .. } => Status::aborted(message),
        Refusal::Invalid { .. } => Status::invalid_argument(message),
        _ => Status::internal(message),
    }
}

impl Dispatcher {
    /// A waiter that the queue does not know yet.
    fn waiter(self: &Arc<Self>) -> Waiter {
        Waiter {
            dispatcher: self.clone(),
            id: WaiterId(self.number()),
        }
    }

    /// Whose a build is, for a caller that names it. Workers act for those whose work they do.
    pub fn user_of(&self, caller: &Caller, namespace: &str, build: &str) -> Arc<str> {
        if !caller.may(Right::Work, namespace) || build.is_empty() {
            return caller.shared_name();
        }
        let state = self.state();
        let of_operation = || {
            let mut all = state.operations.values();
            let key = |known: &Operation| known.fixed.submission.build.clone();
            let is_it = |key: &BuildKey| *key.namespace == *namespace && *key.build == *build;
            all.find_map(|known| Some(key(known)).filter(|key| is_it(key)))
        };
        let user = state.sessions.owner_of(namespace, build);
        let user = user.or_else(|| of_operation().map(|key| key.user));
        user.unwrap_or_else(|| caller.shared_name())
    }

    /// Queues an action. Gives its operation, as it is and as it will be.
    pub async fn submit(
        self: &Arc<Self>,
        id: OperationId,
        submission: Submission,
    ) -> Result<
        (
            OperationId,
            impl Stream<Item = Result<WireOperation, Status>> + use<>,
        ),
        Status,
    > {
        let waiter = self.waiter();
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            if self.over().is_cancelled() {
                return Err(moved());
            }
            state.submitting.insert(id, answer);
            let event = Event::Submit {
                operation: id,
                waiter: Some(waiter.id),
                submission: Arc::new(submission),
            };
            self.drive(&mut state, event);
        }
        let answer = answered.await.map_err(|_| moved())?;
        let operation = answer.map_err(|refusal| refused(&refusal))?;
        Ok((operation, self.follow(operation, waiter)?))
    }

    /// An operation as it is and as it will be, for a client that comes again.
    pub async fn wait(
        self: &Arc<Self>,
        name: &OperationName,
    ) -> Result<impl Stream<Item = Result<WireOperation, Status>> + use<>, Status> {
        let operation = OperationId(name.id);
        let build = self.view(name)?.submission.build.clone();
        let waiter = self.waiter();
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            state.attaching.insert(waiter.id, answer);
            let event = Event::Attach {
                operation,
                waiter: waiter.id,
                build: Some(build),
            };
            self.drive(&mut state, event);
        }
        if answered.await.map_err(|_| moved())? {
            self.follow(operation, waiter)
        } else {
            Err(unknown())
        }
    }

    /// What an operation is and will be, to its end.
    fn follow(
        self: &Arc<Self>,
        operation: OperationId,
        waiter: Waiter,
    ) -> Result<impl Stream<Item = Result<WireOperation, Status>> + use<>, Status> {
        let (fixed, mut shown) = {
            let mut state = self.state();
            let known = state.operation(operation).ok_or_else(unknown)?;
            (known.fixed.clone(), known.shown.subscribe())
        };
        shown.mark_changed();
        let over = self.over().clone();
        let state = Some((fixed, shown, waiter, over));
        Ok(stream::unfold(state, |state| async move {
            let (fixed, mut shown, waiter, over) = state?;
            tokio::select! {
                changed = shown.changed() => if changed.is_err() {
                    return Some((Err(unknown()), None));
                },
                () = over.cancelled() => return Some((Err(moved()), None)),
            }
            let now = shown.borrow_and_update().clone();
            let wire = now.to_wire(&fixed);
            let next = (!now.is_over()).then_some((fixed, shown, waiter, over));
            Some((Ok(wire), next))
        }))
    }

    /// An operation that the queue knows, if its name is right.
    pub fn view(&self, name: &OperationName) -> Result<OperationView, Status> {
        let view = self.state().queue.view(OperationId(name.id));
        let view = view.filter(|view| *view.submission.build.namespace == *name.instance);
        view.ok_or_else(unknown)
    }

    /// An operation as it is.
    pub fn get(&self, name: &OperationName) -> Result<WireOperation, Status> {
        self.view(name)?;
        let mut state = self.state();
        let known = state.operation(OperationId(name.id)).ok_or_else(unknown)?;
        Ok(known.to_wire())
    }

    /// What an operation says, from a number on.
    pub fn events(
        &self,
        name: &OperationName,
        from: u64,
    ) -> Result<impl Stream<Item = Result<EventsResponse, Status>> + use<>, Status> {
        self.view(name)?;
        let said = {
            let mut state = self.state();
            let known = state.operation(OperationId(name.id)).ok_or_else(unknown)?;
            known.said.clone()
        };
        let state = Some((said, from, self.over().clone()));
        Ok(stream::unfold(state, |state| async move {
            let (said, from, over) = state?;
            let answer = tokio::select! {
                answer = said.from(from) => answer?,
                () = over.cancelled() => return Some((Err(moved()), None)),
            };
            let next = answer.first + answer.events.len() as u64;
            Some((Ok(answer), Some((said, next, over))))
        }))
    }

    /// Operations of an instance, the newest first.
    fn page(
        &self,
        filter: &Filter,
        size: usize,
        token: &str,
    ) -> Result<(Vec<OperationView>, String), Status> {
        let after = cursor(token)?;
        let size = if size == 0 { PAGE } else { size.min(PAGE) };
        let found = self.state().queue.list(filter, after, size);
        let next = found.last().filter(|_| found.len() == size);
        let next = next.map_or_else(String::new, |last| {
            format!("{}-{}", last.submitted.as_nanos(), last.operation)
        });
        Ok((found, next))
    }

    /// Whole builds of an instance.
    pub fn builds(
        &self,
        instance: &str,
        size: usize,
        token: &str,
    ) -> Result<ListBuildsResponse, Status> {
        let filter = Filter {
            namespace: Some(instance.into()),
            whole: true,
            ..Filter::default()
        };
        let (found, next_page_token) = self.page(&filter, size, token)?;
        Ok(ListBuildsResponse {
            builds: found.iter().map(to_build).collect(),
            next_page_token,
        })
    }

    /// Operations of an instance.
    pub fn operations(
        &self,
        instance: &str,
        size: usize,
        token: &str,
    ) -> Result<ListOperationsResponse, Status> {
        let filter = Filter {
            namespace: Some(instance.into()),
            ..Filter::default()
        };
        let (found, next_page_token) = self.page(&filter, size, token)?;
        let mut state = self.state();
        let mut operations = Vec::new();
        let mut bytes = 0;
        for view in &found {
            let Some(known) = state.operation(view.operation) else {
                continue;
            };
            let mut wire = known.to_wire();
            // What came of them is asked for one by one.
            if let Some(operation::Result::Response(any)) = &wire.result {
                bytes += any.value.len();
                if bytes as u64 > limits::BATCH / 2 {
                    wire.result = None;
                }
            }
            operations.push(wire);
        }
        Ok(ListOperationsResponse {
            operations,
            next_page_token,
        })
    }

    /// Somebody does not want an operation any more: the user that it is for, a worker that acts for
    /// that one, or somebody who looks after the cache and ends it for all. With a whole build goes
    /// what was asked for in it.
    pub fn cancel(&self, name: &OperationName, caller: &Caller) -> Result<(), Status> {
        let view = self.view(name)?;
        let own = view.submission.build.clone();
        let user = if caller.may(Right::Work, &own.namespace) {
            own.user.clone()
        } else {
            caller.shared_name()
        };
        let by = if caller.may(Right::Admin, &own.namespace) {
            Canceller::Operator
        } else if own.user == user || view.builds.iter().any(|build| build.user == user) {
            Canceller::User {
                namespace: own.namespace.clone(),
                user,
            }
        } else {
            return Err(Status::permission_denied(
                "the operation is somebody else's, and cancelling those needs the right `admin`",
            ));
        };
        let operation = OperationId(name.id);
        let mut state = self.state();
        self.drive(&mut state, Event::Cancel { operation, by });
        if view.submission.whole {
            self.drive(&mut state, Event::CancelBuild { build: own });
        }
        Ok(())
    }

    /// What there is for an instance.
    pub fn describe(&self, instance: &str) -> DescribeResponse {
        let state = self.state();
        let kinds = state.queue.kinds(instance).into_iter().map(|kind| Kind {
            properties: kind.properties.into_iter().collect(),
            workers: kind.workers,
            slots: kind.slots,
            free_slots: kind.free_slots,
        });
        let links = state.links.values();
        let links: Vec<_> = links.filter(|link| link.works_for(instance)).collect();
        let recipients = links.iter().map(|link| &link.recipient);
        let mut recipients: Vec<_> = recipients.filter(|key| !key.is_empty()).cloned().collect();
        recipients.sort_unstable();
        recipients.dedup();
        let mut versions = links.first().map_or_else(Vec::new, |link| {
            let all_read = |version: &u32| {
                let mut all = links.iter();
                all.all(|link| link.order_versions.contains(version))
            };
            let own = link.order_versions.iter().copied();
            own.filter(all_read).collect()
        });
        versions.sort_unstable();
        versions.dedup();
        DescribeResponse {
            kinds: kinds.collect(),
            recipients,
            order_versions: versions,
            queued: u32::try_from(state.queue.queued_in(instance)).unwrap_or(u32::MAX),
        }
    }

    /// A client is there for its build; or a worker, which acts for the client of a whole build, and
    /// takes nothing of what is the client's.
    pub fn open_session(
        self: &Arc<Self>,
        key: BuildKey,
        sealed: Bytes,
        is_worker: bool,
    ) -> Result<(Session, Inbox<SessionResponse>), Status> {
        let id = self.number();
        let (put, taken) = outbox(limits::WAITING);
        let mut state = self.state();
        if self.over().is_cancelled() {
            return Err(moved());
        }
        if is_worker {
            greet(&put);
        } else {
            let ended = state.sessions.open(key.clone(), sealed, id, put.clone())?;
            state.end_channels(ended, "the build's client came again");
        }
        let event = Event::SessionOpened {
            session: SessionId(id),
            build: key.clone(),
        };
        self.drive(&mut state, event);
        self.release(&mut state);
        drop(state);
        let session = Session {
            dispatcher: self.clone(),
            key,
            id,
            outbox: put,
        };
        Ok((session, taken))
    }
}

impl Session {
    /// The client has said what nobody may, and is told so.
    pub fn end(&self, why: Status) {
        self.outbox.end(why);
    }

    /// The client has said something.
    pub fn hear(&self, message: SessionRequest) -> Result<(), Status> {
        use session_request::Kind;
        let mut state = self.dispatcher.state();
        match message.kind {
            Some(Kind::Data(ChannelData { channel, data })) => {
                if data.len() > limits::CHANNEL_DATA {
                    return Err(status::too_long("data", limits::CHANNEL_DATA));
                }
                let worker = state.sessions.worker_of(&self.key, self.id, channel);
                // What was under way when the channel ended is nobody's.
                let Some(worker) = worker else { return Ok(()) };
                if state.to_worker(worker, data).is_err() {
                    let error = "the worker does not read what it is sent";
                    state.sessions.end_from_worker(worker, error.to_owned());
                    state.end_channels([worker], error);
                }
            }
            Some(Kind::End(end)) => {
                let worker = state
                    .sessions
                    .end_from_client(&self.key, self.id, end.channel);
                let error = super::convert::cut(&end.error, limits::SAID);
                state.end_channels(worker, error);
            }
            Some(Kind::Open(_)) => {
                return Err(Status::invalid_argument("the session is open already"));
            }
            // Of a later version.
            None => {}
        }
        Ok(())
    }
}

fn cursor(token: &str) -> Result<Option<Cursor>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (time, id) = token.split_once('-')?;
        let nanoseconds: u64 = time.parse().ok()?;
        Some(Cursor {
            submitted: Duration::from_nanos(nanoseconds),
            operation: id.parse().ok()?,
        })
    };
    let cursor = read();
    if cursor.is_none() {
        return Err(Status::invalid_argument(
            "the page token is none of this server's",
        ));
    }
    Ok(cursor)
}
