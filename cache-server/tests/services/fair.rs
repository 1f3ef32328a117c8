//! What one namespace takes is not taken from the others.

use ashlar_proto::retry;
use ashlar_proto::wire::bytestream;
use tonic::{Code, Status};

use crate::teams::{Caller, PULL, Teams, blob_of, result_with};

#[tokio::test]
async fn a_namespace_holds_no_more_than_it_may() {
    let teams = Teams::with("[[namespace]]\nname = 'acme/web/pr/*'\nlimit = '10KB'").await;
    let (pull, main) = (teams.caller("pull").await, teams.caller("main").await);
    let first = pull.upload(&[1; 8000]).await;
    let (second, bytes) = (blob_of(&[2; 4000]), [2; 4000]);
    let told = "`acme/web/pr/17` may hold 10240 bytes here and holds 8000: 4000 more do not fit";
    for refused in [
        pull.upload_as(&second, &bytes).await.expect_err("refused"),
        pull.stream_as(&second, &bytes)
            .await
            .map(drop)
            .expect_err("refused"),
        // Another name below is the same holder.
        pull.at("acme/web/pr/17/x")
            .upload_as(&second, &bytes)
            .await
            .expect_err("refused"),
    ] {
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::ResourceExhausted, told)
        );
    }
    // What it holds it can read, and send again; results are stored.
    assert_eq!(pull.read(&first).await.expect("read").len(), 8000);
    pull.upload_as(&first, &[1; 8000])
        .await
        .expect("held already");
    pull.update("a", result_with("f", &first))
        .await
        .expect("written");
    // Others have room of their own, also for a blob that this one could not store.
    main.upload_as(&second, &bytes).await.expect("uploaded");
    assert_eq!(pull.missing(&[second]).await.expect("answered"), [second]);
}

fn wait(status: &Status) -> std::time::Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("try again in"), "{status:?}");
    retry::decode(status.details()).expect("a time to wait")
}

#[tokio::test]
async fn a_namespace_asks_no_faster_than_it_may() {
    let teams = Teams::with("[[namespace]]\nname = 'acme/web/pr/*'\nrequests = 2").await;
    let (pull, other) = (teams.caller("pull").await, teams.caller("othe").await);
    let blob = blob_of(b"any");
    let mut refused = None;
    // Far more than can be let in while this runs, however slowly.
    for _ in 0..100_000 {
        if let Err(status) = pull.missing(&[blob]).await {
            refused = Some(status);
            break;
        }
    }
    let wait = wait(&refused.expect("too fast"));
    assert!(!wait.is_zero() && wait.as_secs() < 2, "{wait:?}");
    // A name below is no way around it, and others are not concerned.
    let mut below = Ok(());
    for number in 0..100_000 {
        let caller = pull.at(&format!("{PULL}/{number}"));
        below = caller.get("a").await.map(drop);
        if matches!(&below, Err(status) if status.code() != Code::NotFound) {
            break;
        }
    }
    let below = below.expect_err("too fast");
    assert_eq!(below.code(), Code::ResourceExhausted);
    for _ in 0..50 {
        other.missing(&[blob]).await.expect("let in");
    }
}

async fn drained(caller: &Caller, resource_name: String) -> Result<usize, Status> {
    let request = bytestream::ReadRequest {
        resource_name,
        ..Default::default()
    };
    let mut pieces = caller.bytes().read(request).await?.into_inner();
    let mut bytes = 0;
    while let Some(piece) = pieces.message().await? {
        bytes += piece.data.len();
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_namespace_moves_no_more_bytes_than_it_may_but_no_stream_breaks_off() {
    let teams = Teams::with("[[namespace]]\nname = 'acme/web/pr/*'\nbytes = '1KB'").await;
    let (pull, other) = (teams.caller("pull").await, teams.caller("othe").await);
    let bytes = vec![3; 2_000_000];
    // Half an hour's worth in one go: it passes as a whole, and is paid for.
    let blob = pull.upload(&bytes).await;
    let refused = pull.read(&blob).await.expect_err("too much");
    assert!(wait(&refused).as_secs() > 1000);
    let name = format!(
        "{PULL}/blobs/blake3/{}/{}",
        hex::encode(blob.hash),
        blob.size
    );
    let refused = drained(&pull, name.clone()).await.expect_err("too much");
    assert!(wait(&refused).as_secs() > 1000);
    let refused = pull
        .stream_as(&blob_of(b"x"), b"x")
        .await
        .expect_err("too much");
    assert!(wait(&refused).as_secs() > 1000);
    let refused = pull
        .update("a", result_with("f", &blob))
        .await
        .expect_err("too much");
    assert!(wait(&refused).as_secs() > 1000);
    // Questions that move nothing are answered.
    assert_eq!(pull.missing(&[blob]).await.expect("answered"), []);
    let blob = other.upload(&bytes).await;
    assert_eq!(
        other.read_stream(&blob).await.expect("read").len(),
        2_000_000
    );
}
