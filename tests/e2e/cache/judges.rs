//! Foreign servers and clients of the Remote Execution API.

use std::fs;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::reapi::{Bazel, Casd, Client};
use ashlar_test_support::user::TestUser;
use ashlar_test_support::wire::Wire;

use super::{EVERYTHING, MEGABYTE, Machine, branches, no_warning, noise};

#[test]
fn buildbox_casd_is_a_cache_as_good_as_ours() {
    let Some(casd) = Casd::server("buildbox_casd_is_a_cache_as_good_as_ours") else {
        return;
    };
    let first = Machine::first(&casd.url());
    let (digest, output) = first.image(&[]);
    no_warning(&output).progress().assert_ran(&EVERYTHING);
    assert!(casd.blobs().len() > 50, "the chunks are blobs of its own");

    let second = Machine::second(&casd.url());
    let (same, output) = second.image(&[]);
    no_warning(&output).progress().assert_ran(&[]);
    assert_eq!(same, digest);

    let third = Machine::second(&casd.url());
    third.context.file("small", "SMALL\n");
    let output = third.output(&[]);
    no_warning(&output)
        .progress()
        .assert_ran(&["COPY small", "RUN cat /small"]);
}

#[test]
fn what_buildbox_casd_has_lost_is_made_again() {
    let Some(casd) = Casd::server("what_buildbox_casd_has_lost_is_made_again") else {
        return;
    };
    Machine::first(&casd.url()).build(&[]);
    let lost = casd
        .blobs()
        .into_iter()
        .filter(|blob| fs::metadata(blob).unwrap().len() > 30_000);
    for blob in lost {
        fs::remove_file(blob).unwrap();
    }
    let second = Machine::second(&casd.url());
    let tree = second
        .home
        .build_tree(&second.context, &["--cache", &casd.url()]);
    tree.at("light").has_content(noise(2, 2 * MEGABYTE));
    second.home.assert_clean();
}

#[test]
fn buildbox_casd_may_stand_before_our_server() {
    let test = "buildbox_casd_may_stand_before_our_server";
    let server = CacheServer::start();
    let Some(casd) = Casd::proxy_of(test, server.port()) else {
        return;
    };
    let first = Machine::first(&casd.url());
    let (digest, output) = first.image(&[]);
    no_warning(&output).progress().assert_ran(&EVERYTHING);
    drop(casd);

    // A proxy that has nothing: all that it answers comes from our server.
    let Some(casd) = Casd::proxy_of(test, server.port()) else {
        return;
    };
    let second = Machine::second(&casd.url());
    let (same, output) = second.image(&[]);
    no_warning(&output).progress().assert_ran(&[]);
    assert_eq!(same, digest);
}

#[test]
fn bazel_has_hits_on_its_second_machine() {
    let test = "bazel_has_hits_on_its_second_machine";
    let server = CacheServer::start();
    let (Some(first), Some(second)) = (Bazel::new(test), Bazel::new(test)) else {
        return;
    };
    for machine in [&first, &second] {
        machine.file(
            "BUILD",
            "genrule(name = 'small', outs = ['small.txt'], cmd = 'echo $$$$ > $@')\n\
             genrule(name = 'large', srcs = ['small.txt'], outs = ['large.bin'],\n    \
             cmd = 'head -c 12000000 /dev/urandom > $@; cat $(SRCS) >> $@')\n\
             genrule(name = 'sum', srcs = ['large.bin'], outs = ['sum.txt'],\n    \
             cmd = 'sha256sum < $(SRCS) > $@')\n",
        );
    }
    let run = first.build("//:sum", server.port(), &[]);
    assert_eq!((run.ran(), run.hits()), (3, 0), "{}", run.output());
    let run = second.build("//:sum", server.port(), &[]);
    assert_eq!((run.ran(), run.hits()), (0, 3), "{}", run.output());
    for file in ["small.txt", "large.bin", "sum.txt"] {
        assert!(first.built(file) == second.built(file), "{file} differs");
    }
    // Ours and Bazel's live in one server.
    let machine = Machine::new(TestUser::Sub, "context", &[&server.url()]);
    branches(&machine.context);
    no_warning(&machine.output(&[]));
}

/// What is too long for one message goes in pieces, and only those that the server lacks.
#[test]
fn buildbox_casd_sends_and_fetches_large_blobs_in_chunks() {
    let test = "buildbox_casd_sends_and_fetches_large_blobs_in_chunks";
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    let Some(casd) = Casd::proxy_of(test, wire.port()) else {
        return;
    };
    let own = Client::of_instance(&casd.url(), Casd::LOCAL);
    let mut bytes = noise(77, 20 * MEGABYTE);
    let send = |bytes: &[u8]| {
        let blob = CasDigest::of(DigestFunction::Sha256, bytes);
        own.write(&blob, bytes.to_vec().into());
        wire.forget();
        own.upload_missing(&blob);
        blob
    };
    send(&bytes);
    assert!(wire.passed().up > 19 * MEGABYTE, "{:?}", wire.passed());
    bytes.splice(9_000_000..9_000_000, *b"some more");
    let blob = send(&bytes);
    assert!(
        wire.passed().up < 5 * MEGABYTE,
        "all of it was sent again: {:?}",
        wire.passed()
    );

    // Our server gives the whole, and another proxy puts it together.
    let whole = Client::connect(&server.url()).read(&blob);
    assert!(whole == bytes, "our server gives other bytes");
    let Some(other) = Casd::proxy_of(test, server.port()) else {
        return;
    };
    let own = Client::of_instance(&other.url(), Casd::LOCAL);
    own.fetch_missing(&blob);
    assert!(own.read(&blob) == bytes, "the proxy gives other bytes");
}
