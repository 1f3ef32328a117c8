use ashlar_model::secret::SecretValue;
use proptest::prelude::*;

use super::*;

fn secrets() -> Secrets {
    let value = |text: &str| SecretValue::new(text.as_bytes().to_vec());
    Secrets {
        secrets: [
            ("npm".to_owned(), value("hunter2")),
            ("empty".to_owned(), value("")),
        ]
        .into(),
        agents: vec!["default".to_owned()],
        logins: [("registry.example:5000".to_owned(), value("me:pass:word"))].into(),
    }
}

#[test]
fn each_recipient_opens_what_was_sealed() {
    let keys = [(); 3].map(|()| FarmKey::generate().unwrap());
    let recipients = keys.each_ref().map(FarmKey::recipient);
    let sealed = seal(&secrets(), "build-1", &recipients).unwrap();
    for key in &keys {
        assert_eq!(open(&sealed, "build-1", key).unwrap(), secrets());
    }
    let stranger = FarmKey::generate().unwrap();
    assert!(matches!(
        open(&sealed, "build-1", &stranger),
        Err(SealError::NotForUs)
    ));
    assert!(matches!(
        seal(&secrets(), "build-1", &[]),
        Err(SealError::NoRecipient)
    ));
}

#[test]
fn nothing_of_it_shows() {
    let key = FarmKey::generate().unwrap();
    let sealed = seal(&secrets(), "build-1", &[key.recipient()]).unwrap();
    for word in ["hunter2", "npm", "pass:word", "registry.example", "default"] {
        let word = word.as_bytes();
        assert!(!sealed.windows(word.len()).any(|bytes| bytes == word));
    }
    let again = seal(&secrets(), "build-1", &[key.recipient()]).unwrap();
    assert_ne!(sealed, again);
    assert!(!format!("{key:?} {:?}", secrets()).contains("hunter2"));
}

#[test]
fn another_builds_secrets_are_refused() {
    let key = FarmKey::generate().unwrap();
    let sealed = seal(&secrets(), "build-1", &[key.recipient()]).unwrap();
    for build in ["build-2", "", "build-1 "] {
        let opened = open(&sealed, build, &key);
        assert!(matches!(opened, Err(SealError::Broken)), "{build}");
    }
}

#[test]
fn parts_of_two_cannot_be_put_together() {
    let key = FarmKey::generate().unwrap();
    let seal = |build| {
        let sealed = seal(&secrets(), build, &[key.recipient()]).unwrap();
        postcard::from_bytes::<Sealed>(&sealed).unwrap()
    };
    let (one, two) = (seal("build-1"), seal("build-1"));
    let mixed = Sealed {
        version: VERSION,
        body: one.body,
        wraps: two.wraps,
    };
    let mixed = postcard::to_stdvec(&mixed).unwrap();
    assert!(matches!(
        open(&mixed, "build-1", &key),
        Err(SealError::Broken)
    ));
}

#[test]
fn changes_are_noticed() {
    let key = FarmKey::generate().unwrap();
    let sealed = seal(&secrets(), "b", &[key.recipient()]).unwrap();
    for place in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[place] ^= 0x10;
        open(&changed, "b", &key).unwrap_err();
        open(&sealed[..place], "b", &key).unwrap_err();
    }
    open(&[&*sealed, b"x"].concat(), "b", &key).unwrap_err();
}

#[test]
fn there_is_a_limit() {
    let key = FarmKey::generate().unwrap();
    let mut secrets = secrets();
    let large = SecretValue::new(vec![0; MOST_BYTES]);
    secrets.secrets.insert("large".to_owned(), large);
    let sealed = seal(&secrets, "b", &[key.recipient()]);
    assert!(matches!(sealed, Err(SealError::TooLarge)));
}

#[test]
fn keys_are_read_as_they_are_written() {
    let key = FarmKey::generate().unwrap();
    let public = key.recipient().to_string();
    assert!(Recipient::is_written(&public));
    assert_eq!(format!(" {public}\n").parse(), Ok(key.recipient()));
    let text = key.to_text();
    let read = FarmKey::parse(&text).unwrap();
    assert_eq!(read.recipient(), key.recipient());
    let private = std::str::from_utf8(text.reveal()).unwrap();
    assert_eq!(private.parse::<Recipient>(), Err(KeyError::Secret));
    let public = SecretValue::new(public.into_bytes());
    assert_eq!(FarmKey::parse(&public).unwrap_err(), KeyError::Private);
    for wrong in [
        "",
        "ashlar-farm-key-v1-",
        "ashlar-farm-key-v1-AAAA",
        "age1xyz",
    ] {
        assert_eq!(wrong.parse::<Recipient>(), Err(KeyError::Public), "{wrong}");
    }
}

/// A key with which everybody knows the shared secret.
#[test]
fn keys_of_no_order_are_refused() {
    let zero: Recipient = Recipient::from_bytes([0; 32]).unwrap();
    assert!(matches!(
        seal(&secrets(), "b", &[zero]),
        Err(SealError::Broken)
    ));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let key = FarmKey::from_bytes(&[7; 32]).unwrap();
        open(&bytes, "b", &key).unwrap_err();
    }
}
