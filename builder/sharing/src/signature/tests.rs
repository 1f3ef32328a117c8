//! Signatures: as the format says, and as nobody should write them.

use std::sync::Arc;

use ashlar_model::digest::{BlobDigest, ContentKey, DefinitionKey};
use ashlar_model::secret::SecretValue;
use proptest::prelude::*;

use super::envelope::{
    Envelope, LONGEST_ENVELOPE, MOST_SIGNATURES, PAYLOAD_TYPE, pre_authentication_encoding,
};
use super::keys::{KeyError, NewKey, Now};
use super::statement::{StatementError, is_name};
use super::trust::is_about;
use super::*;
use crate::action::StepKey;

const TIME: i64 = 1_796_000_000;

fn definition() -> StepKey {
    StepKey::Definition(DefinitionKey::from_bytes([1; 32]))
}

fn subject() -> Subject<'static> {
    Subject {
        key: definition(),
        instance: "org/repo/main",
        record: BlobDigest::of(b"record"),
    }
}

fn signer(seed: u8, name: &str) -> Signer {
    let key = NewKey::of_seed([seed; 32]).unwrap();
    let now: Now = Arc::new(|| TIME);
    Signer::of_pem(&key.private, name, now).unwrap()
}

fn trusting(signers: &[&Signer]) -> Signed {
    let mut keys = KeyRing::default();
    for signer in signers {
        keys.add(signer.public()).unwrap();
    }
    Signed {
        keys,
        ..Signed::default()
    }
}

fn check(signed: &Signed, subject: &Subject<'_>, envelope: &[u8]) -> Result<KeyId, Refusal> {
    let checked = Trust::Signed(signed.clone()).check(subject, Some(envelope));
    checked.map(Option::unwrap)
}

/// The golden vector of `docs/formats.md`: the key is that of 32 bytes 7.
#[test]
fn signatures_are_as_the_format_says() {
    let signer = signer(7, "ci");
    assert_eq!(
        signer.id().to_string(),
        "fe812c12f3ab4ce6ac5db69ac352f906cb1b11ef43fb33e252ef7ff552263889"
    );
    let bytes = signer.sign(&subject());
    let envelope = Envelope::read(&bytes).unwrap();
    assert_eq!(
        String::from_utf8(envelope.payload.clone()).unwrap(),
        concat!(
            r#"{"version":1,"kind":"definition","#,
            r#""key":"0101010101010101010101010101010101010101010101010101010101010101","#,
            r#""instance":"org/repo/main","#,
            r#""record":"sha256:70ce871f8a3d3fb449bc3c3ace6547cef02dfc74ffe48d912532a724bfdbe5b9","#,
            r#""builder":"ci","time":1796000000}"#,
        )
    );
    let covered = pre_authentication_encoding(&envelope.payload);
    let head = format!("DSSEv1 34 {PAYLOAD_TYPE} {} {{", envelope.payload.len());
    assert!(covered.starts_with(head.as_bytes()));
    // The same as OpenSSL signs.
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        concat!(
            r#"{"payloadType":"application/vnd.ashlar.result+json","payload":""#,
            "eyJ2ZXJzaW9uIjoxLCJraW5kIjoiZGVmaW5pdGlvbiIsImtleSI6IjAxMDEwMTAxMDEwMTAxMDEwMTAxMDEw",
            "MTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEiLCJpbnN0YW5jZSI6Im9yZy9yZXBv",
            "L21haW4iLCJyZWNvcmQiOiJzaGEyNTY6NzBjZTg3MWY4YTNkM2ZiNDQ5YmMzYzNhY2U2NTQ3Y2VmMDJkZmM3",
            "NGZmZTQ4ZDkxMjUzMmE3MjRiZmRiZTViOSIsImJ1aWxkZXIiOiJjaSIsInRpbWUiOjE3OTYwMDAwMDB9",
            r#"","signatures":[{"keyid":"#,
            r#""fe812c12f3ab4ce6ac5db69ac352f906cb1b11ef43fb33e252ef7ff552263889","sig":""#,
            "dYEJcSGtyzxQj7DyVtiXSuaiQfGPj5iAdLELwnet+T0Fnonu+WH7HRcwtnSrEnaXk9Z7DwG3AF6i2ZzE8kO4",
            "Cw==",
            r#""}]}"#,
        )
    );
}

#[test]
fn a_result_that_a_known_key_has_signed_is_taken() {
    let (ours, other) = (signer(1, "ci"), signer(2, "else"));
    let envelope = ours.sign(&subject());
    assert_eq!(
        check(&trusting(&[&other, &ours]), &subject(), &envelope),
        Ok(ours.id())
    );
    assert_eq!(Trust::Any.check(&subject(), None), Ok(None));
    assert!(is_about(&envelope, &subject()));
}

#[test]
fn what_is_not_signed_as_demanded_is_passed_over() {
    let (ours, other) = (signer(1, "ci"), signer(2, "else"));
    let trust = trusting(&[&ours]);
    let refused =
        |subject: &Subject<'_>, envelope: &[u8]| check(&trust, subject, envelope).unwrap_err();
    let good = ours.sign(&subject());
    assert_eq!(
        Trust::Signed(trust.clone()).check(&subject(), None),
        Err(Refusal::Unsigned)
    );
    assert_eq!(refused(&subject(), b"{}"), Refusal::Malformed);
    assert_eq!(
        refused(&subject(), &other.sign(&subject())),
        Refusal::UnknownKey
    );

    // A stranger says that the key is ours.
    let mut forged = Envelope::read(&other.sign(&subject())).unwrap();
    forged.signatures[0].0 = ours.id();
    assert_eq!(
        refused(&subject(), &forged.to_bytes()),
        Refusal::BadSignature
    );
    // Another payload under a signature of ours.
    let mut forged = Envelope::read(&good).unwrap();
    let statement = Statement::new(
        &Subject {
            record: BlobDigest::of(b"evil"),
            ..subject()
        },
        "ci",
        TIME,
    );
    forged.payload = statement.to_bytes();
    assert_eq!(
        refused(&subject(), &forged.to_bytes()),
        Refusal::BadSignature
    );

    let another = StepKey::Definition(DefinitionKey::from_bytes([2; 32]));
    let content = StepKey::Content(ContentKey::from_bytes([1; 32]));
    for key in [another, content] {
        let subject = Subject { key, ..subject() };
        assert_eq!(refused(&subject, &good), Refusal::WrongStep);
        assert!(!is_about(&good, &subject));
    }
    let record = Subject {
        record: BlobDigest::of(b"evil"),
        ..subject()
    };
    assert_eq!(refused(&record, &good), Refusal::WrongStep);
    let instance = Subject {
        instance: "org/repo/pr/17",
        ..subject()
    };
    assert_eq!(refused(&instance, &good), Refusal::WrongInstance);
    // Whether it is about a result has nothing to do with who asks where.
    assert!(is_about(&good, &instance));
}

#[test]
fn a_policy_names_instances_and_builders() {
    let ours = signer(1, "ci");
    let envelope = ours.sign(&subject());
    let asked = Subject {
        instance: "org/repo/pr/17",
        ..subject()
    };
    for (named, taken) in [
        ("org/repo/main", true),
        ("org/repo/*", true),
        ("*", true),
        ("org/repo", false),
        ("org/rep*", false),
        ("org/repo/mai", false),
        ("org/repo/main/*", false),
    ] {
        let trust = Signed {
            instances: vec![named.to_owned()],
            ..trusting(&[&ours])
        };
        assert_eq!(check(&trust, &asked, &envelope).is_ok(), taken, "{named}");
    }
    for (named, taken) in [("ci", true), ("c", false), ("CI", false)] {
        let trust = Signed {
            signers: vec![named.to_owned()],
            ..trusting(&[&ours])
        };
        let checked = check(&trust, &subject(), &envelope);
        assert_eq!(checked.is_ok(), taken, "{named}");
    }
}

#[test]
fn of_several_signatures_one_is_enough() {
    let (ours, other) = (signer(1, "ci"), signer(2, "ci"));
    let mut envelope = Envelope::read(&other.sign(&subject())).unwrap();
    let more = Envelope::read(&ours.sign(&subject())).unwrap();
    assert_eq!(more.payload, envelope.payload);
    envelope.signatures.extend(more.signatures);
    let both = envelope.to_bytes();
    for signer in [&ours, &other] {
        assert_eq!(
            check(&trusting(&[signer]), &subject(), &both),
            Ok(signer.id())
        );
    }
    // One that is wrong takes nothing away from one that is right.
    envelope.signatures[0].1 = envelope.signatures[1].1;
    let checked = check(
        &trusting(&[&ours, &other]),
        &subject(),
        &envelope.to_bytes(),
    );
    assert_eq!(checked, Ok(ours.id()));
}

#[test]
fn the_first_rule_that_fits_says_what_is_demanded() {
    let strict = Arc::new(Trust::Signed(trusting(&[&signer(1, "ci")])));
    let rule = |cache: Option<&str>, instance: Option<&str>, trust: &Arc<Trust>| Rule {
        cache: cache.map(str::to_owned),
        instance: instance.map(str::to_owned),
        trust: Arc::clone(trust),
    };
    let any = Arc::new(Trust::Any);
    let policy = Policy::new(vec![
        rule(Some("grpc://near:1"), None, &any),
        rule(None, Some("org/repo/*"), &strict),
    ]);
    assert_eq!(policy.of("grpc://near:1", "org/repo/main"), &any);
    assert_eq!(policy.of("grpc://far:1", "org/repo/main"), &strict);
    // Where nothing is said, nobody is trusted.
    let nobody = policy.of("grpc://far:1", "else");
    let signed = signer(1, "ci").sign(&subject());
    let refused = nobody.check(&subject(), Some(&signed)).unwrap_err();
    assert_eq!(refused, Refusal::UnknownKey);
    assert!(policy.demands_anything() && !policy.demands_always());

    let open = Policy::default();
    assert!(!open.demands_anything() && !open.demands_always());
    let closed = Policy::new(vec![rule(None, None, &strict)]);
    assert!(closed.demands_anything() && closed.demands_always());
    assert!(Policy::new(Vec::new()).demands_anything());
}

fn changed(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(signer(1, "ci").sign(&subject())).unwrap();
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed, "{from}");
    changed.into_bytes()
}

#[test]
fn envelopes_that_no_builder_writes_are_refused() {
    for (from, to) in [
        ("{", r#"{"more":1,"#),
        (
            "{",
            r#"{"payloadType":"application/vnd.ashlar.result+json","#,
        ),
        (PAYLOAD_TYPE, "application/vnd.in-toto+json"),
        (r#"{"keyid""#, r#"{"more":1,"keyid""#),
        (r#"{"keyid""#, r#"{"keyid":"","keyid""#),
        (r#""signatures":["#, r#""signatures":[],"x":["#),
        ("==", ""),
        (r#""payload":""#, r#""payload":"!"#),
    ] {
        Envelope::read(&changed(from, to)).unwrap_err();
    }
    let good = Envelope::read(&signer(1, "ci").sign(&subject())).unwrap();
    let none = Envelope {
        signatures: Vec::new(),
        ..good.clone()
    };
    let twice = Envelope {
        signatures: vec![good.signatures[0]; 2],
        ..good.clone()
    };
    let many = (0..=MOST_SIGNATURES).map(|seed| {
        let signer = signer(u8::try_from(seed).unwrap() + 1, "ci");
        (signer.id(), good.signatures[0].1)
    });
    let many = Envelope {
        signatures: many.collect(),
        ..good.clone()
    };
    let long = Envelope {
        payload: vec![b' '; 5000],
        ..good
    };
    for envelope in [none, twice, many, long] {
        Envelope::read(&envelope.to_bytes()).unwrap_err();
    }
    Envelope::read(&vec![b' '; LONGEST_ENVELOPE + 1]).unwrap_err();
}

#[test]
fn statements_that_no_builder_makes_are_refused() {
    let good = Statement::new(&subject(), "ci", TIME);
    assert_eq!(Statement::read(&good.to_bytes()).unwrap(), good);
    let text = String::from_utf8(good.to_bytes()).unwrap();
    for (from, to) in [
        ("{", r#"{"more":1,"#),
        ("{", r#"{"kind":"definition","#),
        ("{", r#"{"version":1,"#),
        (r#""builder":"ci""#, r#""builder":"""#),
        (r#""builder":"ci""#, r#""builder":"a\u001b[2J""#),
        ("sha256:", "sha512:"),
        (r#","time":1796000000"#, ""),
        (r#""time":1796000000"#, r#""time":1.5"#),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed, "{from}");
        Statement::read(changed.as_bytes()).unwrap_err();
    }
    let newer = text.replacen(r#""version":1"#, r#""version":2,"more":[]"#, 1);
    let error = Statement::read(newer.as_bytes()).unwrap_err();
    assert!(matches!(error, StatementError::Version(2)), "{error}");
}

#[test]
fn names_need_no_quoting() {
    for name in ["ci", "org/repo@main", "a.b-c_d:e"] {
        assert!(is_name(name), "{name}");
    }
    let long = "a".repeat(101);
    for name in ["", "a b", "a,b", "a+b", "é", "a\n", long.as_str()] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    // openssl genpkey -algorithm ed25519; openssl pkey -pubout
    let private = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
                   -----END PRIVATE KEY-----\n";
    let made = NewKey::of_seed([7; 32]).unwrap();
    assert_eq!(made.private.reveal(), private.as_bytes());
    let mut keys = KeyRing::default();
    let two = format!(
        "first:\n{}\n{}",
        made.public,
        NewKey::of_seed([8; 32]).unwrap().public
    );
    keys.add_pem(&two).unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.get(&made.id).is_some());

    let now = || -> Now { Arc::new(|| TIME) };
    let secret = |text: &str| SecretValue::new(text.as_bytes().to_vec());
    let error = |text: &str, name: &str| Signer::of_pem(&secret(text), name, now()).unwrap_err();
    assert_eq!(error("no key", "ci"), KeyError::Private);
    assert_eq!(error(&made.public, "ci"), KeyError::Private);
    assert_eq!(error(private, "a b"), KeyError::Name);
    for text in ["", "no key", private, "-----BEGIN PUBLIC KEY-----\nMC4"] {
        assert_eq!(
            KeyRing::default().add_pem(text),
            Err(KeyError::Public),
            "{text}"
        );
    }
    let weak = ed25519_dalek::VerifyingKey::from_bytes(&{
        let mut identity = [0; 32];
        identity[0] = 1;
        identity
    });
    assert_eq!(KeyRing::default().add(weak.unwrap()), Err(KeyError::Weak));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(Envelope::read(&bytes));
        drop(Statement::read(&bytes));
    }

    /// Whatever is changed, it is refused or still says the same.
    #[test]
    fn no_change_makes_another_result_good(at in 0usize..2000, byte in any::<u8>()) {
        let ours = signer(1, "ci");
        let mut bytes = ours.sign(&subject());
        let at = at % bytes.len();
        bytes[at] = byte;
        let trust = trusting(&[&ours]);
        let _same = check(&trust, &subject(), &bytes);
        let other = Subject { record: BlobDigest::of(b"evil"), ..subject() };
        prop_assert!(check(&trust, &other, &bytes).is_err());
    }

    #[test]
    fn envelopes_are_read_back(payload in prop::collection::vec(any::<u8>(), 0..500)) {
        let good = Envelope::read(&signer(1, "ci").sign(&subject())).unwrap();
        let envelope = Envelope { payload, ..good };
        prop_assert_eq!(Envelope::read(&envelope.to_bytes()).unwrap(), envelope);
    }
}
