//! Sessions: agents of clients, which steps on workers speak to.

use std::time::Duration;

use ashlar_proto::wire::farm::queue_message::Kind as ToWorker;
use ashlar_proto::wire::farm::session_request::{self, Open};
use ashlar_proto::wire::farm::session_response::Kind as ToClient;
use ashlar_proto::wire::farm::worker_message::{ChannelOpenFor, Kind};
use ashlar_proto::wire::farm::{
    Assignment, ChannelData, ChannelEnd, SessionRequest, SessionResponse,
};
use ashlar_queue::Settings;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::farm::{Client, Worker, soon};
use super::here::{open, quick};

/// A client's session.
struct Session {
    send: mpsc::UnboundedSender<SessionRequest>,
    messages: Streaming<SessionResponse>,
}

impl Session {
    async fn open(client: &Client, sealed: &str) -> Self {
        let (send, messages) = mpsc::unbounded_channel();
        let first = session_request::Kind::Open(Open {
            instance_name: client.instance.clone(),
            build: client.build.clone(),
            sealed: sealed.as_bytes().to_vec().into(),
        });
        let first = SessionRequest { kind: Some(first) };
        send.send(first).expect("sent");
        let request = client.request(UnboundedReceiverStream::new(messages));
        let session = soon(client.farm().session(request))
            .await
            .expect("a session");
        let mut session = Self {
            send,
            messages: session.into_inner(),
        };
        let ToClient::Opened(_) = session.next().await.expect("opened") else {
            panic!("another message");
        };
        session
    }

    async fn next(&mut self) -> Result<ToClient, Status> {
        let message = soon(self.messages.message()).await?;
        let message = message.ok_or_else(|| Status::unknown("the stream is over"))?;
        Ok(message.kind.expect("a message"))
    }

    fn data(&self, channel: u64, data: &str) {
        let data = session_request::Kind::Data(ChannelData {
            channel,
            data: data.as_bytes().to_vec().into(),
        });
        self.send
            .send(SessionRequest { kind: Some(data) })
            .expect("sent");
    }

    fn end(&self, channel: u64) {
        let end = session_request::Kind::End(ChannelEnd {
            channel,
            error: String::new(),
        });
        self.send
            .send(SessionRequest { kind: Some(end) })
            .expect("sent");
    }
}

fn open_channel(worker: &Worker, assignment: &Assignment, channel: u64) {
    worker.say(Kind::Channel(ChannelOpenFor {
        assignment: Some(assignment.clone()),
        channel,
        agent: "default".to_owned(),
    }));
}

fn say(worker: &Worker, channel: u64, data: &[u8]) {
    worker.say(Kind::Data(ChannelData {
        channel,
        data: data.to_vec().into(),
    }));
}

#[tokio::test]
async fn a_step_speaks_to_the_clients_agent() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let mut session = Session::open(&client, "").await;
    let _followed = client
        .execute("RUN --mount=type=ssh")
        .await
        .expect("queued");
    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let assignment = worker.work().await.assignment.expect("an assignment");
    open_channel(&worker, &assignment, 7);
    let ToClient::Channel(channel) = session.next().await.expect("a channel") else {
        panic!("another message");
    };
    assert_eq!(channel.agent, "default");
    say(&worker, 7, b"sign this");
    let ToClient::Data(data) = session.next().await.expect("data") else {
        panic!("another message");
    };
    assert_eq!(
        (data.channel, &data.data[..]),
        (channel.channel, &b"sign this"[..])
    );
    session.data(channel.channel, "signed");
    let ToWorker::Data(data) = worker.next().await.expect("data") else {
        panic!("another message");
    };
    assert_eq!((data.channel, &data.data[..]), (7, &b"signed"[..]));
    session.end(channel.channel);
    let ToWorker::End(end) = worker.next().await.expect("the end") else {
        panic!("another message");
    };
    assert_eq!((end.channel, end.error.as_str()), (7, ""));
    // A second one has another number for the client, and ends by the worker.
    open_channel(&worker, &assignment, 7);
    let ToClient::Channel(second) = session.next().await.expect("a channel") else {
        panic!("another message");
    };
    assert_ne!(second.channel, channel.channel);
    worker.say(Kind::End(ChannelEnd {
        channel: 7,
        error: String::new(),
    }));
    let ToClient::End(end) = session.next().await.expect("the end") else {
        panic!("another message");
    };
    assert_eq!(end.channel, second.channel);
}

#[tokio::test]
async fn channels_end_with_either_side_and_are_refused_without_a_client() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let _followed = client
        .execute("RUN --mount=type=ssh")
        .await
        .expect("queued");
    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let assignment = worker.work().await.assignment.expect("an assignment");
    open_channel(&worker, &assignment, 1);
    let ended = async |worker: &mut Worker| match worker.next().await.expect("the end") {
        ToWorker::End(end) => end,
        other => panic!("{other:?}"),
    };
    assert!(
        ended(&mut worker).await.error.contains("client"),
        "nobody is there"
    );
    let mut session = Session::open(&client, "").await;
    open_channel(&worker, &assignment, 2);
    session.next().await.expect("a channel");
    // The client comes again: its old connection and the channels in it are over.
    let mut again = Session::open(&client, "").await;
    assert_eq!(ended(&mut worker).await.channel, 2);
    assert_eq!(
        session.next().await.expect_err("over").code(),
        Code::Aborted
    );
    open_channel(&worker, &assignment, 3);
    again.next().await.expect("a channel");
    drop(worker);
    let ToClient::End(end) = again.next().await.expect("the end") else {
        panic!("another message");
    };
    assert!(end.error.contains("worker"), "{end:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_the_channel_and_not_the_farm() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let session = Session::open(&client, "").await;
    let mut followed = client
        .execute("RUN --mount=type=ssh")
        .await
        .expect("queued");
    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let assign = worker.work().await;
    let assignment = assign.assignment.clone().expect("an assignment");
    open_channel(&worker, &assignment, 1);
    for _ in 0..600 {
        say(&worker, 1, &[7; 64 << 10]);
    }
    let ToWorker::End(end) = worker.next().await.expect("the end") else {
        panic!("another message");
    };
    assert!(end.error.contains("does not read"), "{end:?}");
    worker.done(&assign, "made");
    followed.end().await;
    drop(session);
    // What is too long for a message ends the connection.
    say(&worker, 1, &[7; (64 << 10) + 1]);
    let status = soon(async {
        loop {
            if let Err(status) = worker.next().await {
                break status;
            }
        }
    })
    .await;
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_was_sealed_stays_while_the_client_comes_again_and_goes_with_the_build() {
    let harness = open(quick()).await;
    let client = Client::new(&harness).await;
    let session = Session::open(&client, "first").await;
    let followed = client.execute("RUN one").await.expect("queued");
    drop(session);
    let session = Session::open(&client, "").await;
    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let assign = worker.work().await;
    assert_eq!(&assign.sealed[..], b"first");
    worker.done(&assign, "made");
    drop((followed, session));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _followed = client.execute("RUN two").await.expect("queued");
    worker.renew(Vec::new());
    let assign = loop {
        if let ToWorker::Assign(assign) = worker.next().await.expect("a message") {
            break assign;
        }
    };
    assert!(assign.sealed.is_empty(), "the build was over");
}
