//! What buildbox-casd does beyond the Remote Execution API: blobs of its own store go to the server
//! behind it, and come from there. As much of its protocol as that takes.

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::{reapi, rpc};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use super::{Casd, Client};

#[derive(Clone, PartialEq, prost::Message)]
struct BlobsRequest {
    #[prost(string, tag = "1")]
    instance_name: String,
    #[prost(message, repeated, tag = "2")]
    blob_digests: Vec<reapi::Digest>,
}

/// Names the blobs that could not be moved, with reasons.
#[derive(Clone, PartialEq, prost::Message)]
struct BlobsResponse {
    #[prost(message, repeated, tag = "1")]
    responses: Vec<BlobResponse>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BlobResponse {
    #[prost(message, optional, tag = "1")]
    digest: Option<reapi::Digest>,
    #[prost(message, optional, tag = "2")]
    status: Option<rpc::Status>,
}

impl Client {
    /// Lets a buildbox-casd send a blob that it has to the server behind it, in chunks.
    pub fn upload_missing(&self, blob: &CasDigest) {
        self.move_blob("UploadMissingBlobs", blob);
    }

    /// Lets a buildbox-casd fetch a blob from the server behind it, in chunks.
    pub fn fetch_missing(&self, blob: &CasDigest) {
        self.move_blob("FetchMissingBlobs", blob);
    }

    fn move_blob(&self, method: &str, blob: &CasDigest) {
        let path = format!("/build.buildgrid.LocalContentAddressableStorage/{method}");
        let path = PathAndQuery::try_from(path).expect("a path");
        let request = BlobsRequest {
            instance_name: Casd::CHUNKED.to_owned(),
            blob_digests: vec![digest_to_wire(blob)],
        };
        let answer = self.block_on(async {
            let mut grpc = Grpc::new(self.endpoint().channel());
            grpc.ready().await.expect("buildbox-casd is not there");
            let codec = ProstCodec::<BlobsRequest, BlobsResponse>::default();
            grpc.unary(tonic::Request::new(request), path, codec).await
        });
        let answer = answer.unwrap_or_else(|status| panic!("{method}: {status}"));
        for response in answer.into_inner().responses {
            let status = response.status.unwrap_or_default();
            assert_eq!(status.code, 0, "{method}: {}", status.message);
        }
    }
}
