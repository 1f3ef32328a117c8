//! What goes over the wire between two machines, and what does not.

use std::sync::atomic::Ordering;

use super::*;

const READ_WRITE: Mode = Mode::ReadWrite;

fn servers() -> [Arc<Server>; 2] {
    [Server::new("grpc://new:1"), Server::plain("grpc://old:1")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_found_on_another_machine_without_its_bytes() {
    for server in servers() {
        let a = Machine::new(&[(&server, READ_WRITE)]);
        let base = a.pulled();
        let one = a.make(&tar(&[("one", 500_000)], 1));
        let two = a.make(&tar(&[("two", 300_000)], 1));
        a.publish(result("one", &[base, one])).await;
        a.publish(result("two", &[base, one, two])).await;
        assert!(a.warnings().is_empty(), "{:?}", a.warnings());
        server.traffic();

        let b = Machine::new(&[(&server, READ_WRITE)]);
        let found = b.look_up(&["two", "one", "none"]).await;
        let stack = found[0].as_ref().unwrap();
        assert_eq!(stack.len(), 3);
        assert_eq!(found[1].as_ref().unwrap(), &stack[..2]);
        assert_eq!(found[2], None);
        let [_, read_bytes, written, _] = server.traffic();
        assert!(read_bytes < 4096 && written == 0, "{read_bytes}");

        for (there, here) in [(one, stack[1]), (two, stack[2])] {
            let theirs = a.home.layer(&there).unwrap().unwrap();
            let ours = b.home.layer(&here).unwrap().unwrap();
            assert_eq!(ours.diff_id, theirs.diff_id);
            assert_eq!(ours.content, theirs.content);
            assert_eq!(ours.created, theirs.created);
            assert_eq!(ours.blobs, theirs.blobs);
        }
        let base_here = b.home.layer(&stack[0]).unwrap();
        assert_eq!(base_here, a.home.layer(&base).unwrap());
        assert!(b.warnings().is_empty(), "{:?}", b.warnings());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_comes_bit_for_bit_when_it_is_needed() {
    for server in servers() {
        let a = Machine::new(&[(&server, READ_WRITE)]);
        let bytes = tar(
            &[("a", 3_000_000), ("b", 0), ("c", 77), ("d", 2_000_000)],
            9,
        );
        let layer = a.make(&bytes);
        a.publish(result("x", &[layer])).await;

        let b = Machine::new(&[(&server, READ_WRITE)]);
        let found = b.look_up(&["x"]).await.remove(0).unwrap();
        assert_eq!(b.fetch(&found[0]).await.as_ref(), Some(&bytes));
        assert!(b.warnings().is_empty(), "{:?}", b.warnings());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_chunks_that_differ_are_sent() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let files = [("a", 4_000_000), ("b", 4_000_000), ("c", 100_000)];
    let layer = a.make(&tar(&files, 1));
    a.publish(result("x", &[layer])).await;
    let [_, _, _, first] = server.traffic();
    assert!(first > 8_000_000);

    // Another machine, other times, one more file.
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let more = [files[0], files[1], files[2], ("d", 50_000)];
    let layer = b.make(&tar(&more, 2));
    b.publish(result("y", &[layer])).await;
    let [_, _, _, second] = server.traffic();
    assert!(second < 700_000, "{second}");
    let sent = b.sharing.progress().sent;
    assert_eq!(sent.results, 1);
    assert!(sent.bytes < 700_000 && sent.bytes > 50_000, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_build_sent_the_next_does_not_read_again() {
    for server in servers() {
        let mut a = Machine::new(&[(&server, READ_WRITE)]);
        let one = a.make(&tar(&[("one", 500_000)], 1));
        a.publish(result("one", &[one])).await;
        a = a.again(&[(&server, READ_WRITE)]);
        assert!(!a.sharing.wants(&key("one")));
        // Nobody could read it.
        std::fs::remove_file(a.home.tar_path(&one)).unwrap();
        let two = a.make(&tar(&[("two", 10_000)], 1));
        a.publish(result("two", &[one, two])).await;
        assert_eq!(a.sharing.progress().failed, 0, "{:?}", a.warnings());

        let b = Machine::new(&[(&server, READ_WRITE)]);
        assert!(b.look_up(&["two"]).await[0].is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cache_has_evicted_is_sent_again() {
    for server in servers() {
        let mut a = Machine::new(&[(&server, READ_WRITE)]);
        let one = a.make(&tar(&[("one", 900_000)], 1));
        a.publish(result("one", &[one])).await;
        assert!(server.lose_large(20_000) > 1);
        // The trees are still there, so it seems to have everything.
        a = a.again(&[(&server, READ_WRITE)]);
        let two = a.make(&tar(&[("two", 10_000)], 1));
        a.publish(result("two", &[one, two])).await;
        assert_eq!(a.sharing.progress().failed, 0, "{:?}", a.warnings());

        let b = Machine::new(&[(&server, READ_WRITE)]);
        let stack = b.look_up(&["two"]).await.remove(0).unwrap();
        assert!(b.fetch(&stack[0]).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_uses_nothing_old_replaces_what_a_cache_has() {
    for server in servers() {
        let a = Machine::new(&[(&server, READ_WRITE)]);
        let (old, new) = (tar(&[("f", 1000)], 1), tar(&[("f", 1000)], 2));
        a.publish(result("x", &[a.make(&old)])).await;
        let second = result("x", &[a.make(&new)]);
        // The first one stays, unless it is to go.
        for (replaces, found) in [(false, old), (true, new)] {
            let second = MadeResult {
                replaces,
                ..second.clone()
            };
            a.publish(second).await;
            let b = Machine::new(&[(&server, READ_WRITE)]);
            let stack = b.look_up(&["x"]).await.remove(0).unwrap();
            assert_eq!(b.fetch(&stack[0]).await, Some(found));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_away_while_a_build_runs_is_sent_again() {
    let server = Server::new("grpc://new:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let one = a.make(&tar(&[("one", 900_000)], 1));
    a.publish(result("one", &[one])).await;
    assert!(server.lose_large(20_000) > 1);
    let two = a.make(&tar(&[("two", 10_000)], 1));
    a.publish(result("two", &[one, two])).await;
    assert_eq!(a.sharing.progress().failed, 0, "{:?}", a.warnings());
    let b = Machine::new(&[(&server, READ_WRITE)]);
    assert!(b.look_up(&["two"]).await[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_layer_was_pulled_as_well_is_never_sent_as_that_of_an_image() {
    let server = Server::new("grpc://new:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let one = a.make(&tar(&[("one", 10_000)], 1));
    a.publish(result("one", &[one])).await;

    // It takes the step over, then pulls an image that has the layer.
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let shared = b.look_up(&["one"]).await.remove(0).unwrap()[0];
    let mut record = b.home.layer(&shared).unwrap().unwrap();
    for copy in b.copies(&shared) {
        b.home.note_copy(&shared, copy).unwrap();
    }
    record.origin = LayerOrigin::Image {
        repositories: Vec::new(),
    };
    b.home.put_layer(&record).unwrap();
    let two = b.make(&tar(&[("two", 10_000)], 1));
    let made = MadeResult {
        made: vec![true, true],
        ..result("two", &[shared, two])
    };
    b.publish(made).await;
    let c = Machine::new(&[(&server, READ_WRITE)]);
    let stack = c.look_up(&["two"]).await.remove(0).unwrap();
    assert!(c.fetch(&stack[0]).await.is_some());

    // One that nobody knows but from its image cannot be had by others: there is no result.
    let pulled = b.pulled();
    let three = b.make(&tar(&[("three", 10_000)], 1));
    let made = MadeResult {
        made: vec![true, true],
        ..result("three", &[pulled, three])
    };
    b.publish(made).await;
    assert_eq!(c.look_up(&["three"]).await, [None]);
    // As a base image's it can.
    let made = MadeResult {
        made: vec![false, true],
        ..result("three", &[pulled, three])
    };
    b.publish(made).await;
    assert!(c.look_up(&["three"]).await[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_found_by_what_its_inputs_contain() {
    for server in servers() {
        let a = Machine::new(&[(&server, READ_WRITE)]);
        let (one, two) = (a.make(&tar(&[("1", 10)], 1)), a.make(&tar(&[("2", 10)], 1)));
        a.publish(result("two", &[one, two])).await;
        let b = Machine::new(&[(&server, READ_WRITE)]);
        let probed = b
            .sharing
            .probe(&[key("else")], &[instruction("none"), instruction("two")])
            .await;
        assert!(probed.definitions.is_empty());
        assert_eq!(probed.instructions, [instruction("two")]);
        let found = b.sharing.by_content(&content_key("two")).await.unwrap();
        let layer = found.layer;
        let record = b.home.layer(&layer).unwrap().unwrap();
        let theirs = a.home.layer(&two).unwrap().unwrap();
        assert_eq!(record.diff_id, theirs.diff_id);
        assert!(b.sharing.by_content(&content_key("none")).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offered_results_are_sent_only_where_they_lack() {
    for server in servers() {
        let a = Machine::new(&[(&server, READ_WRITE)]);
        let one = a.make(&tar(&[("one", 100_000)], 1));
        assert!(a.sharing.wants(&key("one")));
        a.sharing.offer(result("one", &[one]));
        a.finish().await;
        assert!(!a.sharing.wants(&key("one")));
        server.traffic();

        let b = Machine::new(&[(&server, READ_WRITE)]);
        let same = b.make(&tar(&[("one", 100_000)], 1));
        assert!(b.sharing.wants(&key("one")));
        b.sharing.offer(result("one", &[same]));
        b.finish().await;
        assert!(!b.sharing.wants(&key("one")));
        assert_eq!(server.traffic(), [0; 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_connected_to_before_it_is_asked() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    assert!(a.sharing.wants(&key("one")));
    a.finish().await;
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_cache_that_has_it_is_read_and_all_are_written() {
    let (near, far) = (Server::new("grpc://near:1"), Server::plain("grpc://far:1"));
    let a = Machine::new(&[(&far, READ_WRITE)]);
    let one = a.make(&tar(&[("one", 200_000)], 1));
    a.publish(result("one", &[one])).await;
    far.traffic();

    let both = [(&near, READ_WRITE), (&far, READ_WRITE)];
    let b = Machine::new(&both);
    let stack = b.look_up(&["one"]).await.remove(0).unwrap();
    assert!(b.fetch(&stack[0]).await.is_some());
    let two = b.make(&tar(&[("two", 200_000)], 1));
    b.publish(result("two", &[stack[0], two])).await;
    let [_, _, written_far, _] = far.traffic();
    let [_, _, written_near, _] = near.traffic();
    assert!(written_far > 0 && written_near > written_far);

    // The near one has all now.
    let c = Machine::new(&both);
    let stack = c.look_up(&["two"]).await.remove(0).unwrap();
    for layer in &stack {
        assert!(c.fetch(layer).await.is_some());
    }
    assert_eq!(far.traffic(), [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_are_kept_to() {
    let server = Server::new("grpc://c:1");
    let reader = Machine::new(&[(&server, Mode::Read)]);
    let one = reader.make(&tar(&[("one", 1000)], 1));
    assert!(!reader.sharing.wants(&key("one")));
    reader.publish(result("one", &[one])).await;
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);

    let writer = Machine::new(&[(&server, Mode::Write)]);
    let one = writer.make(&tar(&[("one", 1000)], 1));
    writer.publish(result("one", &[one])).await;
    assert_eq!(writer.look_up(&["one"]).await, [None]);
    assert!(reader.look_up(&["one"]).await[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_sent_once_however_many_results_stand_on_it() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let base = a.make(&tar(&[("base", 2_000_000)], 1));
    let mut stack = vec![base];
    for number in 0..10 {
        let name = format!("step {number}");
        stack.push(a.make(&tar(&[(name.as_str(), 1000)], 1)));
        a.sharing.publish(result(&name, &stack), None);
    }
    a.finish().await;
    let [_, _, _, bytes] = server.traffic();
    assert!(bytes < 2_300_000, "{bytes}");
    let b = Machine::new(&[(&server, READ_WRITE)]);
    assert_eq!(b.look_up(&["step 9"]).await.remove(0).unwrap().len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_layers_pass_through_little_memory_and_many_batches() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let bytes = tar(&[("large", 60_000_000)], 1);
    let layer = a.make(&bytes);
    a.publish(result("x", &[layer])).await;
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let found = b.look_up(&["x"]).await.remove(0).unwrap();
    assert!(b.fetch(&found[0]).await.unwrap() == bytes);
}
