//! Who may have work done, who may do it, and what nobody is shown.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ashlar_cache_server::audit::{Audit, Event, Outcome, Queue, What};
use ashlar_cache_server::auth::rules::Rule;
use ashlar_cache_server::auth::{Access, Policy, Right, Tokens, Writers};
use ashlar_cache_server::dispatch::Dispatch;
use ashlar_cache_server::stores::Stores;
use ashlar_model::cas::CasDigest;
use ashlar_proto::wire::ext::leases_client::LeasesClient;
use ashlar_proto::wire::farm::session_request::{self, Open};
use ashlar_proto::wire::farm::{self, SessionRequest};
use ashlar_proto::wire::longrunning;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::action_cache_client::ActionCacheClient;
use ashlar_proto::wire::reapi::capabilities_client::CapabilitiesClient;
use ashlar_queue::Settings;
use ashlar_store::clock;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::farm::{BLAKE3, Client, Worker, done_of, hello, output, soon, with_token};
use crate::harness::{Harness, number, wire};

const A: &str = "acme/a";
const B: &str = "acme/b";

/// Who there is: a token, and what it may do where.
const CALLERS: [(&str, &str, &[Right]); 5] = [
    ("clia-0123456789abcdef", A, &[Right::Read, Right::Queue]),
    ("clib-0123456789abcdef", B, &[Right::Read, Right::Queue]),
    ("wora-0123456789abcdef", A, &[Right::Work]),
    ("worb-0123456789abcdef", B, &[Right::Work]),
    (
        "lead-0123456789abcdef",
        "acme",
        &[Right::Read, Right::Admin],
    ),
];

/// The token of somebody.
fn token(name: &str) -> &'static str {
    let found = CALLERS.iter().find(|(token, _, _)| token.starts_with(name));
    found.expect("a caller").0
}

/// A server for two teams.
struct Farm {
    harness: Harness,
    audit: Queue,
}

impl Farm {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rule = |(token, namespace, rights): (&str, &str, &[Right])| {
            let file = folder.path().join(&token[..4]);
            std::fs::write(&file, token).expect("written");
            Rule {
                name: token[..4].to_owned(),
                issuer: None,
                claims: Vec::new(),
                certificate: None,
                tokens: Some(Tokens::read(&file).expect("tokens")),
                grants: vec![(
                    namespace.parse().expect("a namespace"),
                    rights.iter().copied().collect(),
                )],
            }
        };
        let policy = Policy {
            rules: CALLERS.into_iter().map(rule).collect(),
            ..Policy::of_files(Writers::Nobody, None)
        };
        let (audit, queue) = Audit::queue(10_000, clock::system());
        let namespaces = Arc::new(ArcSwap::from_pointee(Default::default()));
        let harness = Harness::with_queue(
            Access::new(policy, clock::system()),
            0,
            |engines| Stores::apart(engines, namespaces),
            audit,
            Some(Dispatch::alone(Settings::default(), &clock::system())),
        )
        .await;
        Self {
            harness,
            audit: queue,
        }
    }

    async fn client(&self, name: &str, instance: &str) -> Client {
        Client {
            instance: instance.to_owned(),
            token: token(name).to_owned(),
            ..Client::new(&self.harness).await
        }
    }

    async fn worker(&self, name: &str, instances: &[&str]) -> Result<Worker, Status> {
        let mut hello = hello(name, 1);
        hello.instance_names = instances.iter().map(|name| (*name).to_owned()).collect();
        let worker = Worker::with(&self.harness, hello, token(name)).await?;
        worker.capacity(1);
        Ok(worker)
    }

    /// What was noted since.
    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.audit.next_event()).collect()
    }
}

/// Tries to store a result; what came of it.
async fn store_result(channel: Channel, instance: &str, token: &str) -> Code {
    let request = reapi::UpdateActionResultRequest {
        instance_name: instance.to_owned(),
        digest_function: number(BLAKE3),
        action_digest: Some(wire(&CasDigest::of(BLAKE3, b"a step"))),
        action_result: Some(reapi::ActionResult::default()),
        ..Default::default()
    };
    let stored = ActionCacheClient::new(channel)
        .update_action_result(with_token(request, token))
        .await;
    stored.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn clients_queue_and_workers_work_and_neither_does_the_others() {
    let mut farm = Farm::new().await;
    let client = farm.client("clia", A).await;
    let refused = |status: Status| status.code() == Code::PermissionDenied;
    // A client uploads what its work needs, and stores no results.
    let mut followed = client.execute("RUN true").await.expect("queued");
    let code = store_result(client.channel.clone(), A, token("clia")).await;
    assert_eq!(code, Code::PermissionDenied);
    // It takes no work, wherever it comes in.
    let status = farm.worker("clia", &[A]).await.err();
    assert!(status.is_some_and(refused));
    // It queues nothing for others, and sees nothing of theirs.
    let other = farm.client("clib", A).await;
    assert!(other.execute("RUN true").await.err().is_some_and(refused));
    assert!(other.wait(&followed.name).await.err().is_some_and(refused));
    assert!(
        other
            .cancel(&followed.name)
            .await
            .err()
            .is_some_and(refused)
    );
    let events = other.events(&followed.name, 0).await;
    assert!(events.err().is_some_and(refused));
    let list = longrunning::ListOperationsRequest {
        name: format!("{A}/operations"),
        ..Default::default()
    };
    let listed = other
        .operations()
        .list_operations(other.request(list))
        .await;
    assert!(listed.err().is_some_and(refused));
    // A worker's token is good for nothing where clients come in.
    let disguised = Client {
        token: token("wora").to_owned(),
        ..client.clone()
    };
    assert!(disguised.execute("RUN no").await.err().is_some_and(refused));
    let code = store_result(client.channel.clone(), A, token("wora")).await;
    assert_eq!(code, Code::PermissionDenied);

    let noted = farm.events();
    let is = |what: What, outcome: Outcome, caller: &str| {
        noted.iter().any(|event| {
            (event.what, event.outcome) == (what, outcome) && event.caller.contains(caller)
        })
    };
    assert!(is(What::Execute, Outcome::Done, "clia"), "{noted:?}");
    assert!(is(What::Execute, Outcome::Refused, "clib"), "{noted:?}");
    assert!(is(What::Attach, Outcome::Refused, "clia"), "{noted:?}");

    // The worker of the team does it, and may store what it made where workers come in.
    let mut worker = farm.worker("wora", &[]).await.expect("welcome");
    let channel = farm.harness.worker_channel().await;
    assert_eq!(
        store_result(channel.clone(), A, token("wora")).await,
        Code::Ok
    );
    let code = store_result(channel.clone(), B, token("wora")).await;
    assert_eq!(code, Code::PermissionDenied);
    let lease = ashlar_proto::wire::ext::AcquireRequest {
        instance_name: A.to_owned(),
        key: "step".to_owned(),
        ttl: Some(prost_types::Duration {
            seconds: 5,
            nanos: 0,
        }),
        ..Default::default()
    };
    let acquired = LeasesClient::new(channel)
        .acquire(with_token(lease, token("wora")))
        .await;
    acquired.expect("a lease");
    let assign = worker.work().await;
    assert_eq!(assign.instance_name, A);
    assert!(assign.requester.contains("clia"), "{}", assign.requester);
    worker.done(&assign, "made");
    assert_eq!(&done_of(&followed.end().await).outcome[..], b"made");
    assert!(
        farm.events()
            .iter()
            .any(|event| { (event.what, event.outcome) == (What::Attach, Outcome::Done) })
    );
}

#[tokio::test]
async fn a_worker_takes_work_of_its_own_namespaces_alone() {
    let farm = Farm::new().await;
    for instances in [&[A][..], &[B, A], &["acme"], &[""]] {
        let status = farm.worker("worb", instances).await.err();
        let code = status.map(|status| status.code());
        assert_eq!(code, Some(Code::PermissionDenied), "{instances:?}");
    }
    let mut worker = farm.worker("worb", &[]).await.expect("welcome");
    let client = farm.client("clia", A).await;
    let followed = client.execute("RUN true").await.expect("queued");
    assert!(worker.hears_nothing().await);
    // Nor does it get any by saying that it has it.
    let stolen = farm::Assignment {
        operation: followed.name.clone(),
        fencing_number: 1,
    };
    let mut liar = hello("liar", 0);
    liar.running = vec![stolen.clone()];
    let liar = Worker::with(&farm.harness, liar, token("worb")).await;
    let liar = liar.expect("welcome");
    liar.events(&stolen, 0, vec![output("made up")]);
    liar.done(
        &farm::queue_message::Assign {
            assignment: Some(stolen),
            ..Default::default()
        },
        "made up",
    );
    let own = farm.client("clib", B).await;
    let mut own = own.execute("RUN own").await.expect("queued");
    let assign = worker.work().await;
    assert_eq!(assign.instance_name, B);
    worker.done(&assign, "own");
    assert_eq!(&done_of(&own.end().await).outcome[..], b"own");
    let request = longrunning::GetOperationRequest {
        name: followed.name.clone(),
    };
    let found = client
        .operations()
        .get_operation(client.request(request))
        .await;
    assert!(!found.expect("known").into_inner().done);
}

#[tokio::test]
async fn others_cancel_nothing_and_those_who_look_after_the_cache_do() {
    let farm = Farm::new().await;
    let client = farm.client("clia", A).await;
    let mut followed = client.execute("RUN true").await.expect("queued");
    let lead = farm.client("lead", A).await;
    let builds = farm::ListBuildsRequest {
        instance_name: A.to_owned(),
        ..Default::default()
    };
    let listed = lead.farm().list_builds(lead.request(builds)).await;
    assert!(listed.expect("a list").into_inner().builds.is_empty());
    lead.cancel(&followed.name).await.expect("cancelled");
    let end = followed.end().await;
    assert_eq!(
        end.status.expect("a status").code,
        i32::from(Code::Cancelled)
    );
}

#[tokio::test]
async fn capabilities_say_who_may_queue_and_how_urgent_it_may_be() {
    let farm = Farm::new().await;
    let of = async |name: &str, instance: &str| {
        let request = reapi::GetCapabilitiesRequest {
            instance_name: instance.to_owned(),
        };
        let mut client = CapabilitiesClient::new(farm.harness.channel().await);
        let answer = client
            .get_capabilities(with_token(request, token(name)))
            .await;
        let capabilities = answer.expect("capabilities").into_inner();
        let execution = capabilities.execution_capabilities.expect("a queue");
        let priorities = execution.execution_priority_capabilities;
        let range = priorities.expect("priorities").priorities.remove(0);
        (
            execution.exec_enabled,
            range.min_priority,
            range.max_priority,
        )
    };
    assert_eq!(of("clia", A).await, (true, 0, 100));
    assert_eq!(of("clia", B).await, (false, 0, 100));
    assert_eq!(of("lead", A).await, (false, -100, 100));
    let without = Harness::new().await;
    let mut client = without.capabilities().await;
    let answer = client
        .get_capabilities(reapi::GetCapabilitiesRequest::default())
        .await;
    let capabilities = answer.expect("capabilities").into_inner();
    assert!(capabilities.execution_capabilities.is_none());
}

#[tokio::test]
async fn what_is_sealed_goes_to_the_worker_and_nowhere_else() {
    const SEALED: &str = "sealed-0123456789-of-nobodys-business";
    let mut farm = Farm::new().await;
    let client = farm.client("clia", A).await;
    let open = SessionRequest {
        kind: Some(session_request::Kind::Open(Open {
            instance_name: A.to_owned(),
            build: client.build.clone(),
            sealed: SEALED.as_bytes().to_vec().into(),
        })),
    };
    let (send, messages) = tokio::sync::mpsc::unbounded_channel();
    send.send(open).expect("sent");
    let messages = tokio_stream::wrappers::UnboundedReceiverStream::new(messages);
    let mut session = client
        .farm()
        .session(client.request(messages))
        .await
        .expect("a session")
        .into_inner();
    soon(session.message()).await.expect("opened");
    let mut followed = client
        .execute("RUN --mount=type=secret")
        .await
        .expect("queued");
    let mut worker = farm.worker("wora", &[]).await.expect("welcome");
    let assign = worker.work().await;
    assert_eq!(&assign.sealed[..], SEALED.as_bytes());
    let assignment = assign.assignment.clone().expect("an assignment");
    worker.events(&assignment, 0, vec![output("done")]);
    worker.done(&assign, "made");
    let end = followed.end().await;
    let events = client.events(&followed.name, 0).await.expect("events");
    let shown = format!(
        "{end:?} {events:?} {:?} {:?}",
        farm.events(),
        farm.harness.assembled.watched.dispatch
    );
    assert!(!shown.contains(SEALED) && !shown.contains("115, 101, 97, 108, 101, 100"));
    // Another's build of the same name is another build.
    let other = farm.client("clib", B).await;
    let mut followed = other.execute("RUN other").await.expect("queued");
    let mut worker = farm.worker("worb", &[]).await.expect("welcome");
    let assign = worker.work().await;
    assert!(assign.sealed.is_empty());
    worker.done(&assign, "made");
    followed.end().await;
}
