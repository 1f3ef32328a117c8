//! A client that says each thing of the protocol as it is told, and hides no answer.

use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{
    digest_to_wire, duration_from_wire, duration_to_wire, function_to_wire,
};
use ashlar_proto::wire::bytestream::byte_stream_client::ByteStreamClient;
use ashlar_proto::wire::bytestream::{ReadRequest, WriteRequest};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::acquire_response::Outcome;
use ashlar_proto::wire::ext::admin_client::AdminClient;
use ashlar_proto::wire::ext::cache_mounts_client::CacheMountsClient;
use ashlar_proto::wire::ext::invalidate_request::What;
use ashlar_proto::wire::ext::leases_client::LeasesClient;
use ashlar_proto::wire::ext::pins_client::PinsClient;
use ashlar_proto::wire::ext::results_client::ResultsClient;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::action_cache_client::ActionCacheClient;
use ashlar_proto::wire::reapi::batch_update_blobs_request::Request as OneBlob;
use ashlar_proto::wire::reapi::capabilities_client::CapabilitiesClient;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// The digest function of all that these clients make.
pub const FUNCTION: DigestFunction = DigestFunction::Blake3;

/// The longest message that is read.
const LONGEST_MESSAGE: usize = 32 << 20;

/// How many bytes an upload sends at once.
const PIECE: usize = 64 << 10;

/// A connection to a server, made when it is first needed and again when it is lost.
#[derive(Debug, Clone)]
pub struct Caller {
    channel: Channel,
    instance: String,
    token: Option<String>,
    patience: Duration,
}

/// A lease as its holder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What proves it.
    pub token: String,
    /// Its fencing number.
    pub number: u64,
    /// How long it is held without renewal.
    pub ttl: Duration,
}

impl Caller {
    /// A client of `grpc://HOST:PORT` that waits so long for every answer.
    pub fn new(url: &str, patience: Duration) -> Self {
        let url = url.replacen("grpc://", "http://", 1);
        let channel = Endpoint::from_shared(url)
            .expect("an address")
            .connect_timeout(patience)
            .timeout(patience)
            // A connection that a server left open when it froze is not used for ever.
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(patience)
            .keep_alive_while_idle(true)
            .connect_lazy();
        Self {
            channel,
            instance: String::new(),
            token: None,
            patience,
        }
    }

    /// The same in some instance.
    #[must_use]
    pub fn within(&self, instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            ..self.clone()
        }
    }

    /// The same with a token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The instance that it asks for.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A request of this client.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// An answer, or none within the time that there is.
    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, Status>> + Send,
    ) -> Result<T, Status> {
        match tokio::time::timeout(self.patience, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("the test has waited long enough")),
        }
    }

    /// `ContentAddressableStorage`.
    pub fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
            .max_decoding_message_size(LONGEST_MESSAGE)
            .max_encoding_message_size(usize::MAX)
    }

    /// `ActionCache`.
    pub fn actions(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone())
    }

    /// `ByteStream`.
    pub fn bytes(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
    }

    /// `Results`.
    pub fn results(&self) -> ResultsClient<Channel> {
        ResultsClient::new(self.channel.clone())
    }

    /// `Leases`.
    pub fn leases(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel.clone())
    }

    /// `Pins`.
    pub fn pins(&self) -> PinsClient<Channel> {
        PinsClient::new(self.channel.clone())
    }

    /// `CacheMounts`.
    pub fn mounts(&self) -> CacheMountsClient<Channel> {
        CacheMountsClient::new(self.channel.clone())
    }

    /// `Capabilities`.
    pub fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel.clone())
    }

    /// `Admin`.
    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    /// The digest function as requests have it.
    pub fn function() -> i32 {
        function_to_wire(FUNCTION).into()
    }

    /// Asks for a lease; `None` if somebody else holds it.
    pub async fn acquire(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, Status> {
        let request = self.request(ext::AcquireRequest {
            instance_name: self.instance.clone(),
            key: key.to_owned(),
            holder: "a client of the tests".to_owned(),
            ttl: Some(duration_to_wire(ttl)),
        });
        let mut leases = self.leases();
        let answer = self.answer(leases.acquire(request)).await?;
        match answer.into_inner().outcome {
            Some(Outcome::Granted(lease)) => Ok(Some(Lease {
                token: lease.token,
                number: lease.fencing_number,
                ttl: lease
                    .ttl
                    .as_ref()
                    .and_then(duration_from_wire)
                    .unwrap_or_default(),
            })),
            Some(Outcome::Held(_)) => Ok(None),
            None => Err(Status::internal("neither granted nor held")),
        }
    }

    /// Renews a lease; whether it was still this client's.
    pub async fn renew(&self, key: &str, token: &str) -> Result<bool, Status> {
        let request = self.request(ext::RenewRequest {
            instance_name: self.instance.clone(),
            key: key.to_owned(),
            token: token.to_owned(),
        });
        let mut leases = self.leases();
        match self.answer(leases.renew(request)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Gives a lease back.
    pub async fn release(&self, key: &str, token: &str) -> Result<(), Status> {
        let request = self.request(ext::ReleaseRequest {
            instance_name: self.instance.clone(),
            key: key.to_owned(),
            token: token.to_owned(),
        });
        let mut leases = self.leases();
        self.answer(leases.release(request)).await.map(drop)
    }

    /// Stores a result, perhaps under a lease; gives the one that was there before, if there was.
    pub async fn commit(
        &self,
        action: &CasDigest,
        result: reapi::ActionResult,
        lease: Option<(&str, u64)>,
    ) -> Result<Option<reapi::ActionResult>, Status> {
        let (key, number) = lease.unwrap_or_default();
        let request = self.request(ext::CommitRequest {
            instance_name: self.instance.clone(),
            digest_function: Self::function(),
            action: Some(digest_to_wire(action)),
            result: Some(result),
            lease_key: key.to_owned(),
            fencing_number: number,
        });
        let mut results = self.results();
        let answer = self.answer(results.commit(request)).await?.into_inner();
        if answer.already_there {
            return Ok(Some(answer.result.unwrap_or_default()));
        }
        Ok(None)
    }

    /// Looks a result up.
    pub async fn probe(&self, action: &CasDigest) -> Result<Option<reapi::ActionResult>, Status> {
        let request = self.request(ext::ProbeRequest {
            instance_name: self.instance.clone(),
            digest_function: Self::function(),
            actions: vec![digest_to_wire(action)],
            inline_output_files: Vec::new(),
        });
        let mut results = self.results();
        let answer = self.answer(results.probe(request)).await?.into_inner();
        Ok(answer.hits.into_iter().find_map(|hit| hit.result))
    }

    /// Looks a result up as other clients of the Remote Execution API do.
    pub async fn get(&self, action: &CasDigest) -> Result<Option<reapi::ActionResult>, Status> {
        let request = self.request(reapi::GetActionResultRequest {
            instance_name: self.instance.clone(),
            digest_function: Self::function(),
            action_digest: Some(digest_to_wire(action)),
            ..reapi::GetActionResultRequest::default()
        });
        let mut actions = self.actions();
        match self.answer(actions.get_action_result(request)).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Stores a result as other clients do, in place of any that is there.
    pub async fn update(
        &self,
        action: &CasDigest,
        result: reapi::ActionResult,
    ) -> Result<(), Status> {
        let request = self.request(reapi::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            digest_function: Self::function(),
            action_digest: Some(digest_to_wire(action)),
            action_result: Some(result),
            ..reapi::UpdateActionResultRequest::default()
        });
        let mut actions = self.actions();
        self.answer(actions.update_action_result(request))
            .await
            .map(drop)
    }

    /// Removes a result; gives how many were.
    pub async fn invalidate(&self, action: &CasDigest) -> Result<u64, Status> {
        let request = self.request(ext::InvalidateRequest {
            reason: "a test of ours".to_owned(),
            dry_run: false,
            what: Some(What::Action(ext::invalidate_request::Action {
                instance_name: self.instance.clone(),
                digest_function: Self::function(),
                action: Some(digest_to_wire(action)),
            })),
        });
        let mut admin = self.admin();
        let answer = self.answer(admin.invalidate(request)).await?;
        Ok(answer.into_inner().removed)
    }

    /// Which of some blobs are missing.
    pub async fn missing(&self, blobs: &[CasDigest]) -> Result<Vec<String>, Status> {
        let request = self.request(reapi::FindMissingBlobsRequest {
            instance_name: self.instance.clone(),
            digest_function: Self::function(),
            blob_digests: blobs.iter().map(digest_to_wire).collect(),
        });
        let mut cas = self.cas();
        let answer = self.answer(cas.find_missing_blobs(request)).await?;
        let missing = answer.into_inner().missing_blob_digests;
        Ok(missing.into_iter().map(|digest| digest.hash).collect())
    }

    /// Stores small blobs in one message.
    pub async fn upload(&self, blobs: &[(CasDigest, Bytes)]) -> Result<(), Status> {
        let requests = blobs.iter().map(|(digest, data)| OneBlob {
            digest: Some(digest_to_wire(digest)),
            data: data.clone(),
            ..OneBlob::default()
        });
        let request = self.request(reapi::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            digest_function: Self::function(),
            requests: requests.collect(),
        });
        let mut cas = self.cas();
        let answer = self.answer(cas.batch_update_blobs(request)).await?;
        for one in answer.into_inner().responses {
            all_right(one.status.as_ref())?;
        }
        Ok(())
    }

    /// Stores a blob of any size.
    pub async fn write(&self, blob: &CasDigest, data: &Bytes, name: &str) -> Result<(), Status> {
        let mut pieces = Vec::new();
        let mut offset = 0;
        let resource = format!("{}uploads/{name}/{}", self.prefix(), blob_path(blob));
        loop {
            let end = (offset + PIECE).min(data.len());
            pieces.push(WriteRequest {
                resource_name: resource.clone(),
                write_offset: i64::try_from(offset).expect("a small blob"),
                finish_write: end == data.len(),
                data: data.slice(offset..end),
            });
            offset = end;
            if offset == data.len() {
                break;
            }
        }
        let request = self.request(stream::iter(pieces));
        let mut bytes = self.bytes();
        let answer = self.answer(bytes.write(request)).await?.into_inner();
        if answer.committed_size == i64::try_from(data.len()).expect("a small blob") {
            Ok(())
        } else {
            Err(Status::unavailable("it was not taken as a whole"))
        }
    }

    /// Reads a blob, whatever its bytes are.
    pub async fn read(&self, blob: &CasDigest) -> Result<Vec<u8>, Status> {
        let resource_name = format!("{}{}", self.prefix(), blob_path(blob));
        let request = self.request(ReadRequest {
            resource_name,
            read_offset: 0,
            read_limit: 0,
        });
        let mut bytes = self.bytes();
        let whole = async {
            let mut pieces = bytes.read(request).await?.into_inner();
            let mut whole = Vec::new();
            while let Some(piece) = pieces.next().await {
                whole.extend_from_slice(&piece?.data);
            }
            Ok(whole)
        };
        self.answer(whole).await
    }

    /// Reads small blobs in one message.
    pub async fn read_many(&self, blobs: &[CasDigest]) -> Result<Vec<Bytes>, Status> {
        let request = self.request(reapi::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digest_function: Self::function(),
            digests: blobs.iter().map(digest_to_wire).collect(),
            ..reapi::BatchReadBlobsRequest::default()
        });
        let mut cas = self.cas();
        let answer = self.answer(cas.batch_read_blobs(request)).await?;
        let mut read = Vec::new();
        for one in answer.into_inner().responses {
            all_right(one.status.as_ref())?;
            read.push(one.data);
        }
        Ok(read)
    }

    fn prefix(&self) -> String {
        if self.instance.is_empty() {
            String::new()
        } else {
            format!("{}/", self.instance)
        }
    }
}

fn blob_path(blob: &CasDigest) -> String {
    format!(
        "blobs/{}/{}/{}",
        FUNCTION.name(),
        blob.hash_hex(),
        blob.size
    )
}

fn all_right(status: Option<&ashlar_proto::wire::rpc::Status>) -> Result<(), Status> {
    match status {
        Some(status) if status.code != 0 => {
            Err(Status::new(Code::from(status.code), status.message.clone()))
        }
        _ => Ok(()),
    }
}
