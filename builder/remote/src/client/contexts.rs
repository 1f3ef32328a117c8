//! The contexts of a build, each sent once, when the first segment needs it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_engine::graph::{Graph, NodeId, NodeKind, PlannedOp, PlannedSource};
use ashlar_model::step::Selection;
use ashlar_store::home::quota::Meter;
use tokio::sync::OnceCell;

use super::FarmClient;
use crate::context::{ContextError, ContextRef, Hints, Sent, send};

/// Says where the hints of a context's directory are kept, if anywhere.
pub type HintPath = Arc<dyn Fn(&Path) -> Option<PathBuf> + Send + Sync>;

/// A selection of a build, and where its files are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) node: NodeId,
    root: PathBuf,
    selection: Arc<Selection>,
}

/// What has been sent of a build's contexts.
pub(super) struct Contexts {
    client: FarmClient,
    hint_path: HintPath,
    /// By the selection's place in memory: it is kept, so that no other comes to be there.
    sent: Mutex<HashMap<usize, Arc<Slot>>>,
    hints: Mutex<BTreeMap<PathBuf, Arc<Hints>>>,
    total: Mutex<Sent>,
}

struct Slot {
    selection: Arc<Selection>,
    root: PathBuf,
    reference: OnceCell<ContextRef>,
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contexts").finish_non_exhaustive()
    }
}

/// The context files that a filesystem and all that it comes from are made of.
pub(super) fn files_of(graph: &Graph, tip: NodeId) -> Vec<Files> {
    let mut seen = vec![false; graph.len()];
    let mut pending = vec![tip];
    let mut files = Vec::new();
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        let node = graph.node(id);
        pending.extend(node.inputs());
        if let NodeKind::Step {
            op: PlannedOp::Copy(copy),
            ..
        } = &node.kind
        {
            for source in &copy.sources {
                if let PlannedSource::Directory { root, selection } = source {
                    files.push(Files {
                        node: id,
                        root: root.clone(),
                        selection: Arc::clone(selection),
                    });
                }
            }
        }
    }
    files
}

impl Contexts {
    pub(super) fn new(client: FarmClient, hint_path: HintPath) -> Self {
        Self {
            client,
            hint_path,
            sent: Mutex::default(),
            hints: Mutex::default(),
            total: Mutex::default(),
        }
    }

    /// Sends a selection, unless that is done already. Whoever asks meanwhile waits for the first.
    pub(super) async fn send(
        &self,
        files: &Files,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<ContextRef, ContextError> {
        let slot = self.slot(files);
        let sent = slot.reference.get_or_try_init(|| async {
            let hints = self.hints(&files.root);
            let (store, function) = (self.client.store(), self.client.function());
            let from = (&*files.root, &files.selection);
            let (reference, sent) = send(store, function, from, &hints, progress).await?;
            tracing::debug!(root = %files.root.display(), ?sent, "sent files of a context");
            locked(&self.total).add(sent);
            Ok(reference)
        });
        sent.await.copied()
    }

    /// Takes over what somebody else has sent.
    pub(super) fn know(&self, root: PathBuf, selection: Arc<Selection>, reference: ContextRef) {
        locked(&self.sent).insert(
            place(&selection),
            Arc::new(Slot {
                selection,
                root,
                reference: OnceCell::new_with(Some(reference)),
            }),
        );
    }

    /// What names a selection that was sent.
    pub(super) fn reference(&self, root: &Path, selection: &Arc<Selection>) -> Option<ContextRef> {
        let sent = locked(&self.sent);
        let slot = sent.get(&place(selection))?;
        (slot.root == root).then(|| slot.reference.get().copied())?
    }

    /// What sending has cost.
    pub(super) fn total(&self) -> Sent {
        *locked(&self.total)
    }

    /// Remembers what was learnt of the contexts for the next build.
    pub(super) fn save_hints(&self, meter: &Meter) {
        let hints: Vec<Arc<Hints>> = locked(&self.hints).values().cloned().collect();
        for hints in hints {
            // Only time is lost.
            if let Err(error) = hints.save(meter) {
                tracing::debug!(%error, "cannot remember a context's blobs");
            }
        }
    }

    fn slot(&self, files: &Files) -> Arc<Slot> {
        let mut sent = locked(&self.sent);
        let slot = sent.entry(place(&files.selection)).or_insert_with(|| {
            Arc::new(Slot {
                selection: Arc::clone(&files.selection),
                root: files.root.clone(),
                reference: OnceCell::new(),
            })
        });
        debug_assert!(Arc::ptr_eq(&slot.selection, &files.selection));
        Arc::clone(slot)
    }

    fn hints(&self, root: &Path) -> Arc<Hints> {
        let mut hints = locked(&self.hints);
        let loaded = hints
            .entry(root.to_owned())
            .or_insert_with(|| Arc::new(Hints::load((self.hint_path)(root))));
        Arc::clone(loaded)
    }
}

fn place(selection: &Arc<Selection>) -> usize {
    Arc::as_ptr(selection).addr()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
