//! `ashlar.farm.v1.Workers`: where workers come by their work. On a port of its own.

use std::pin::Pin;

use ashlar_proto::wire::farm::worker_message::{Hello, Kind};
use ashlar_proto::wire::farm::workers_server::Workers;
use ashlar_proto::wire::farm::{QueueMessage, WorkerMessage};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::farm::{beside, first, shared};
use super::request::check_instance;
use crate::audit::{Audit, Event, What};
use crate::auth::caller::check;
use crate::auth::{Caller, Right};
use crate::dispatch::Dispatch;

/// The service.
#[derive(Debug, Clone)]
pub struct WorkersService {
    /// The queue.
    pub dispatch: Dispatch,
    /// Where it is noted who came.
    pub audit: Audit,
}

/// The namespaces that a worker works for: those that it names, if its token covers all of them, or
/// all that its token covers.
fn namespaces(caller: &Caller, hello: &Hello) -> Result<Vec<String>, Status> {
    for name in &hello.instance_names {
        check_instance(name)?;
        check(caller, Right::Work, name)?;
    }
    if !hello.instance_names.is_empty() {
        return Ok(hello.instance_names.clone());
    }
    let grants = caller.grants().iter();
    let grants = grants.filter(|grant| grant.rights.has(Right::Work));
    let mut covered: Vec<_> = grants.map(|grant| grant.namespace.clone()).collect();
    if covered.is_empty() {
        check(caller, Right::Work, "")?;
    }
    covered.sort_unstable();
    covered.dedup();
    Ok(covered)
}

#[async_trait]
impl Workers for WorkersService {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<QueueMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (metadata, extensions, mut messages) = request.into_parts();
        let sender = Request::from_parts(metadata, extensions, ());
        let caller = Caller::of(&sender);
        let noted = Event::of(What::Attach, &sender);
        if !caller.may_somewhere(Right::Work) {
            check(&caller, Right::Work, "").inspect_err(|refused| {
                self.audit.note(noted.clone().ended(refused));
            })?;
        }
        let message = first(&mut messages).await?;
        let Some(Kind::Hello(hello)) = message.kind else {
            return Err(Status::invalid_argument("the worker has not said hello"));
        };
        let attached = namespaces(&caller, &hello).and_then(|names| {
            let dispatcher = self.dispatch.leading()?;
            dispatcher.attach(&hello, shared(names))
        });
        let noted = noted.with("worker", hello.id).with("name", hello.name);
        let noted = noted.with("namespaces", hello.instance_names.join(" "));
        self.audit.note(match &attached {
            Ok(_) => noted,
            Err(status) => noted.ended(status),
        });
        let (attached, answers) = attached?;
        let hearing = async move {
            loop {
                match messages.message().await {
                    Ok(Some(message)) => {
                        if let Err(status) = attached.hear(message) {
                            attached.end(status);
                            return;
                        }
                    }
                    // It has nothing more to say, or is gone.
                    Ok(None) | Err(_) => return,
                }
            }
        };
        Ok(Response::new(beside(answers, hearing)))
    }
}
