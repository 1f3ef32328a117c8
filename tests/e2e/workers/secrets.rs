//! Secrets, agents and logins on their way to a worker.

use std::fs;
use std::path::Path;

use ashlar_test_support::bases;
use ashlar_test_support::skip::skip;

use super::Site;
use crate::instructions::run_secrets::{ASK, agent};

const SECRET: &str = "correct-horse-battery-staple-4711";

#[test]
fn a_secret_reaches_the_step_and_nothing_else() {
    let site = Site::local(1);
    let client = site.client();
    let busybox = bases::busybox().reference();
    client.context.dockerfile(&format!(
        "FROM {busybox}\nRUN --mount=type=secret,id=key,required=true wc -c < /run/secrets/key > /length\n"
    ));
    let file = client.home.path("key");
    client.home.file(&file, SECRET);
    let secret = format!("id=key,src={}", file.display());
    let (_, output) = client.image(&["--secret", &secret]);
    output.stderr_lacks(SECRET);
    // Not in the CAS, the queue, the logs, or what workers keep.
    assert!(!site.server.log().contains(SECRET));
    assert!(!site.workers[0].log().contains(SECRET));
    for place in [site.server.root(), site.workers[0].root()] {
        assert_eq!(holding(&place, SECRET.as_bytes()), Vec::<String>::new());
    }
    site.end();
}

/// Files that hold some bytes.
pub(super) fn holding(place: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(place) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            found.extend(holding(&path, bytes));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_step_speaks_to_the_clients_agent() {
    let test = "workers::secrets::a_step_speaks_to_the_clients_agent";
    let Some(base) = bases::debian() else {
        skip(test, "there is no Debian base, whose perl can ask an agent");
        return;
    };
    let site = Site::local(1);
    let client = site.client();
    let socket = client.home.path("agent");
    agent(&socket, client.home.user());
    client
        .context
        .dockerfile(
            &base.dockerfile("COPY ask /ask\nRUN --mount=type=ssh,required=true perl /ask\n"),
        )
        .file("ask", ASK);
    let option = format!("default={}", socket.display());
    let output = client.build(&["--ssh", &option]).run();
    let log = site.workers[0].log();
    assert_eq!(
        output.code(),
        Some(0),
        "{output}\n{log}\n{}",
        site.server.log()
    );
    // The identities, of which there are none; and an order, which is refused.
    output.stderr_has("0c00000000").stderr_has(" 05");
    site.end();
}
