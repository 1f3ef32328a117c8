//! Results that are signed, and readers that take nothing else.

use ashlar_engine::share::{Belief, Leave, ResultKey};
use ashlar_model::cas::{ActionKey, DigestFunction};
use ashlar_model::mount::{CacheMount, CacheSharing, OptionalOwner};
use ashlar_store::action_cache::PutMode;
use ashlar_store::{ActionCache as _, BlobStore as _};

use super::*;
use crate::action::{ResultOutputs, StepAction, StepKey};
use crate::service::Connect as _;
use crate::signature::keys::NewKey;
use crate::signature::{KeyRing, Policy, Signed, Signer, Trust};

const READ_WRITE: Mode = Mode::ReadWrite;

fn signer(seed: u8) -> Arc<Signer> {
    let key = NewKey::of_seed([seed; 32]).unwrap();
    let signer = Signer::of_pem(&key.private, "ci", Arc::new(|| 1_796_000_000));
    Arc::new(signer.unwrap())
}

/// Demands signatures of the keys of these seeds.
fn demanding(seeds: &[u8]) -> Arc<Policy> {
    let mut keys = KeyRing::default();
    for seed in seeds {
        keys.add(signer(*seed).public()).unwrap();
    }
    Arc::new(Policy::of_all(Trust::Signed(Signed {
        keys,
        ..Signed::default()
    })))
}

fn fresh(servers: &[(&Arc<Server>, Mode)], proof: Proof) -> Machine {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    Machine::of_home((directory, home), servers, proof)
}

/// A machine that signs, and takes what it has signed.
fn signing(servers: &[(&Arc<Server>, Mode)], seed: u8) -> Machine {
    let proof = Proof {
        policy: demanding(&[seed]),
        signer: Some(signer(seed)),
    };
    fresh(servers, proof)
}

/// A machine that takes what these keys have signed.
fn reading(servers: &[(&Arc<Server>, Mode)], seeds: &[u8]) -> Machine {
    let proof = Proof {
        policy: demanding(seeds),
        signer: None,
    };
    fresh(servers, proof)
}

/// The next build of a machine, which demands something else.
fn then(machine: Machine, servers: &[(&Arc<Server>, Mode)], proof: Proof) -> Machine {
    Machine::of_home((machine._directory, machine.home), servers, proof)
}

fn told(machine: &Machine) -> Vec<String> {
    machine.sharing.tell_refused();
    machine.warnings()
}

fn word(machine: &Machine, name: &str) -> Word {
    let found = machine.home.result_by_definition(&key(name)).unwrap();
    found.unwrap().word
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_known_key_has_signed_is_found_by_both_keys() {
    for server in [Server::new("grpc://new:1"), Server::plain("grpc://old:1")] {
        let a = signing(&[(&server, READ_WRITE)], 1);
        let bytes = tar(&[("one", 300_000)], 1);
        let (one, two) = (a.make(&bytes), a.make(&tar(&[("two", 1000)], 1)));
        a.publish(result("one", &[one])).await;
        a.publish(result("two", &[one, two])).await;

        let b = reading(&[(&server, READ_WRITE)], &[2, 1]);
        let found = b.look_up(&["two", "one"]).await;
        assert_eq!(found[0].as_ref().unwrap().len(), 2);
        let stack = found[1].clone().unwrap();
        assert_eq!(b.fetch(&stack[0]).await, Some(bytes));
        assert!(b.sharing.by_content(&content_key("two")).await.is_some());
        assert!(matches!(word(&b, "two"), Word::Signed(_)));
        assert!(told(&b).is_empty() && told(&a).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_is_no_hit_and_nothing_of_it_is_kept() {
    for server in [Server::new("grpc://new:1"), Server::plain("grpc://old:1")] {
        let a = Machine::new(&[(&server, READ_WRITE)]);
        for name in ["one", "two", "three"] {
            a.publish(result(name, &[a.make(&tar(&[(name, 1000)], 1))]))
                .await;
        }
        for (machine, why) in [
            (reading(&[(&server, READ_WRITE)], &[1]), "3 not signed"),
            // It signs with a key that nobody trusts, itself not either.
            (reading(&[(&server, READ_WRITE)], &[]), "3 not signed"),
        ] {
            let found = machine.look_up(&["one", "two", "none"]).await;
            assert_eq!(found, [None, None, None]);
            let by_content = machine.sharing.by_content(&content_key("three")).await;
            assert!(by_content.is_none());
            assert!(machine.home.layer_ids().unwrap().is_empty());
            let told = told(&machine);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].contains("3 results") && told[0].contains(why),
                "{told:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_known_are_told_apart() {
    let server = Server::new("grpc://c:1");
    let a = signing(&[(&server, READ_WRITE)], 1);
    a.publish(result("one", &[a.make(&tar(&[("one", 1000)], 1))]))
        .await;
    let b = reading(&[(&server, READ_WRITE)], &[2]);
    assert_eq!(b.look_up(&["one"]).await, [None]);
    assert!(
        told(&b)[0].contains("1 signed by no key that is known"),
        "{:?}",
        told(&b)
    );
}

fn action(name: &str) -> ActionKey {
    let action = StepAction::of(&StepKey::Definition(key(name)), DigestFunction::Blake3);
    ActionKey {
        instance: String::new(),
        action: action.digest,
    }
}

/// A writer with a stolen token, but without a key, gives a step another step's signed result, and
/// puts its own record under a signature.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_of_another_step_or_record_is_none() {
    use ashlar_proto::wire::reapi;
    use prost::Message as _;
    let server = Server::new("grpc://c:1");
    let a = signing(&[(&server, READ_WRITE)], 1);
    a.publish(result("one", &[a.make(&tar(&[("one", 1000)], 1))]))
        .await;
    let thief = Machine::new(&[(&server, READ_WRITE)]);
    thief
        .publish(result("evil", &[thief.make(&tar(&[("evil", 1000)], 1))]))
        .await;

    let service = server.connect().await.unwrap();
    let get = async |name: &str| {
        let found = service.actions.get(&[action(name)]).await.unwrap();
        found[0].clone().unwrap()
    };
    let (good, evil) = (get("one").await, get("evil").await);
    let put = async |name: &str, result: bytes::Bytes| {
        let action = action(name);
        let put = service.actions.put(&action, result, PutMode::Replace);
        put.await.unwrap();
    };
    // The signed result of another step.
    put("two", good.clone()).await;
    // Its signature beside another record.
    let mut forged = reapi::ActionResult::decode(evil).unwrap();
    let signed = reapi::ActionResult::decode(good.clone()).unwrap();
    forged.output_files.push(signed.output_files[1].clone());
    put("one", forged.encode_to_vec().into()).await;

    let b = reading(&[(&server, READ_WRITE)], &[1]);
    assert_eq!(b.look_up(&["one", "two"]).await, [None, None]);
    let told = told(&b);
    assert!(
        told[0].contains("2 with the signature of another step"),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_replaces_what_nobody_believes() {
    for server in [Server::new("grpc://new:1"), Server::plain("grpc://old:1")] {
        let thief = Machine::new(&[(&server, READ_WRITE)]);
        thief
            .publish(result("one", &[thief.make(&tar(&[("evil", 1000)], 1))]))
            .await;
        let a = signing(&[(&server, READ_WRITE)], 1);
        assert_eq!(a.look_up(&["one"]).await, [None]);
        let bytes = tar(&[("one", 1000)], 1);
        a.publish(result("one", &[a.make(&bytes)])).await;
        let b = reading(&[(&server, READ_WRITE)], &[1]);
        let stack = b.look_up(&["one"]).await.remove(0).unwrap();
        assert_eq!(b.fetch(&stack[0]).await, Some(bytes.clone()));

        // What is believed stays, whoever comes second.
        let c = signing(&[(&server, READ_WRITE)], 1);
        c.publish(result("one", &[c.make(&tar(&[("one", 1000)], 2))]))
            .await;
        let d = reading(&[(&server, READ_WRITE)], &[1]);
        let stack = d.look_up(&["one"]).await.remove(0).unwrap();
        assert_eq!(d.fetch(&stack[0]).await, Some(bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_made_is_never_signed_here() {
    let (first, second) = (
        Server::new("grpc://first:1"),
        Server::new("grpc://second:1"),
    );
    let a = Machine::new(&[(&first, READ_WRITE)]);
    a.publish(result("bare", &[a.make(&tar(&[("bare", 1000)], 1))]))
        .await;
    let signed = signing(&[(&first, READ_WRITE)], 1);
    signed
        .publish(result("signed", &[signed.make(&tar(&[("s", 1000)], 1))]))
        .await;

    // It demands nothing, signs, and offers all that it has to another cache.
    let proof = Proof {
        policy: Arc::default(),
        signer: Some(signer(2)),
    };
    let b = fresh(&[(&first, Mode::Read), (&second, READ_WRITE)], proof);
    for name in ["bare", "signed"] {
        let stack = b.look_up(&[name]).await.remove(0).unwrap();
        let offered = MadeResult {
            content: None,
            word: word(&b, name),
            ..result(name, &stack)
        };
        b.sharing.offer(offered);
    }
    // What stands on it is not signed either: the scheduler says so.
    let own = b.make(&tar(&[("own", 1000)], 1));
    let made = MadeResult {
        word: Word::Bare(None),
        ..result("on bare", &[own])
    };
    b.publish(made).await;

    let of_second = reading(&[(&second, Mode::Read)], &[2]);
    let names = ["bare", "signed", "on bare"];
    assert_eq!(of_second.look_up(&names).await, [None, None, None]);
    // The signature of whoever made it is still there.
    let of_first = reading(&[(&second, Mode::Read)], &[1]);
    let found = of_first.look_up(&names).await;
    assert!(found[0].is_none() && found[1].is_some() && found[2].is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_over_before_is_judged_again() {
    let server = Server::new("grpc://c:1");
    let bare = Machine::new(&[(&server, READ_WRITE)]);
    bare.publish(result("bare", &[bare.make(&tar(&[("b", 1000)], 1))]))
        .await;
    let signed = signing(&[(&server, READ_WRITE)], 1);
    signed
        .publish(result("signed", &[signed.make(&tar(&[("s", 1000)], 1))]))
        .await;

    let b = Machine::new(&[(&server, READ_WRITE)]);
    assert!(
        b.look_up(&["bare", "signed"])
            .await
            .iter()
            .all(Option::is_some)
    );
    let belief = |machine: &Machine, name: &str, of: &str| {
        let key = key(of);
        let key = ResultKey::Definition(&key);
        machine.sharing.belief(key, &word(machine, name))
    };
    assert_eq!(belief(&b, "bare", "bare"), Belief::Taken);
    assert_eq!(belief(&b, "signed", "signed"), Belief::Taken);
    let proof = |seed| Proof {
        policy: demanding(&[seed]),
        signer: None,
    };
    let b = then(b, &[(&server, READ_WRITE)], proof(1));
    assert_eq!(belief(&b, "bare", "bare"), Belief::Refused);
    assert_eq!(belief(&b, "signed", "signed"), Belief::Proven);
    assert_eq!(belief(&b, "signed", "bare"), Belief::Refused);
    let key = key("made");
    let own = b.sharing.belief(ResultKey::Definition(&key), &Word::Own);
    assert_eq!(own, Belief::Proven);
    let on_bare = b
        .sharing
        .belief(ResultKey::Definition(&key), &Word::Bare(None));
    assert_eq!(on_bare, Belief::Refused);
    let b = then(b, &[], proof(2));
    assert_eq!(belief(&b, "signed", "signed"), Belief::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_result_is_none_that_one_waits_for() {
    let server = Server::new("grpc://c:1");
    let thief = Machine::new(&[(&server, READ_WRITE)]);
    thief
        .publish(result("one", &[thief.make(&tar(&[("evil", 1000)], 1))]))
        .await;
    let b = signing(&[(&server, READ_WRITE)], 1);
    let leave = b.sharing.leave(&key("one"), "one", &|_| {}).await;
    assert!(matches!(leave, Leave::Run(Some(_))), "{leave:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_gone_is_none() {
    let server = Server::new("grpc://c:1");
    let a = signing(&[(&server, READ_WRITE)], 1);
    a.publish(result("one", &[a.make(&tar(&[("one", 1000)], 1))]))
        .await;
    let service = server.connect().await.unwrap();
    let found = service.actions.get(&[action("one")]).await.unwrap();
    let function = DigestFunction::Blake3;
    let outputs = ResultOutputs::read(found[0].as_ref().unwrap(), function).unwrap();
    let signature: CasDigest = outputs.signature.unwrap();
    let envelope = server.read_many(&[signature]).await.remove(0).unwrap();
    assert!(envelope.len() < 700, "{}", envelope.len());
    server.lose(signature);
    let b = reading(&[(&server, READ_WRITE)], &[1]);
    assert_eq!(b.look_up(&["one"]).await, [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_mounts_of_others_are_not_used_where_signatures_matter() {
    let server = Server::new("grpc://c:1");
    let mount = CacheMount {
        id: "apt".into(),
        target: "/c".into(),
        sharing: CacheSharing::Shared,
        read_only: false,
        owner: OptionalOwner::default(),
        seed: None,
    };
    let proof = Proof {
        policy: Arc::default(),
        signer: Some(signer(1)),
    };
    for proof in [
        proof,
        Proof {
            policy: demanding(&[1]),
            signer: None,
        },
    ] {
        let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&warnings);
        let sink: WarningSink =
            Arc::new(move |text: &str| told.lock().unwrap().push(text.to_owned()));
        let connect = Arc::new(Arc::clone(&server)) as _;
        let cache = Cache::new("c".into(), String::new(), READ_WRITE, connect, sink);
        let cache = cache.trusting(Arc::clone(proof.policy.of("c", "")));
        let cache = Arc::new(cache.sharing_mounts(vec!["apt".into()]));
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let sharing = Sharing::new(home, vec![cache], None, "me".into(), proof);
        assert!(sharing.snapshots().latest(&mount).await.is_none());
        let told = warnings.lock().unwrap().clone();
        assert!(
            told.len() == 1 && told[0].contains("cache mounts"),
            "{told:?}"
        );
    }
}
