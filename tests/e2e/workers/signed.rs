//! Workers that sign what they make, for clients that take nothing else.

use std::fs;
use std::path::PathBuf;

use ashlar_test_support::worker::Worker;

use super::{Client, Site, local_digest, simple};

/// A key pair in a client's directory; gives the private key's text and the public key's file.
fn keygen(client: &Client, name: &str) -> (Vec<u8>, PathBuf) {
    let path = client.home.path(&format!("{name}.pem"));
    let command = client.home.ashlar(["cache", "keygen", "--name", name]);
    command.arg(&path).run().success();
    let private = fs::read(&path).expect("the private key");
    (private, path.with_extension("pem.pub"))
}

/// A worker that signs with a key, and lets steps stand on what its like have signed.
fn signing(site: &Site, private: &[u8], public: &[u8]) -> Worker {
    let worker = site.worker(&[]);
    let private = worker.file("sign.pem", private);
    let public = worker.file("trust.pub", public);
    let trust = format!("signed={}", public.display());
    worker
        .with(["--cache-sign".into(), private.into_os_string()])
        .with(["--cache-trust", &trust])
        .started()
}

#[test]
fn a_client_that_demands_signatures_builds_with_workers_that_sign() {
    let mut site = Site::local(0);
    let client = site.client();
    let (private, public) = keygen(&client, "farm");
    let public_text = fs::read(&public).expect("the public key");
    for _ in 0..2 {
        let worker = signing(&site, &private, &public_text);
        site.workers.push(worker);
    }
    simple(&client.context);
    let trust = format!("signed={},signer=farm", public.display());
    let (digest, output) = client.image(&["--cache-trust", &trust]);
    assert_eq!(digest, local_digest(simple), "{output}");
    // Whoever trusts another key is told, and has no image.
    let other = site.client();
    let (_, strange) = keygen(&other, "strange");
    simple(&other.context);
    let trust = format!("signed={}", strange.display());
    let layout = other.layout_option();
    let refused = other.build(&["-o", &layout, "--cache-trust", &trust]).run();
    refused.exit_code(3);
    let told = refused.stderr();
    assert!(told.contains("its result is not taken"), "{refused}");
    assert!(!other.layout_path().exists(), "{refused}");
    site.end();
}

#[test]
fn a_client_that_demands_signatures_is_told_of_workers_that_do_not_sign() {
    let site = Site::local(1);
    let client = site.client();
    let (_, public) = keygen(&client, "farm");
    simple(&client.context);
    let trust = format!("signed={}", public.display());
    let layout = client.layout_option();
    let refused = client
        .build(&["-o", &layout, "--cache-trust", &trust])
        .run();
    refused.exit_code(3);
    let told = refused.stderr();
    assert!(told.contains("its result is not taken"), "{refused}");
    assert!(told.contains("--cache-sign"), "{refused}");
    site.end();
}
