//! What a piece of work is: its action, as REAPI has it, read from the farm's store.

use std::sync::Arc;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_from_wire, function_from_wire};
use ashlar_proto::wire::{farm, reapi};
use ashlar_remote::client::WorkKind;
use ashlar_store::BlobStore;
use ashlar_store::blob_store::{ByteRange, collect};
use ashlar_store::fault::Fault;
use bytes::Bytes;

/// The longest message that an action is made of.
const LONGEST_MESSAGE: u64 = 1 << 20;
/// The longest order.
const LONGEST_ORDER: u64 = ashlar_remote::order::LONGEST_ORDER as u64;

/// A piece of work.
#[derive(Debug, Clone)]
pub struct Action {
    /// What is to be done.
    pub kind: WorkKind,
    /// With what.
    pub order: Bytes,
    /// What the queue was told of it.
    pub placement: farm::Placement,
}

/// Why there is no telling what the work is.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The farm does not give what it is made of.
    #[error("cannot read the action from the farm")]
    Farm(#[source] Fault),
    /// It is none.
    #[error("this is no action of a farm: {0}")]
    Malformed(&'static str),
    /// It is one of a later version.
    #[error("this worker does not know how to do {0}")]
    Unknown(String),
}

/// Reads an action and its order.
pub async fn read(
    store: &Arc<dyn BlobStore>,
    assign: &farm::queue_message::Assign,
) -> Result<Action, ActionError> {
    let function = function_from_wire(assign.digest_function)
        .map_err(|_| ActionError::Malformed("an unknown digest function"))?;
    let reader = Reader { store, function };
    let action: reapi::Action = reader.message(assign.action.as_ref()).await?;
    let (command, root) = futures::try_join!(
        reader.message::<reapi::Command>(action.command_digest.as_ref()),
        reader.message::<reapi::Directory>(action.input_root_digest.as_ref()),
    )?;
    let name = command.arguments.first().map_or("", String::as_str);
    let kind = WorkKind::of_command(name);
    let kind = kind.ok_or_else(|| ActionError::Unknown(format!("`{name}`")))?;
    let file = |name: &str| {
        let file = root.files.iter().find(|file| file.name == name);
        file.and_then(|file| file.digest.as_ref())
    };
    let (order, placement) = futures::try_join!(
        reader.blob(file("order"), LONGEST_ORDER),
        reader.message::<farm::Placement>(file("placement")),
    )?;
    Ok(Action {
        kind,
        order,
        placement,
    })
}

struct Reader<'a> {
    store: &'a Arc<dyn BlobStore>,
    function: DigestFunction,
}

impl Reader<'_> {
    async fn blob(
        &self,
        digest: Option<&reapi::Digest>,
        longest: u64,
    ) -> Result<Bytes, ActionError> {
        let digest = digest.ok_or(ActionError::Malformed("it lacks a digest"))?;
        let digest = digest_from_wire(digest, self.function)
            .map_err(|_| ActionError::Malformed("a digest of it is none"))?;
        if digest.size > longest {
            return Err(ActionError::Malformed("it is too long"));
        }
        self.bytes(&digest).await.map_err(ActionError::Farm)
    }

    async fn bytes(&self, digest: &CasDigest) -> Result<Bytes, Fault> {
        if digest.size <= LONGEST_MESSAGE {
            let mut answers = self.store.read_many(std::slice::from_ref(digest)).await;
            return answers.pop().unwrap_or_else(|| Ok(Bytes::new()));
        }
        let stream = self.store.read(digest, ByteRange::WHOLE).await?;
        collect(stream, digest.size).await
    }

    async fn message<M: prost::Message + Default>(
        &self,
        digest: Option<&reapi::Digest>,
    ) -> Result<M, ActionError> {
        let bytes = self.blob(digest, LONGEST_MESSAGE).await?;
        M::decode(bytes).map_err(|_| ActionError::Malformed("a message of it is none"))
    }
}

#[cfg(test)]
mod tests {
    use ashlar_proto::convert::{digest_to_wire, function_to_wire};
    use ashlar_store::memory::MemoryStore;
    use prost::Message as _;

    use super::*;

    async fn put(store: &Arc<dyn BlobStore>, bytes: Vec<u8>) -> Option<reapi::Digest> {
        let digest = CasDigest::of(DigestFunction::Blake3, &bytes);
        for written in store.write_many(vec![(digest, bytes.into())]).await {
            written.unwrap();
        }
        Some(digest_to_wire(&digest))
    }

    async fn assign(
        store: &Arc<dyn BlobStore>,
        name: &str,
        file: &str,
    ) -> farm::queue_message::Assign {
        let command = reapi::Command {
            arguments: vec![name.to_owned()],
            ..reapi::Command::default()
        };
        let placement = farm::Placement {
            name: "RUN make".to_owned(),
            ..farm::Placement::default()
        };
        let root = reapi::Directory {
            files: vec![
                reapi::FileNode {
                    name: file.to_owned(),
                    digest: put(store, vec![7; 3 << 20]).await,
                    ..reapi::FileNode::default()
                },
                reapi::FileNode {
                    name: "placement".to_owned(),
                    digest: put(store, placement.encode_to_vec()).await,
                    ..reapi::FileNode::default()
                },
            ],
            ..reapi::Directory::default()
        };
        let action = reapi::Action {
            command_digest: put(store, command.encode_to_vec()).await,
            input_root_digest: put(store, root.encode_to_vec()).await,
            ..reapi::Action::default()
        };
        farm::queue_message::Assign {
            digest_function: function_to_wire(DigestFunction::Blake3).into(),
            action: put(store, action.encode_to_vec()).await,
            ..farm::queue_message::Assign::default()
        }
    }

    #[tokio::test]
    async fn an_action_is_read_with_its_order() {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(64 << 20));
        let good = assign(&store, "ashlar.segment/1", "order").await;
        let action = read(&store, &good).await.unwrap();
        assert_eq!(action.kind, WorkKind::Segment);
        assert_eq!(action.placement.name, "RUN make");
        assert_eq!(action.order.len(), 3 << 20);
        let later = assign(&store, "ashlar.segment/2", "order").await;
        let error = read(&store, &later).await.unwrap_err();
        assert!(matches!(error, ActionError::Unknown(_)), "{error}");
        let empty = assign(&store, "ashlar.segment/1", "orders").await;
        let error = read(&store, &empty).await.unwrap_err();
        assert!(matches!(error, ActionError::Malformed(_)), "{error}");
        let mut gone = good.clone();
        gone.action = Some(digest_to_wire(&CasDigest::of(DigestFunction::Blake3, b"x")));
        let error = read(&store, &gone).await.unwrap_err();
        assert!(matches!(error, ActionError::Farm(_)), "{error}");
        let mut wrong = good;
        wrong.digest_function = 99;
        read(&store, &wrong).await.unwrap_err();
    }
}
