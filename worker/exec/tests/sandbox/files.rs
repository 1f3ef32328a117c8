//! Requests to the file worker.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use ashlar_exec::sandbox::CallError;

use crate::rig::{ALL, MANY, ONE, Rig, owner};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(ALL, files::requests_are_answered_many_at_once),
    test!(MANY, files::files_can_be_given_to_other_users),
    test!(
        ONE,
        files::files_cannot_be_given_to_other_users_in_one_uid_mode
    ),
    test!(ALL, files::a_handler_that_panics_fails_its_request_only),
];

/// What the file worker of the tests does: a word, then its argument. What begins with no letter is
/// of an executor.
pub(crate) fn handle(request: Vec<u8>) -> Vec<u8> {
    if !request.first().is_some_and(u8::is_ascii_lowercase) {
        return ashlar_exec::executor::request::serve(request);
    }
    let request = String::from_utf8(request).unwrap();
    let (word, rest) = request.split_once(' ').unwrap_or((&request, ""));
    let result = match word {
        "echo" => return rest.as_bytes().to_vec(),
        "wait" => {
            std::thread::sleep(Duration::from_millis(rest.parse().unwrap()));
            Ok(())
        }
        "remove" => match fs::remove_dir_all(rest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        },
        "chown" => {
            let (id, path) = rest.split_once(' ').unwrap();
            let id = Some(id.parse().unwrap());
            chown(path, id, id)
        }
        "owner" => return format!("{:?}", owner(Path::new(rest))).into_bytes(),
        _ => panic!("what is {word}?"),
    };
    match result {
        Ok(()) => b"done".to_vec(),
        Err(error) => error.to_string().into_bytes(),
    }
}

pub(crate) fn requests_are_answered_many_at_once(rig: &Rig) {
    let started = Instant::now();
    rig.runtime.block_on(async {
        let long = "x".repeat(1 << 20);
        let slow = (0..8).map(|_| rig.helper.call(b"wait 300"));
        let echo = format!("echo {long}");
        let (slow, echoed) = tokio::join!(join_all(slow), rig.helper.call(echo.as_bytes()));
        assert!(slow.into_iter().all(|answer| answer.unwrap() == b"done"));
        assert_eq!(echoed.unwrap(), long.as_bytes());
    });
    let took = started.elapsed();
    assert!(took < Duration::from_millis(8 * 300), "{took:?}");
}

async fn join_all<F: Future<Output = T>, T>(futures: impl Iterator<Item = F>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    let mut results = Vec::new();
    // Polls all at every turn: good enough for a handful.
    std::future::poll_fn(|context| {
        pinned.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pinned.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
}

pub(crate) fn files_can_be_given_to_other_users(rig: &Rig) {
    let layer = rig.layer_with("owned", &[("file", "text")]);
    let file = layer.join("file");
    assert_eq!(rig.call(&format!("chown 33 {}", file.display())), "done");
    assert_eq!(rig.call(&format!("owner {}", file.display())), "(33, 33)");
    let map = rig.helper.id_map();
    let (user, group) = owner(&file);
    assert_eq!(
        (map.user_to_host(33), map.group_to_host(33)),
        (Some(user), Some(group))
    );
    assert_eq!(
        (map.user_from_host(user), map.group_from_host(group)),
        (Some(33), Some(33))
    );
}

pub(crate) fn files_cannot_be_given_to_other_users_in_one_uid_mode(rig: &Rig) {
    let layer = rig.layer_with("owned", &[("file", "text")]);
    let answer = rig.call(&format!("chown 33 {}", layer.join("file").display()));
    assert!(answer.contains("Invalid argument"), "{answer}");
    let hint = rig.helper.id_map().missing_ids_hint().unwrap();
    assert!(
        hint.contains("/etc/subuid has no line for user ashlar-one"),
        "{hint}"
    );
    assert!(hint.contains("usermod --add-subuids"), "{hint}");
}

pub(crate) fn a_handler_that_panics_fails_its_request_only(rig: &Rig) {
    let error = rig
        .runtime
        .block_on(rig.helper.call(b"nonsense"))
        .unwrap_err();
    assert!(
        matches!(&error, CallError::Panicked { message } if message == "what is nonsense?"),
        "{error}"
    );
    assert_eq!(rig.call("echo still here"), "still here");
}
