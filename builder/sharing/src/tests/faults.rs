//! The cache never fails a build: what goes wrong is told once, and costs seconds at most.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::fakes::Mood;
use super::*;

const READ_WRITE: Mode = Mode::ReadWrite;
/// What a build may lose on a cache in all.
const EXTRA: Duration = Duration::from_secs(8);

/// A server with the result `x`, and the machine that made it.
async fn filled(server: &Arc<Server>) -> Machine {
    let a = Machine::new(&[(server, READ_WRITE)]);
    let layer = a.make(&tar(&[("x", 700_000)], 1));
    a.publish(result("x", &[layer])).await;
    a
}

/// All that a build does with a cache.
async fn build(machine: &Machine) {
    for round in 0..10 {
        let found = machine.look_up(&["x", "y"]).await;
        if let Some(stack) = found.into_iter().flatten().next() {
            machine.fetch(&stack[0]).await;
        }
        machine.sharing.by_content(&content_key("x")).await;
        let name = format!("made {round}");
        let leave = machine.sharing.leave(&key(&name), &name, &|_| {}).await;
        let layer = machine.make(&tar(&[(name.as_str(), 10_000)], 1));
        let lease = match leave {
            ashlar_engine::share::Leave::Run(lease) => lease,
            ashlar_engine::share::Leave::Made => panic!("nobody made it"),
        };
        machine.sharing.publish(result(&name, &[layer]), lease);
    }
    machine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_is_told_once_and_soon_over() {
    for (mood, told) in [
        (Mood::Gone, "does not answer"),
        (Mood::Silent, "does not answer"),
        (Mood::Full, "is full"),
        (Mood::ReadOnly, "refuses to be written"),
        (Mood::Closed, "refuses to be read"),
        (Mood::Lying, "sends what is wrong"),
        (Mood::Broken, "has failed"),
    ] {
        let server = Server::new("grpc://c:1");
        filled(&server).await;
        server.set(mood);
        let b = Machine::new(&[(&server, READ_WRITE)]);
        let begin = Instant::now();
        build(&b).await;
        assert!(begin.elapsed() < EXTRA, "{mood:?}: {:?}", begin.elapsed());
        let warnings = b.warnings();
        assert_eq!(warnings.len(), 1, "{mood:?}: {warnings:?}");
        assert!(warnings[0].contains(told), "{mood:?}: {warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_dies_midway_is_left_alone() {
    let server = Server::new("grpc://c:1");
    filled(&server).await;
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let stack = b.look_up(&["x"]).await.remove(0).unwrap();
    server.set(Mood::Gone);
    let begin = Instant::now();
    assert_eq!(b.fetch(&stack[0]).await, None);
    build(&b).await;
    assert!(begin.elapsed() < EXTRA);
    assert_eq!(b.warnings().len(), 1, "{:?}", b.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_gone_after_a_hit_is_told_and_heals() {
    let server = Server::new("grpc://c:1");
    let a = filled(&server).await;
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let stack = b.look_up(&["x"]).await.remove(0).unwrap();
    server.lose_large(20_000);
    assert_eq!(b.fetch(&stack[0]).await, None);
    assert_eq!(b.warnings().len(), 1, "{:?}", b.warnings());
    assert!(
        b.warnings()[0].contains("lacks blobs"),
        "{:?}",
        b.warnings()
    );

    // The step runs again, and its result takes the place of the old one.
    b.sharing.distrust(&stack);
    let bytes = tar(&[("x", 700_000)], 2);
    let layer = b.make(&bytes);
    b.publish(result("x", &[layer])).await;
    let c = Machine::new(&[(&server, READ_WRITE)]);
    let stack = c.look_up(&["x"]).await.remove(0).unwrap();
    assert_eq!(c.fetch(&stack[0]).await, Some(bytes));
    drop(a);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_never_a_layer() {
    let server = Server::new("grpc://c:1");
    filled(&server).await;
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let stack = b.look_up(&["x"]).await.remove(0).unwrap();
    server.set(Mood::Lying);
    assert_eq!(b.fetch(&stack[0]).await, None);
    assert!(b.warnings()[0].contains("wrong"), "{:?}", b.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cache_stands_in_for_one_that_fails() {
    let (near, far) = (Server::new("grpc://near:1"), Server::plain("grpc://far:1"));
    let both = [(&near, READ_WRITE), (&far, READ_WRITE)];
    let a = Machine::new(&both);
    let bytes = tar(&[("x", 700_000)], 1);
    let layer = a.make(&bytes);
    a.publish(result("x", &[layer])).await;
    let b = Machine::new(&both);
    // Known to be in both.
    b.look_up(&["x"]).await;
    let b = b.again(&[(&far, READ_WRITE)]);
    let stack = b.look_up(&["x"]).await.remove(0).unwrap();
    let b = b.again(&both);
    assert_eq!(b.copies(&stack[0]).len(), 2);
    for mood in [Mood::Gone, Mood::Lying] {
        near.set(mood);
        far.set(Mood::Well);
        drop(std::fs::remove_file(b.home.tar_path(&stack[0])));
        assert_eq!(b.fetch(&stack[0]).await.as_ref(), Some(&bytes), "{mood:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn distrusted_layers_are_not_found_any_more() {
    let server = Server::new("grpc://c:1");
    filled(&server).await;
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let stack = b.look_up(&["x"]).await.remove(0).unwrap();
    b.sharing.distrust(&stack);
    assert_eq!(b.look_up(&["x"]).await, [None]);
    assert!(b.sharing.by_content(&content_key("x")).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_cannot_be_read_here_fails_no_other() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let bad = a.make(&tar(&[("bad", 1000)], 1));
    std::fs::remove_file(a.home.tar_path(&bad)).unwrap();
    let good = a.make(&tar(&[("good", 1000)], 1));
    a.sharing.publish(result("bad", &[bad]), None);
    a.sharing.publish(result("good", &[good]), None);
    a.finish().await;
    let progress = a.sharing.progress();
    assert_eq!(
        (progress.results, progress.done, progress.failed),
        (2, 2, 1)
    );
    assert_eq!(a.warnings().len(), 1);
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let found = b.look_up(&["bad", "good"]).await;
    assert!(found[0].is_none() && found[1].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_one_layer_lost_learns_of_all() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let tars = ["x", "y", "z"].map(|name| tar(&[(name, 700_000)], 1));
    let layers = [0, 1, 2].map(|at| a.make(&tars[at]));
    a.publish(result("x", &layers[..1])).await;
    a.publish(result("y", &layers[..2])).await;
    a.publish(result("z", &layers)).await;
    // An index that vouches for what is gone, but for the last layer.
    server.vouches.store(true, Ordering::SeqCst);
    server.lose_large(20_000);
    let sound = a.chunks_of(&layers[2]).await;
    server.find(&sound);

    let b = Machine::new(&[(&server, READ_WRITE)]);
    let stack = b.look_up(&["z"]).await.remove(0).unwrap();
    assert_eq!(b.fetch(&stack[1]).await, None);
    let mut lost = b.sharing.lost(&stack).await;
    lost.sort();
    let mut expected = stack[..2].to_vec();
    expected.sort();
    assert_eq!(lost, expected);
    assert!(b.fetch(&stack[2]).await.is_some());
    assert_eq!(b.sharing.lost(&stack[2..]).await, []);
    assert_eq!(b.warnings().len(), 1, "{:?}", b.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_a_lost_layer_is_not_sent_and_told_once() {
    let server = Server::new("grpc://c:1");
    filled(&server).await;
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let stack = b.look_up(&["x"]).await.remove(0).unwrap();
    server.lose_large(20_000);
    // Sent before the build learns that a layer below is lost, and after.
    let top = b.make(&tar(&[("top", 10_000)], 1));
    let old = result("top", &[stack[0], top]);
    b.sharing.publish(old.clone(), None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    b.sharing.distrust(&stack);
    b.sharing.publish(old, None);
    let bytes = tar(&[("x", 700_000)], 2);
    let anew = b.make(&bytes);
    b.sharing.publish(result("x", &[anew]), None);
    b.sharing.publish(result("top", &[anew, top]), None);
    b.finish().await;
    let warnings = b.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("lacks blobs"), "{warnings:?}");
    assert_eq!(b.sharing.progress().failed, 0);

    let c = Machine::new(&[(&server, READ_WRITE)]);
    let stack = c.look_up(&["top"]).await.remove(0).unwrap();
    assert_eq!(c.fetch(&stack[0]).await, Some(bytes));
    assert!(c.fetch(&stack[1]).await.is_some());
    assert!(c.warnings().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_the_place_of_a_loss_sends_no_layer_that_is_whole() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let below = a.make(&tar(&[("below", 900_000)], 1));
    a.publish(result("below", &[below])).await;
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let stack = b.look_up(&["below"]).await.remove(0).unwrap();
    b.sharing.distrust(&[b.make(&tar(&[("lost", 10)], 1))]);
    let top = b.make(&tar(&[("top", 10_000)], 1));
    server.traffic();
    b.publish(result("top", &[stack[0], top])).await;
    let [_, read, _, written] = server.traffic();
    assert!(read < 100_000 && written < 100_000, "{read} {written}");
    assert!(b.warnings().is_empty(), "{:?}", b.warnings());
    let c = Machine::new(&[(&server, READ_WRITE)]);
    assert!(c.look_up(&["top"]).await[0].is_some());
}
