//! Work that is asked for, done, joined, cancelled, lost and found again.

use std::time::Duration;

use ashlar_model::cas::CasDigest;
use ashlar_proto::wire::farm::queue_message::Kind as ToWorker;
use ashlar_proto::wire::farm::worker_message::outcome::{
    Cancelled, HandedBack, Infrastructure, Kind as OutcomeKind,
};
use ashlar_proto::wire::farm::{self, event};
use ashlar_proto::wire::reapi::execution_stage::Value as Stage;
use ashlar_proto::{missing, retry};
use ashlar_queue::Settings;
use tonic::Code;

use super::farm::{BLAKE3, Client, Worker, done_of, hello, output, response, soon, stage, texts};
use super::here::{open, quick};

#[tokio::test]
async fn work_is_asked_for_and_done() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let mut worker = Worker::attach(&harness, "w1", 2).await;
    let mut followed = client.execute("[1/1] RUN true").await.expect("queued");
    let assign = worker.work().await;
    assert_eq!((assign.attempt, assign.build.as_str()), (1, "build-1"));
    let assignment = assign.assignment.clone().expect("an assignment");
    assert_eq!(assignment.operation, followed.name);
    worker.events(&assignment, 0, vec![output("one "), output("two ")]);
    let ToWorker::Taken(taken) = worker.next().await.expect("taken") else {
        panic!("another message");
    };
    assert_eq!(taken.next, 2);
    // What is sent again counts once.
    worker.events(&assignment, 1, vec![output("two "), output("three")]);
    worker.done(&assign, "all is well");
    assert!(!worker.taken().await);
    let end = followed.end().await;
    assert_eq!(end.status.clone().unwrap_or_default().code, 0);
    assert_eq!(&done_of(&end).outcome[..], b"all is well");
    let result = end.result.expect("a result");
    assert_eq!(result.exit_code, 0);
    assert_eq!(
        result.execution_metadata.expect("metadata").worker,
        "w1 of the tests"
    );
    let events = client.events(&followed.name, 0).await.expect("events");
    assert_eq!(texts(&events), "one two three");
    assert!(events.iter().any(|event| matches!(
        &event.kind,
        Some(event::Kind::Assigned(assigned)) if assigned.attempt == 1
    )));
    let late = client.events(&followed.name, events.len() as u64).await;
    assert!(late.expect("none").is_empty());
    // It can be looked at for a while.
    let again = client
        .wait(&followed.name)
        .await
        .expect("known")
        .end()
        .await;
    assert_eq!(
        done_of(&again),
        done_of(&end_of(&client, &followed.name).await)
    );
}

/// How an operation that has ended did so.
async fn end_of(client: &Client, name: &str) -> ashlar_proto::wire::reapi::ExecuteResponse {
    let request = ashlar_proto::wire::longrunning::GetOperationRequest {
        name: name.to_owned(),
    };
    let operation = client
        .operations()
        .get_operation(client.request(request))
        .await
        .expect("known")
        .into_inner();
    assert!(operation.done && stage(&operation) == Stage::Completed);
    response(&operation)
}

#[tokio::test]
async fn a_step_that_fails_is_an_outcome_like_others() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let mut followed = client.execute("RUN false").await.expect("queued");
    let assign = worker.work().await;
    worker.outcome(
        assign.assignment.as_ref().expect("an assignment"),
        OutcomeKind::Done(farm::worker_message::outcome::Done {
            outcome: b"code 1".to_vec().into(),
            failed: true,
            message: "RUN false: exit code 1".to_owned(),
        }),
    );
    let end = followed.end().await;
    assert_eq!(end.message, "RUN false: exit code 1");
    assert_eq!(end.result.as_ref().expect("a result").exit_code, 1);
    assert!(done_of(&end).failed);
}

#[tokio::test]
async fn the_same_action_is_done_once_for_all_who_want_it() {
    let harness = open(Settings::default()).await;
    let (one, other) = (Client::new(&harness).await, Client::new(&harness).await);
    let mut first = one.execute("RUN make").await.expect("queued");
    let mut second = other.execute("RUN make").await.expect("queued");
    assert_eq!(first.name, second.name);
    let mut worker = Worker::attach(&harness, "w1", 2).await;
    let assign = worker.work().await;
    assert!(worker.hears_nothing().await, "there is no second one");
    worker.done(&assign, "made");
    assert_eq!(done_of(&first.end().await), done_of(&second.end().await));
}

#[tokio::test]
async fn cancelling_ends_work_wherever_it_is() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let mut waiting = client.execute("RUN waits").await.expect("queued");
    client.cancel(&waiting.name).await.expect("cancelled");
    let end = waiting.end().await;
    assert_eq!(
        end.status.expect("a status").code,
        i32::from(Code::Cancelled)
    );

    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let mut running = client.execute("RUN runs").await.expect("queued");
    let assign = worker.work().await;
    client.cancel(&running.name).await.expect("cancelled");
    let ToWorker::Cancel(cancel) = worker.next().await.expect("a message") else {
        panic!("another message");
    };
    assert_eq!(Some(&cancel), assign.assignment.as_ref());
    worker.outcome(&cancel, OutcomeKind::Cancelled(Cancelled {}));
    let end = running.end().await;
    assert_eq!(
        end.status.expect("a status").code,
        i32::from(Code::Cancelled)
    );
    let unknown = client
        .cancel("operations/0123456789abcdef0123456789abcdef")
        .await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn with_a_whole_build_goes_what_was_asked_for_in_it() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let mut whole = client.run("ashlar.build/1", "all").await.expect("queued");
    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let build = worker.work().await;
    let driver = Client::over(harness.worker_channel().await);
    let mut part = driver.execute("RUN sleep").await.expect("queued");
    let segment = worker.work().await;
    client.cancel(&whole.name).await.expect("cancelled");
    let mut told = Vec::new();
    while told.len() < 2 {
        if let ToWorker::Cancel(cancel) = worker.next().await.expect("a message") {
            worker.outcome(&cancel, OutcomeKind::Cancelled(Cancelled {}));
            told.push(Some(cancel));
        }
    }
    assert!(told.contains(&build.assignment) && told.contains(&segment.assignment));
    for end in [whole.end().await, part.end().await] {
        let code = end.status.expect("a status").code;
        assert_eq!(code, i32::from(Code::Cancelled));
    }
}

#[tokio::test]
async fn work_of_a_client_that_is_gone_ends_and_that_of_one_that_comes_again_does_not() {
    let harness = open(quick()).await;
    let client = Client::new(&harness).await;
    let gone = client.execute("RUN gone").await.expect("queued");
    let back = client.execute("RUN back").await.expect("queued");
    let names = (gone.name.clone(), back.name.clone());
    let build = client.run("ashlar.build/1", "whole").await.expect("queued");
    let whole = build.name.clone();
    drop((gone, back, build));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut again = client.wait(&names.1).await.expect("still there");
    let _kept = again.next().await.expect("a state");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // A build that has somebody who waits for a part of it is not gone; a whole one never is.
    for name in [&names.0, &names.1, &whole] {
        let request = ashlar_proto::wire::longrunning::GetOperationRequest { name: name.clone() };
        let found = client.operations().get_operation(request).await;
        assert!(!found.expect("known").into_inner().done, "{name}");
    }
    drop(again);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // The whole build keeps what it has asked for.
    client.cancel(&whole).await.expect("still there");
}

#[tokio::test]
async fn work_that_nobody_waits_for_is_cancelled_after_a_while() {
    let harness = open(quick()).await;
    let client = Client::new(&harness).await;
    let gone = client.execute("RUN gone").await.expect("queued");
    let name = gone.name.clone();
    drop(gone);
    let end = soon(async {
        loop {
            let request =
                ashlar_proto::wire::longrunning::GetOperationRequest { name: name.clone() };
            let found = client.operations().get_operation(request).await;
            let found = found.expect("known").into_inner();
            if found.done {
                break response(&found);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(
        end.status.expect("a status").code,
        i32::from(Code::Cancelled)
    );
}

#[tokio::test]
async fn a_lost_workers_work_goes_to_another_and_what_it_says_late_does_not_count() {
    let harness = open(quick()).await;
    let client = Client::new(&harness).await;
    let mut first = Worker::attach(&harness, "w1", 1).await;
    let mut followed = client.execute("RUN make").await.expect("queued");
    let old = first.work().await;
    let old_assignment = old.assignment.clone().expect("an assignment");
    first.events(&old_assignment, 0, vec![output("first ")]);
    // It says nothing more, but its connection stays.
    let mut second = Worker::attach(&harness, "w2", 1).await;
    let new = soon(async {
        loop {
            second.renew(Vec::new());
            tokio::select! {
                assign = second.work() => break assign,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    })
    .await;
    let new_assignment = new.assignment.clone().expect("an assignment");
    assert_eq!(new_assignment.operation, old_assignment.operation);
    assert!(new_assignment.fencing_number > old_assignment.fencing_number);
    // A connection that was silent for so long may be over; the worker comes again.
    let mut back = hello("w1", 1);
    back.running = vec![old_assignment.clone()];
    let mut first = Worker::with(&harness, back, "").await.expect("welcome");
    let ToWorker::Revoke(revoked) = first.next().await.expect("a message") else {
        panic!("another message");
    };
    assert_eq!(revoked, old_assignment);
    first.events(&old_assignment, 1, vec![output("late ")]);
    first.done(&old, "late");
    assert!(first.taken().await, "too late");
    second.events(&new_assignment, 0, vec![output("second")]);
    second.done(&new, "in time");
    assert_eq!(&done_of(&followed.end().await).outcome[..], b"in time");
    let events = client.events(&followed.name, 0).await.expect("events");
    assert_eq!(texts(&events), "first second");
}

#[tokio::test]
async fn a_worker_that_comes_again_goes_on_with_its_work() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let mut worker = Worker::attach(&harness, "w1", 1).await;
    let mut followed = client.execute("RUN make").await.expect("queued");
    let assign = worker.work().await;
    let assignment = assign.assignment.clone().expect("an assignment");
    worker.events(&assignment, 0, vec![output("before ")]);
    drop(worker);
    let mut back = hello("w1", 1);
    back.running = vec![assignment.clone()];
    let mut worker = Worker::with(&harness, back, "").await.expect("welcome");
    worker.events(&assignment, 0, vec![output("before "), output("after")]);
    worker.done(&assign, "made");
    assert!(!worker.taken().await);
    assert_eq!(&done_of(&followed.end().await).outcome[..], b"made");
    let events = client.events(&followed.name, 0).await.expect("events");
    assert_eq!(texts(&events), "before after");
}

#[tokio::test]
async fn what_no_worker_can_do_is_set_aside_and_named() {
    let harness = open(quick()).await;
    let client = Client::new(&harness).await;
    let mut workers = Vec::new();
    for id in ["w1", "w2", "w3"] {
        workers.push(Worker::attach(&harness, id, 1).await);
    }
    let mut followed = client.execute("RUN poison").await.expect("queued");
    let mut attempts = 0;
    let end = soon(async {
        loop {
            let [one, two, three] = &mut workers[..] else {
                panic!("three")
            };
            let (which, message) = tokio::select! {
                message = one.next() => (0, message),
                message = two.next() => (1, message),
                message = three.next() => (2, message),
                end = followed.end() => break end,
            };
            if let ToWorker::Assign(assign) = message.expect("a message") {
                attempts += 1;
                let assignment = assign.assignment.expect("an assignment");
                let worker = &workers[which];
                worker.outcome(
                    &assignment,
                    OutcomeKind::Infrastructure(Infrastructure {
                        message: "the disk is gone".to_owned(),
                        is_exhaustion: false,
                    }),
                );
                worker.capacity(1);
            }
            for worker in &workers {
                worker.renew(Vec::new());
            }
        }
    })
    .await;
    assert_eq!(attempts, 3);
    let status = end.status.expect("a status");
    assert_eq!(status.code, i32::from(Code::Aborted));
    assert!(status.message.contains("the disk is gone"), "{status:?}");
    assert!(status.message.contains("RUN poison"), "{status:?}");
}

#[tokio::test]
async fn work_that_is_handed_back_goes_to_another() {
    let harness = open(quick()).await;
    let client = Client::new(&harness).await;
    let mut first = Worker::attach(&harness, "w1", 1).await;
    let mut followed = client.execute("RUN make").await.expect("queued");
    let assign = first.work().await;
    first.say(farm::worker_message::Kind::Capacity(
        farm::worker_message::Capacity {
            free: 0,
            draining: true,
            why: "it is told to end".to_owned(),
        },
    ));
    let assignment = assign.assignment.expect("an assignment");
    first.outcome(&assignment, OutcomeKind::HandedBack(HandedBack {}));
    assert!(!first.taken().await);
    let mut second = Worker::attach(&harness, "w2", 1).await;
    let assign = second.work().await;
    assert_eq!(assign.attempt, 1, "it cost nothing");
    second.done(&assign, "made");
    assert_eq!(&done_of(&followed.end().await).outcome[..], b"made");
}

#[tokio::test]
async fn what_is_missing_is_named_and_what_is_not_known_is_refused() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let blobs = client.action("ashlar.segment/1", "RUN true");
    // The command is the same for all of them, and is there from the second on.
    for missing_at in [3, 0, 1, 2, 4] {
        let client = Client {
            build: format!("build-{missing_at}"),
            ..client.clone()
        };
        let mut some = client.action("ashlar.segment/1", &format!("RUN {missing_at}"));
        let request = client.ask(some.last().expect("an action"));
        let gone = CasDigest::of(BLAKE3, &some.remove(missing_at));
        client.upload(&some).await.expect("uploaded");
        let status = client.execution().execute(request).await;
        let status = status.expect_err("a blob is missing");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert_eq!(missing::decode(status.details()), [gone]);
        let command = client.action("ashlar.segment/1", "").remove(3);
        client.upload(&[command]).await.expect("uploaded");
    }
    let status = client.run("/bin/sh", "RUN true").await;
    let status = status.err().expect("no command of this farm");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("ashlar.segment/1"), "{status:?}");
    let mut urgent = client.ask(blobs.last().expect("an action"));
    urgent.get_mut().execution_policy =
        Some(ashlar_proto::wire::reapi::ExecutionPolicy { priority: 101 });
    client.upload(&blobs).await.expect("uploaded");
    let status = client.execution().execute(urgent).await;
    assert_eq!(status.expect_err("too high").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_namespace_that_has_too_much_is_told_to_come_again() {
    let harness = open(Settings {
        queued_per_namespace: 3,
        ..Settings::default()
    })
    .await;
    let client = Client::new(&harness).await;
    let mut kept = Vec::new();
    for number in 0..3 {
        let name = format!("RUN {number}");
        kept.push(client.execute(&name).await.expect("queued"));
    }
    let status = client.execute("RUN more").await.err().expect("full");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(retry::decode(status.details()).is_some());
    let other = Client {
        instance: "other".to_owned(),
        ..client.clone()
    };
    other.execute("RUN more").await.expect("queued");
}

#[tokio::test]
async fn why_it_waits_is_said() {
    let harness = open(Settings::default()).await;
    let client = Client::new(&harness).await;
    let followed = client.execute("RUN true").await.expect("queued");
    let request = farm::EventsRequest {
        operation: followed.name.clone(),
        ..Default::default()
    };
    let mut events = client
        .farm()
        .events(request)
        .await
        .expect("events")
        .into_inner();
    let first = soon(events.message()).await.expect("events").expect("some");
    let Some(event::Kind::Queued(queued)) = &first.events[0].kind else {
        panic!("{first:?}");
    };
    assert!(queued.why.contains("no worker"), "{queued:?}");
}
