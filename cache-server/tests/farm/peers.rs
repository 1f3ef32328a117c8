//! Servers that share what they have near.

use ashlar_model::secret::SecretValue;
use ashlar_store::grpc::{GrpcEndpoint, GrpcSettings};
use ashlar_store::{BlobStore as _, FaultKind};
use ashlar_test_support::registry::free_port;

use crate::server::{Server, Stores, blob, file, read, write};

const TOKEN: &str = "a-token-of-servers";

/// Three servers that know each other.
struct Three {
    servers: Vec<Server>,
    ports: [u16; 3],
    _directory: tempfile::TempDir,
}

impl Three {
    async fn start(stores: &Stores) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let token = file(directory.path(), "token", TOKEN);
        let ports = [free_port(), free_port(), free_port()];
        let addresses = ports.map(|port| format!("127.0.0.1:{port}"));
        let mut servers = Vec::new();
        for own in &addresses {
            let mut arguments = vec!["--peer-token-file", &token];
            arguments.extend(["--peer-listen", own, "--peer-address", own]);
            for peer in &addresses {
                arguments.extend(["--peer", peer]);
            }
            servers.push(Server::start(stores, &arguments));
        }
        for server in &servers {
            let text = server.wait_for(200).await;
            assert!(text.contains("peers: ok, 3 servers"), "{text}");
        }
        Self {
            servers,
            ports,
            _directory: directory,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_lies_near_once_and_all_read_it_there() {
    let Some(mut stores) = Stores::start("a_blob_lies_near_once_and_all_read_it_there") else {
        return;
    };
    let three = Three::start(&stores).await;
    let [first, second, third] = &three.servers[..] else {
        panic!("three")
    };
    let mut blobs: Vec<_> = (0..30).map(|seed| blob(seed, 2000)).collect();
    blobs.push(blob(100, 3_000_000));
    let (one, two) = (first.client().await, second.client().await);
    for blob in &blobs {
        write(&one, blob).await.expect("written");
    }
    for (digest, bytes) in &blobs {
        assert!(read(&two, digest).await.expect("read") == *bytes);
    }
    // Nobody needs the object store for what lies near somewhere.
    stores.s3.kill();
    let three_client = third.client().await;
    for (digest, bytes) in &blobs {
        assert!(read(&three_client, digest).await.expect("read") == *bytes);
    }
    let digests: Vec<_> = blobs[..30].iter().map(|(digest, _)| *digest).collect();
    let many = three_client.read_many(&digests).await;
    assert!(many.iter().all(Result::is_ok), "{many:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_gone_is_passed_over() {
    let Some(stores) = Stores::start("an_owner_that_is_gone_is_passed_over") else {
        return;
    };
    let mut three = Three::start(&stores).await;
    let blobs: Vec<_> = (0..30).map(|seed| blob(seed, 2000)).collect();
    let client = three.servers[0].client().await;
    for blob in &blobs {
        write(&client, blob).await.expect("written");
    }
    three.servers[2].kill();
    for (digest, bytes) in &blobs {
        assert_eq!(read(&client, digest).await.expect("read"), bytes);
    }
    assert_eq!(three.servers[0].page("/readyz").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_servers_are_served_and_they_only_read() {
    let Some(stores) = Stores::start("only_servers_are_served_and_they_only_read") else {
        return;
    };
    let three = Three::start(&stores).await;
    let address = format!("grpc://127.0.0.1:{}", three.ports[0]);
    let with = |token: Option<&str>| GrpcSettings {
        token: token.map(|token| {
            let token = SecretValue::new(token.as_bytes().to_vec());
            std::sync::Arc::new(token) as std::sync::Arc<_>
        }),
        ..GrpcSettings::new(address.clone())
    };
    for token in [None, Some("another-token-of-somebody")] {
        let fault = GrpcEndpoint::connect(with(token))
            .await
            .expect_err("refused");
        assert_eq!(fault.kind, FaultKind::Denied, "{fault}");
    }
    let endpoint = GrpcEndpoint::connect(with(Some(TOKEN)))
        .await
        .expect("let in");
    let peer = ashlar_store::grpc::GrpcStore::new(std::sync::Arc::new(endpoint));
    let fault = write(&peer, &blob(1, 1000)).await.expect_err("reads only");
    assert_eq!(fault.kind, FaultKind::Denied, "{fault}");
    let known = blob(2, 1000);
    write(&three.servers[1].client().await, &known)
        .await
        .expect("written");
    assert_eq!(read(&peer, &known.0).await.expect("read"), known.1);
}
