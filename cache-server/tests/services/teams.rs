//! A server for teams that do not trust each other, and its clients.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ashlar_cache_server::audit::{Audit, Event, Queue};
use ashlar_cache_server::auth::rules::Rule;
use ashlar_cache_server::auth::{Access, Policy, Right, Tokens, Writers};
use ashlar_cache_server::settings::namespaces::{NamespaceTables, resolve};
use ashlar_cache_server::stores::Stores;
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::wire::bytestream;
use ashlar_proto::wire::bytestream::byte_stream_client::ByteStreamClient;
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::admin_client::AdminClient;
use ashlar_proto::wire::ext::cache_mounts_client::CacheMountsClient;
use ashlar_proto::wire::ext::leases_client::LeasesClient;
use ashlar_proto::wire::ext::pins_client::PinsClient;
use ashlar_proto::wire::ext::results_client::ResultsClient;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::action_cache_client::ActionCacheClient;
use ashlar_proto::wire::reapi::capabilities_client::CapabilitiesClient;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::harness::{Harness, number, wire};

pub(crate) const BLAKE3: DigestFunction = DigestFunction::Blake3;

/// Namespaces of the tests: pull requests read through to main.
pub(crate) const TABLES: &str = "
    [[namespace]]
    name = 'acme/*/pr/*'
    reads = ['acme/{1}/main']
    [[namespace]]
    name = 'acme/*'";

pub(crate) const MAIN: &str = "acme/web/main";
pub(crate) const PULL: &str = "acme/web/pr/17";
pub(crate) const OTHER: &str = "umbrella";

const USUAL: [Right; 3] = [Right::Read, Right::Write, Right::Lease];

/// Who there is: a token, and what it may do where.
const CALLERS: [(&str, &str, &[Right]); 7] = [
    ("main-0123456789abcdef", MAIN, &USUAL),
    ("pull-0123456789abcdef", PULL, &USUAL),
    ("mate-0123456789abcdef", PULL, &USUAL),
    ("othe-0123456789abcdef", OTHER, &USUAL),
    ("read-0123456789abcdef", PULL, &[Right::Read]),
    ("lead-0123456789abcdef", "acme", &[Right::Admin]),
    ("root-0123456789abcdef", "", &Right::ALL),
];

/// Sends a token.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.clone();
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }
}

type Sender = InterceptedService<Channel, Bearer>;

/// Somebody with a token, in a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    channel: Channel,
    token: Bearer,
    pub(crate) instance: String,
}

/// The server.
pub(crate) struct Teams {
    pub(crate) harness: Harness,
    audit: Queue,
}

impl Teams {
    pub(crate) async fn new() -> Self {
        Self::with(TABLES).await
    }

    /// With these tables of namespaces.
    pub(crate) async fn with(tables: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rule = |(token, namespace, rights): (&str, &str, &[Right])| {
            // The file's name is the caller's.
            let file = folder.path().join(&token[..4]);
            std::fs::write(&file, token).expect("written");
            Rule {
                name: token[..4].to_owned(),
                issuer: None,
                claims: Vec::new(),
                certificate: None,
                tokens: Some(Tokens::read(&file).expect("tokens")),
                grants: vec![(
                    namespace.parse().expect("a namespace"),
                    rights.iter().copied().collect(),
                )],
            }
        };
        let policy = Policy {
            rules: CALLERS.into_iter().map(rule).collect(),
            ..Policy::of_files(Writers::Nobody, None)
        };
        let access = Access::new(policy, ashlar_store::clock::system());
        let tables: NamespaceTables = toml::from_str(tables).expect("tables");
        let namespaces = resolve(&tables.tables).expect("namespaces");
        let namespaces = Arc::new(ArcSwap::from_pointee(namespaces));
        let (audit, queue) = Audit::queue(10_000, ashlar_store::clock::system());
        let make = |engines| Stores::apart(engines, namespaces);
        Self {
            harness: Harness::over(access, 0, make, audit).await,
            audit: queue,
        }
    }

    /// Somebody, by the first four letters of the token.
    pub(crate) async fn caller(&self, name: &str) -> Caller {
        let found = CALLERS.iter().find(|(token, _, _)| token.starts_with(name));
        let (token, namespace, _) = found.expect("a caller");
        let header = format!("Bearer {token}").parse().expect("a header");
        Caller {
            channel: self.harness.channel().await,
            token: Bearer(header),
            instance: (*namespace).to_owned(),
        }
    }

    /// What was noted since.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.audit.next_event()).collect()
    }
}

macro_rules! clients {
    ($($name:ident: $client:ident),* $(,)?) => {
        impl Caller {
            $(
                pub(crate) fn $name(&self) -> $client<Sender> {
                    $client::with_interceptor(self.channel.clone(), self.token.clone())
                }
            )*
        }
    };
}

clients!(
    cas: ContentAddressableStorageClient,
    actions: ActionCacheClient,
    bytes: ByteStreamClient,
    results: ResultsClient,
    leases: LeasesClient,
    pins: PinsClient,
    mounts: CacheMountsClient,
    admin: AdminClient,
    capabilities: CapabilitiesClient,
);

pub(crate) fn blob_of(bytes: &[u8]) -> CasDigest {
    CasDigest::of(BLAKE3, bytes)
}

/// A result with one file.
pub(crate) fn result_with(path: &str, blob: &CasDigest) -> reapi::ActionResult {
    reapi::ActionResult {
        output_files: vec![reapi::OutputFile {
            path: path.to_owned(),
            digest: Some(wire(blob)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

impl Caller {
    /// The same, in another namespace.
    pub(crate) fn at(&self, instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            ..self.clone()
        }
    }

    /// What resource names begin with.
    fn prefix(&self) -> String {
        match self.instance.as_str() {
            "" => String::new(),
            instance => format!("{instance}/"),
        }
    }

    /// Uploads a blob under a digest, in a batch.
    pub(crate) async fn upload_as(&self, blob: &CasDigest, bytes: &[u8]) -> Result<(), Status> {
        let request = reapi::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            digest_function: number(blob.function),
            requests: vec![reapi::batch_update_blobs_request::Request {
                digest: Some(wire(blob)),
                data: bytes.to_vec().into(),
                ..Default::default()
            }],
        };
        let mut response = self.cas().batch_update_blobs(request).await?.into_inner();
        let status = response.responses.remove(0).status.unwrap_or_default();
        if status.code == 0 {
            Ok(())
        } else {
            Err(Status::new(status.code.into(), status.message))
        }
    }

    pub(crate) async fn upload(&self, bytes: &[u8]) -> CasDigest {
        let blob = blob_of(bytes);
        self.upload_as(&blob, bytes).await.expect("uploaded");
        blob
    }

    /// Uploads a blob in a stream, that says it is this one.
    pub(crate) async fn stream_as(&self, blob: &CasDigest, bytes: &[u8]) -> Result<i64, Status> {
        let request = bytestream::WriteRequest {
            resource_name: self.upload_name(blob, "u"),
            write_offset: 0,
            finish_write: true,
            data: bytes.to_vec().into(),
        };
        let written = self.bytes().write(tokio_stream::once(request)).await?;
        Ok(written.into_inner().committed_size)
    }

    pub(crate) fn upload_name(&self, blob: &CasDigest, id: &str) -> String {
        format!(
            "{}uploads/{id}/blobs/blake3/{}/{}",
            self.prefix(),
            hex::encode(blob.hash),
            blob.size
        )
    }

    pub(crate) async fn missing(&self, blobs: &[CasDigest]) -> Result<Vec<CasDigest>, Status> {
        let request = reapi::FindMissingBlobsRequest {
            instance_name: self.instance.clone(),
            digest_function: number(BLAKE3),
            blob_digests: blobs.iter().map(wire).collect(),
        };
        let response = self.cas().find_missing_blobs(request).await?.into_inner();
        let missing = blobs.iter().filter(|blob| {
            let mut missing = response.missing_blob_digests.iter();
            missing.any(|missing| *missing == wire(blob))
        });
        Ok(missing.copied().collect())
    }

    /// Reads a blob in a batch.
    pub(crate) async fn read(&self, blob: &CasDigest) -> Result<Vec<u8>, Status> {
        let request = reapi::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digest_function: number(blob.function),
            digests: vec![wire(blob)],
            ..Default::default()
        };
        let mut response = self.cas().batch_read_blobs(request).await?.into_inner();
        let read = response.responses.remove(0);
        let status = read.status.unwrap_or_default();
        if status.code == 0 {
            Ok(read.data.to_vec())
        } else {
            Err(Status::new(status.code.into(), status.message))
        }
    }

    /// Reads a blob in a stream.
    pub(crate) async fn read_stream(&self, blob: &CasDigest) -> Result<Vec<u8>, Status> {
        let request = bytestream::ReadRequest {
            resource_name: format!(
                "{}blobs/blake3/{}/{}",
                self.prefix(),
                hex::encode(blob.hash),
                blob.size
            ),
            ..Default::default()
        };
        let mut pieces = self.bytes().read(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.message().await? {
            bytes.extend_from_slice(&piece.data);
        }
        Ok(bytes)
    }

    pub(crate) async fn update(
        &self,
        action: &str,
        result: reapi::ActionResult,
    ) -> Result<(), Status> {
        let request = reapi::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            digest_function: number(BLAKE3),
            action_digest: Some(wire(&blob_of(action.as_bytes()))),
            action_result: Some(result),
            ..Default::default()
        };
        self.actions().update_action_result(request).await.map(drop)
    }

    pub(crate) async fn commit(
        &self,
        action: &str,
        result: reapi::ActionResult,
    ) -> Result<ext::CommitResponse, Status> {
        let request = ext::CommitRequest {
            instance_name: self.instance.clone(),
            digest_function: number(BLAKE3),
            action: Some(wire(&blob_of(action.as_bytes()))),
            result: Some(result),
            ..Default::default()
        };
        Ok(self.results().commit(request).await?.into_inner())
    }

    pub(crate) async fn get(&self, action: &str) -> Result<reapi::ActionResult, Status> {
        let request = reapi::GetActionResultRequest {
            instance_name: self.instance.clone(),
            digest_function: number(BLAKE3),
            action_digest: Some(wire(&blob_of(action.as_bytes()))),
            inline_output_files: vec!["result.json".to_owned()],
            ..Default::default()
        };
        Ok(self
            .actions()
            .get_action_result(request)
            .await?
            .into_inner())
    }

    /// The indexes of those actions that a probe finds.
    pub(crate) async fn probe(&self, actions: &[&str]) -> Result<Vec<u32>, Status> {
        let actions = actions.iter();
        let request = ext::ProbeRequest {
            instance_name: self.instance.clone(),
            digest_function: number(BLAKE3),
            actions: actions
                .map(|name| wire(&blob_of(name.as_bytes())))
                .collect(),
            ..Default::default()
        };
        let response = self.results().probe(request).await?.into_inner();
        Ok(response.hits.iter().map(|hit| hit.index).collect())
    }
}
