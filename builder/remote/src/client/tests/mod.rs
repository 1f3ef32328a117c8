mod fake;

use std::sync::atomic::Ordering;

use ashlar_model::cas::CasDigest;
use ashlar_proto::wire::farm::event::{Kind, Output};
use ashlar_proto::wire::farm::{self as wire, ChannelData, ChannelOpen, Event, session_request};
use bytes::Bytes;
use fake::{Running, done, not_done};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::operation::EventSink;
use super::*;

fn work() -> Work {
    Work {
        kind: WorkKind::Segment,
        order: Bytes::from_static(b"order"),
        placement: Placement {
            build: "build-1".to_owned(),
            ..Placement::default()
        },
        fresh: false,
        priority: 0,
    }
}

fn output(number: u32) -> Event {
    Event {
        node: Some(number),
        kind: Some(Kind::Output(Output {
            is_stderr: false,
            data: Bytes::from_static(b"x"),
        })),
    }
}

/// Collects the numbers of events.
fn collecting() -> (EventSink, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let kept = Arc::clone(&events);
    (
        Arc::new(move |event| kept.lock().unwrap().push(event)),
        events,
    )
}

fn numbers(events: &Mutex<Vec<Event>>) -> Vec<Option<u32>> {
    events
        .lock()
        .unwrap()
        .iter()
        .map(|event| event.node)
        .collect()
}

/// Runs work on a farm that says some things and ends it well.
async fn run(running: &Running, count: u32) -> (Result<Outcome, FarmError>, Vec<Option<u32>>) {
    let (sink, events) = collecting();
    let fake = running.fake.clone();
    let working = spawn(async move {
        let name = fake.operation(1).await;
        for number in 0..count {
            fake.say(&name, output(number));
            sleep(Duration::from_millis(2)).await;
        }
        fake.end(&name, done(b"well", false));
    });
    let outcome = timeout(Duration::from_secs(30), running.client.run(&work(), sink)).await;
    working.await.unwrap();
    (outcome.expect("an end"), numbers(&events))
}

#[tokio::test]
async fn work_is_given_and_its_outcome_comes_back() {
    let running = Running::start().await;
    let (outcome, events) = run(&running, 10).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.bytes, "well");
    assert_eq!(
        (outcome.failed, outcome.worker.as_str()),
        (false, "worker-1")
    );
    let expected: Vec<_> = (0..10).map(Some).collect();
    assert_eq!(events, expected);
    let state = running.fake.state();
    assert_eq!(state.executed.len(), 1);
    assert_eq!(state.executed[0].instance_name, "team");
    assert!(state.cancelled.is_empty());
}

#[tokio::test]
async fn streams_that_break_are_taken_up_again() {
    let running = Running::start().await;
    running.fake.breaks_after.store(1, Ordering::Relaxed);
    let (outcome, events) = run(&running, 12).await;
    assert_eq!(outcome.unwrap().bytes, "well");
    // Each once, in order, but for those that the end outran.
    let expected: Vec<_> = (0..12).map(Some).collect();
    assert!(
        events.len() > 3 && events == expected[..events.len()],
        "{events:?}"
    );
    assert_eq!(running.fake.state().executed.len(), 1);
}

#[tokio::test]
async fn work_that_the_farm_forgets_is_given_again() {
    let running = Running::start().await;
    let (sink, _) = collecting();
    let fake = running.fake.clone();
    let working = spawn(async move {
        let name = fake.operation(1).await;
        sleep(Duration::from_millis(50)).await;
        fake.state().operations.remove(&name);
        let name = fake.operation(2).await;
        fake.end(&name, done(b"at last", true));
    });
    let outcome = running.client.run(&work(), sink).await.unwrap();
    assert_eq!(outcome.bytes, "at last");
    assert!(outcome.failed);
    working.await.unwrap();
    let state = running.fake.state();
    assert_eq!(state.executed[0], state.executed[1]);
}

#[tokio::test]
async fn a_farm_that_forgets_is_given_the_secrets_before_the_work() {
    let running = Running::start().await;
    let sealed = Bytes::from_static(b"sealed");
    let session = running
        .client
        .session("build-1", sealed, session::Agents::new())
        .await;
    let session = session.unwrap();
    let (sink, _) = collecting();
    let fake = running.fake.clone();
    let working = spawn(async move {
        let name = fake.operation(1).await;
        fake.state().operations.remove(&name);
        let name = fake.operation(2).await;
        assert_eq!(fake.state().opened.len(), 2);
        fake.end(
            &name,
            not_done(Code::FailedPrecondition, "secrets are lost"),
        );
        let name = fake.operation(3).await;
        assert_eq!(fake.state().opened.len(), 3);
        fake.end(&name, done(b"well", false));
    });
    let outcome = running.client.run_in(Some(&session), &work(), sink).await;
    assert_eq!(outcome.unwrap().bytes, "well");
    working.await.unwrap();
}

#[tokio::test]
async fn a_full_queue_is_waited_for_and_missing_blobs_are_sent_again() {
    let running = Running::start().await;
    let missing = CasDigest::of(running.client.function(), b"order");
    let missing = ashlar_proto::missing::encode(9, "one is missing", &[missing]);
    let wait = ashlar_proto::retry::encode(8, "12 wait", Duration::from_millis(10));
    running.fake.state().refusals = vec![
        Status::with_details(Code::FailedPrecondition, "one is missing", missing),
        Status::with_details(Code::ResourceExhausted, "12 wait", wait),
        Status::unavailable("starting"),
    ];
    let (sink, events) = collecting();
    let fake = running.fake.clone();
    let working = spawn(async move {
        let name = fake.operation(4).await;
        fake.end(&name, done(b"well", false));
    });
    let outcome = running.client.run(&work(), sink).await.unwrap();
    assert_eq!(outcome.bytes, "well");
    working.await.unwrap();
    let events = events.lock().unwrap();
    let is_queued = |event: &Event| matches!(&event.kind, Some(Kind::Queued(queued)) if queued.why.contains("12 wait"));
    assert!(events.iter().any(is_queued), "{events:?}");
}

#[tokio::test]
async fn refusals_end_it() {
    for (status, is_denied) in [
        (Status::permission_denied("no"), true),
        (Status::invalid_argument("what"), false),
        (Status::failed_precondition("secrets are lost"), false),
    ] {
        let running = Running::start().await;
        running.fake.state().refusals = vec![status];
        let (sink, _) = collecting();
        let error = running.client.run(&work(), sink).await.unwrap_err();
        assert!(matches!(error, FarmError::Refused { .. }), "{error:?}");
        assert_eq!(error.hint().is_some(), is_denied);
        running.client.settle().await;
        assert!(running.fake.state().cancelled.is_empty());
    }
    let running = Running::start().await;
    let error = running.client.describe().await.unwrap_err();
    assert!(error.hint().unwrap().contains("--worker-listen"));
}

#[tokio::test]
async fn how_work_ended_is_told() {
    for (code, message) in [
        (Code::Aborted, "3 workers were lost"),
        (Code::Cancelled, ""),
    ] {
        let running = Running::start().await;
        let fake = running.fake.clone();
        let working = spawn(async move {
            let name = fake.operation(1).await;
            fake.end(&name, not_done(code, message));
        });
        let (sink, _) = collecting();
        let error = running.client.run(&work(), sink).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.is_cancelled(), code == Code::Cancelled);
        working.await.unwrap();
    }
}

#[tokio::test]
async fn work_that_nobody_waits_for_any_more_is_called_off() {
    let running = Running::start().await;
    let (sink, _) = collecting();
    let work = work();
    let mut waiting = Box::pin(running.client.run(&work, sink));
    let name = tokio::select! {
        _ = &mut waiting => panic!("it has not ended"),
        name = running.fake.operation(1) => name,
    };
    // The client has to hear of it, too.
    let heard = timeout(Duration::from_millis(200), &mut waiting).await;
    heard.unwrap_err();
    drop(waiting);
    running.client.settle().await;
    assert_eq!(running.fake.state().cancelled, [name]);
}

#[tokio::test]
async fn a_build_is_submitted_waited_for_and_followed() {
    let running = Running::start().await;
    let name = running.client.submit(&work()).await.unwrap();
    assert_eq!(name, "team/operations/1");
    running.client.settle().await;
    assert!(running.fake.state().cancelled.is_empty());
    running.fake.say(&name, output(7));
    running.fake.end(&name, done(b"well", false));
    assert_eq!(running.client.wait(&name).await.unwrap().bytes, "well");
    let mut heard = Vec::new();
    let follow = running
        .client
        .follow(&name, 0, |event| heard.push(event.node));
    follow.await.unwrap();
    assert_eq!(heard, [Some(7)]);
    let unknown = running.client.wait("team/operations/x").await;
    assert!(matches!(unknown, Err(FarmError::Unknown(_))));
    running.client.cancel(&name).await.unwrap();
    let builds = running.client.builds(4).await.unwrap();
    assert_eq!(builds.len(), 4);
    assert_eq!(running.client.builds(100).await.unwrap().len(), 5);
}

#[tokio::test]
async fn agents_are_lent_over_the_session() {
    let mut running = Running::start().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent");
    let agent = UnixListener::bind(&socket).unwrap();
    let answering = spawn(async move {
        let (mut connection, _) = agent.accept().await.unwrap();
        let mut question = [0; 4];
        connection.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"sign");
        connection.write_all(&vec![7; 100_000]).await.unwrap();
    });
    let agents = [("default".to_owned(), socket)].into();
    let sealed = Bytes::from_static(b"sealed");
    let session = running
        .client
        .session("build-1", sealed, agents)
        .await
        .unwrap();
    let (to_client, opened) = {
        let state = running.fake.state();
        (state.sessions[0].clone(), state.opened[0].clone())
    };
    assert_eq!(
        (opened.build.as_str(), &*opened.sealed),
        ("build-1", b"sealed".as_slice())
    );
    assert_eq!(opened.instance_name, "team");
    let say = |kind| {
        let to_client = to_client.clone();
        async move {
            let message = wire::SessionResponse { kind: Some(kind) };
            to_client.send(Ok(message)).await.unwrap();
        }
    };
    let open = |channel, agent: &str| {
        say(wire::session_response::Kind::Channel(ChannelOpen {
            channel,
            agent: agent.to_owned(),
        }))
    };
    open(1, "default").await;
    open(2, "another").await;
    let data = Bytes::from_static(b"sign");
    say(wire::session_response::Kind::Data(ChannelData {
        channel: 1,
        data,
    }))
    .await;
    let (mut answer, mut ended, mut refused) = (0, false, false);
    while !(ended && refused) {
        let message = timeout(Duration::from_secs(10), running.heard.recv()).await;
        match message.unwrap().unwrap().kind.unwrap() {
            session_request::Kind::Data(data) => {
                assert!(data.channel == 1 && data.data.len() <= 64 << 10);
                answer += data.data.len();
            }
            session_request::Kind::End(end) if end.channel == 1 => {
                assert_eq!(end.error, "");
                ended = true;
            }
            session_request::Kind::End(end) => {
                assert!(end.error.contains("no agent another"), "{}", end.error);
                refused = true;
            }
            session_request::Kind::Open(_) => {}
        }
    }
    assert_eq!(answer, 100_000);
    answering.await.unwrap();
    // A session that breaks is opened again, with what it gave.
    to_client
        .send(Err(Status::unavailable("cut")))
        .await
        .unwrap();
    drop(to_client);
    timeout(Duration::from_secs(10), async {
        while running.fake.state().opened.len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(running.fake.state().opened[1], opened);
    drop(session);
}
