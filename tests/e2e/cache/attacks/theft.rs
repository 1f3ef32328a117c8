//! Blobs of others, by their digests.

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use ashlar_proto::wire::{ext, reapi};
use ashlar_test_support::farm::Caller;
use ashlar_test_support::farm::client::FUNCTION;
use bytes::Bytes;
use futures::stream;

use super::{Scene, absent, action, blob, refused, result};
use crate::cache::noise;

/// Every way to a blob's bytes, or to know that it is there, for one who has only its digest.
#[test]
fn a_digest_alone_opens_no_blob_of_another_team() {
    let test = "a_digest_alone_opens_no_blob_of_another_team";
    Scene::each(test, |scene| {
        let owner = scene.main_of("acme/web");
        let thief = scene.main_of("rival/app");
        let key = action("a secret step");
        // One that lies in a pack, and one large enough to be alone and to be had in chunks.
        let small = blob("the password is mortar");
        let large = blob(noise(11, 3_000_000));
        scene.run(async {
            owner.upload(std::slice::from_ref(&small)).await.unwrap();
            owner.write(&large.0, &large.1, "large").await.unwrap();
            let names = result(&[&small.0, &large.0]);
            owner.commit(&key, names.clone(), None).await.unwrap();

            for (digest, bytes) in [&small, &large] {
                steal(&thief, digest, bytes).await;
            }
            // Where the owner is nobody else comes in, whatever the blob.
            let inside = thief.within("acme/web/main");
            refused(inside.read(&small.0).await, "a blob by its place");
            refused(inside.missing(&[small.0]).await, "a blob's being there");
            refused(inside.probe(&key).await, "a result by its place");
            assert_eq!(thief.probe(&key).await.unwrap(), None);

            // The owner still has all of it.
            assert_eq!(owner.probe(&key).await.unwrap(), Some(names));
            assert_eq!(owner.read(&large.0).await.unwrap(), large.1);

            // Whoever has the bytes gets the blob, and nobody is the poorer.
            thief.write(&large.0, &large.1, "own").await.unwrap();
            assert_eq!(thief.read(&large.0).await.unwrap(), large.1);
        });
    });
}

/// All that `thief` can try with a digest.
async fn steal(thief: &Caller, digest: &CasDigest, bytes: &Bytes) {
    read(thief, digest).await;
    refer(thief, digest).await;
    upload_nothing(thief, digest, bytes).await;
}

/// Asking for it in so many words.
async fn read(thief: &Caller, digest: &CasDigest) {
    let instance_name = thief.instance().to_owned();
    let wire = digest_to_wire(digest);
    let function = Caller::function();
    absent(thief.read(digest).await, "ByteStream");
    absent(thief.read_many(&[*digest]).await, "a batch");
    let compressed = thief.request(ReadRequest {
        resource_name: format!(
            "{instance_name}/compressed-blobs/zstd/{}/{}/{}",
            FUNCTION.name(),
            digest.hash_hex(),
            digest.size
        ),
        ..ReadRequest::default()
    });
    let answer = thief.bytes().read(compressed).await;
    let first = match answer {
        Ok(pieces) => pieces.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    absent(first, "compressed");

    // As if it were absent everywhere.
    let missing = thief.missing(&[*digest]).await.unwrap();
    assert_eq!(missing, [digest.hash_hex()], "FindMissing tells of it");

    // As a tree, and in chunks.
    let tree = thief.request(reapi::GetTreeRequest {
        instance_name: instance_name.clone(),
        root_digest: Some(wire.clone()),
        digest_function: function,
        ..reapi::GetTreeRequest::default()
    });
    let answer = thief.cas().get_tree(tree).await;
    let first = match answer {
        Ok(pages) => pages.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    absent(first, "GetTree");
    let split = thief.request(reapi::SplitBlobRequest {
        instance_name: instance_name.clone(),
        blob_digest: Some(wire.clone()),
        digest_function: function,
        ..reapi::SplitBlobRequest::default()
    });
    absent(thief.cas().split_blob(split).await, "SplitBlob");
    let mapping = thief.request(reapi::GetChunkMappingRequest {
        instance_name: instance_name.clone(),
        blob_digest: Some(wire.clone()),
        digest_function: function,
        ..reapi::GetChunkMappingRequest::default()
    });
    let answer = thief.cas().get_chunk_mapping(mapping).await;
    let first = match answer {
        Ok(pages) => pages.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    absent(first, "GetChunkMapping");
}

/// Letting something of one's own name it.
async fn refer(thief: &Caller, digest: &CasDigest) {
    let instance_name = thief.instance().to_owned();
    let wire = digest_to_wire(digest);
    let function = Caller::function();
    // As its own only chunk: what is put together of it is it.
    let splice = thief.request(reapi::SpliceBlobRequest {
        instance_name: instance_name.clone(),
        blob_digest: Some(wire.clone()),
        chunk_digests: vec![wire.clone()],
        digest_function: function,
        ..reapi::SpliceBlobRequest::default()
    });
    absent(thief.cas().splice_blob(splice).await, "SpliceBlob");
    let register = reapi::RegisterChunkMappingRequest {
        instance_name: instance_name.clone(),
        blob_digest: Some(wire.clone()),
        chunk_digests: vec![wire.clone()],
        digest_function: function,
        ..reapi::RegisterChunkMappingRequest::default()
    };
    let register = thief.request(stream::iter([register]));
    let answer = thief.cas().register_chunk_mapping(register).await;
    absent(answer, "RegisterChunkMapping");

    // Named by a result, whose files come with it.
    let key = action("a thief's step");
    let commit = thief.commit(&key, result(&[digest]), None).await;
    absent(commit, "a result that names it");
    absent(thief.update(&key, result(&[digest])).await, "the same");
    let save = thief.request(ext::SaveRequest {
        instance_name: instance_name.clone(),
        digest_function: function,
        name: "cargo".to_owned(),
        trees: vec![wire],
        replaces: 0,
    });
    absent(thief.mounts().save(save).await, "a cache mount that is it");
}

/// Uploads without the bytes: a server that has a blob may say that it needs none.
async fn upload_nothing(thief: &Caller, digest: &CasDigest, bytes: &Bytes) {
    let instance_name = thief.instance();
    let name = format!(
        "{instance_name}/uploads/none/blobs/{}/{}/{}",
        FUNCTION.name(),
        digest.hash_hex(),
        digest.size
    );
    let (early, finished) = (&bytes[..1], i64::try_from(bytes.len()).unwrap());
    for data in [Bytes::new(), Bytes::copy_from_slice(early)] {
        let write = WriteRequest {
            resource_name: name.clone(),
            write_offset: 0,
            finish_write: true,
            data,
        };
        let write = thief.request(stream::iter([write]));
        drop(thief.bytes().write(write).await);
    }
    let write = WriteRequest {
        resource_name: name.clone(),
        write_offset: finished,
        finish_write: true,
        data: Bytes::new(),
    };
    let write = thief.request(stream::iter([write]));
    drop(thief.bytes().write(write).await);
    let status = thief.request(QueryWriteStatusRequest {
        resource_name: name,
    });
    if let Ok(status) = thief.bytes().query_write_status(status).await {
        assert!(
            !status.into_inner().complete,
            "an upload that was never made"
        );
    }
    absent(thief.read(digest).await, "after uploads of nothing");
    let wrong = (*digest, Bytes::from(vec![0; bytes.len().min(1000)]));
    thief.upload(&[wrong]).await.unwrap_err();
    absent(
        thief.read(digest).await,
        "after an upload of something else",
    );
    let missing = thief.missing(&[*digest]).await.unwrap();
    assert_eq!(missing, [digest.hash_hex()]);
}
