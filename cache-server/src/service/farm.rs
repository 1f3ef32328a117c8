//! `ashlar.farm.v1.Farm`: what a farm is, what its operations say, and what only clients can give.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ashlar_proto::wire::farm::farm_server::Farm;
use ashlar_proto::wire::farm::{
    DescribeRequest, DescribeResponse, EventsRequest, EventsResponse, ListBuildsRequest,
    ListBuildsResponse, SessionRequest, SessionResponse, session_request,
};
use ashlar_queue::BuildKey;
use ashlar_store::task::spawn;
use futures::{Stream, StreamExt as _};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::execution::{named, right};
use crate::auth::{Caller, Right};
use crate::dispatch::Dispatch;
use crate::dispatch::action::is_build;
use crate::stores::Stores;

/// So long a client or a worker may take to say who it is.
pub const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug, Clone)]
pub struct FarmService {
    /// Who may do what where.
    pub stores: Stores,
    /// The queue.
    pub dispatch: Dispatch,
}

/// The first message of a stream, if it comes in time.
pub async fn first<T>(messages: &mut Streaming<T>) -> Result<T, Status> {
    match timeout(FIRST_MESSAGE, messages.message()).await {
        Ok(message) => {
            let message = message?;
            message.ok_or_else(|| Status::invalid_argument("the stream has no message"))
        }
        Err(_) => Err(Status::deadline_exceeded("the first message did not come")),
    }
}

/// What is sent, for as long as something else goes on beside it.
pub fn beside<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    work: impl Future<Output = ()> + Send + 'static,
) -> Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>> {
    let work = spawn(work);
    Box::pin(answers.map(move |answer| {
        let _goes_on = &work;
        answer
    }))
}

#[async_trait]
impl Farm for FarmService {
    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        self.stores.open(&request, instance, Right::Queue)?;
        Ok(Response::new(self.dispatch.leading()?.describe(instance)))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<EventsResponse, Status>> + Send>>;

    async fn events(
        &self,
        request: Request<EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let (name, view) = named(&self.stores, &request, &request.get_ref().operation)?;
        let request = request.into_inner();
        if !request.instance_name.is_empty() && request.instance_name != view.instance() {
            return Err(Status::invalid_argument(
                "the operation is one of another instance",
            ));
        }
        let events = self.dispatch.leading()?.events(&name, request.from)?;
        let events = events.map(move |answer| {
            let answer = answer?;
            view.charge(prost::Message::encoded_len(&answer) as u64)?;
            Ok(answer)
        });
        Ok(Response::new(Box::pin(events)))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (metadata, extensions, mut messages) = request.into_parts();
        let message = first(&mut messages).await?;
        let Some(session_request::Kind::Open(open)) = message.kind else {
            return Err(Status::invalid_argument("the session has not been opened"));
        };
        let sender = Request::from_parts(metadata, extensions, ());
        let view = self
            .stores
            .open(&sender, &open.instance_name, Right::Queue)?;
        if open.build.is_empty() || !is_build(&open.build) {
            return Err(Status::invalid_argument(
                "the build has no name, or none that is one",
            ));
        }
        let dispatcher = self.dispatch.leading()?;
        let key = BuildKey {
            namespace: view.instance().into(),
            user: dispatcher.user_of(&Caller::of(&sender), view.instance(), &open.build),
            build: open.build.into(),
        };
        let is_worker = Caller::of(&sender).may(Right::Work, view.instance());
        let opened = dispatcher.open_session(key, open.sealed, is_worker);
        let (session, answers) = opened?;
        let hearing = async move {
            loop {
                match messages.message().await {
                    Ok(Some(message)) => {
                        if let Err(status) = session.hear(message) {
                            session.end(status);
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

    async fn list_builds(
        &self,
        request: Request<ListBuildsRequest>,
    ) -> Result<Response<ListBuildsResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let right = right(&request, instance);
        self.stores.open(&request, instance, right)?;
        let request = request.into_inner();
        let dispatcher = self.dispatch.leading()?;
        let size = usize::try_from(request.page_size).unwrap_or(usize::MAX);
        let page = dispatcher.builds(&request.instance_name, size, &request.page_token)?;
        Ok(Response::new(page))
    }
}

/// A name that is shared.
pub fn shared(names: Vec<String>) -> Vec<Arc<str>> {
    names.into_iter().map(Arc::from).collect()
}
