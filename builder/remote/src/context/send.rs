//! Files of a context to a store.
//!
//! What is remembered is asked for in one question, so that a context that has not changed costs one
//! round trip and no reading. All else is read by a few threads, in windows that fit into a message,
//! and each window is asked for and sent as it comes: what is in memory is bounded, and reading,
//! asking and sending go on at the same time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::step::Selection;
use ashlar_store::BlobStore;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::contents::{Content, Files};
use super::group::{Piece, pieces};
use super::hints::{PieceKey, piece_key};
use super::manifest::{Blob, Manifest, encode_listing};
use super::read::FileReader;
use super::{ContextError, ContextRef, Hints};
use crate::patience::patiently;

/// So many threads read.
const READERS: usize = 4;

/// Windows have about so many bytes: with one more blob they still fit into a message.
const WINDOW: usize = 1 << 20;

/// So many windows are on their way at once.
const WINDOWS: usize = 8;

const ASK: &str = "ask the farm which files of the context it has";
const SEND: &str = "send files of the context to the farm";

/// What sending cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes of all files, each content once.
    pub bytes: u64,
    /// Bytes that were read.
    pub read: u64,
    /// Blobs of contents that there are.
    pub blobs: u64,
    /// Blobs of contents that the farm lacked.
    pub sent_blobs: u64,
    /// Bytes of all blobs that it lacked, listings included.
    pub sent: u64,
}

impl Sent {
    /// Adds what another context cost.
    pub const fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.read += other.read;
        self.blobs += other.blobs;
        self.sent_blobs += other.sent_blobs;
        self.sent += other.sent;
    }
}

/// Sends the files of a selection that a store lacks. `progress` is told how many bytes have
/// been sent, each time it is more.
///
/// A file that is not what the selection says is [`ContextError::Changed`].
pub async fn send(
    store: &Arc<dyn BlobStore>,
    function: DigestFunction,
    (root, selection): (&Path, &Arc<Selection>),
    hints: &Hints,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(ContextRef, Sent), ContextError> {
    let prepared = prepare(Arc::clone(selection), function).await?;
    let mut blobs: Vec<Option<Vec<Blob>>> = prepared
        .pieces
        .iter()
        .map(|piece| match piece.is_file(function) {
            // A file alone, named as files are: its digest is known.
            Some(blob) => Some(vec![blob]),
            None => hints.find(&piece.key),
        })
        .collect();
    let mut sending = Sending {
        store,
        progress,
        present: HashSet::new(),
        missing: HashSet::new(),
        sent: Sent {
            bytes: prepared.files.bytes,
            ..Sent::default()
        },
    };
    let known = blobs.iter().flatten().flatten().copied();
    let listing = prepared.listing.iter().map(|(blob, _)| *blob);
    let manifest = manifest_of(&prepared, &blobs)?;
    let whole = manifest
        .as_ref()
        .map(|bytes| CasDigest::of(function, bytes));
    let asked: Vec<CasDigest> = known
        .chain(listing)
        .map(|blob| blob.digest(function))
        .chain(whole)
        .collect();
    sending.ask(&asked).await?;

    let is_needed = |blobs: &Option<Vec<Blob>>| match blobs {
        None => true,
        Some(blobs) => blobs
            .iter()
            .any(|blob| sending.missing.contains(&blob.digest(function))),
    };
    let needed = (0..blobs.len()).filter(|index| is_needed(&blobs[*index]));
    let needed: VecDeque<usize> = needed.collect();
    if !needed.is_empty() {
        let reader = FileReader::open(root, function)?;
        let made = sending
            .read_and_send(Arc::clone(&prepared), reader, needed)
            .await?;
        for (index, made) in made {
            let piece = &prepared.pieces[index];
            if piece.is_file(function).is_none() {
                hints.learn(piece.key, &made);
            }
            blobs[index] = Some(made);
        }
    }
    sending.sent.blobs = blobs.iter().flatten().flatten().count() as u64;
    let manifest = manifest_of(&prepared, &blobs)?.ok_or(ContextError::BrokenOff(None))?;
    let reference = ContextRef {
        manifest: CasDigest::of(function, &manifest),
    };
    let listing = prepared.listing.iter();
    let rest: Vec<(CasDigest, Bytes)> = listing
        .map(|(blob, bytes)| (blob.digest(function), bytes.clone()))
        .chain([(reference.manifest, manifest)])
        .collect();
    sending.send(rest).await?;
    Ok((reference, sending.sent))
}

/// A selection, ready to be sent.
#[derive(Debug)]
struct Prepared {
    files: Files,
    pieces: Vec<NamedPiece>,
    listing: Vec<(Blob, Bytes)>,
}

#[derive(Debug)]
struct NamedPiece {
    piece: Piece,
    key: PieceKey,
    /// The one content that is all of it.
    alone: Option<Blob>,
}

impl NamedPiece {
    fn new(piece: Piece, function: DigestFunction, contents: &[Content]) -> Self {
        let contents = match piece {
            Piece::Bundle { first, end } => &contents[first..end],
            Piece::Chunked(index) => &contents[index..=index],
        };
        let alone = match (piece, contents) {
            (Piece::Bundle { .. }, [content]) => Some(Blob {
                hash: *content.digest.as_bytes(),
                size: u32::try_from(content.size).unwrap_or(u32::MAX),
            }),
            _ => None,
        };
        Self {
            piece,
            key: piece_key(function, contents),
            alone,
        }
    }

    /// Its blob, if that is named as a file is.
    fn is_file(&self, function: DigestFunction) -> Option<Blob> {
        self.alone.filter(|_| function == DigestFunction::Blake3)
    }
}

async fn prepare(
    selection: Arc<Selection>,
    function: DigestFunction,
) -> Result<Arc<Prepared>, ContextError> {
    blocking(move || {
        let files = Files::of(&selection)?;
        let named = pieces(&files.contents).into_iter();
        let pieces = named
            .map(|piece| NamedPiece::new(piece, function, &files.contents))
            .collect();
        let listing = encode_listing(&selection)?.into_iter();
        let listing = listing
            .map(|bytes| (Blob::of(&CasDigest::of(function, &bytes)), bytes))
            .collect();
        Ok(Arc::new(Prepared {
            files,
            pieces,
            listing,
        }))
    })
    .await
}

/// The manifest, if all blobs are known.
fn manifest_of(
    prepared: &Prepared,
    blobs: &[Option<Vec<Blob>>],
) -> Result<Option<Bytes>, ContextError> {
    let contents: Option<Vec<&[Blob]>> = blobs.iter().map(Option::as_deref).collect();
    let Some(contents) = contents else {
        return Ok(None);
    };
    let listing = prepared.listing.iter().map(|(blob, _)| *blob).collect();
    Manifest::new(listing, contents.concat()).encode().map(Some)
}

/// Blobs that are sent together, and pieces of which no more will come.
#[derive(Debug, Default)]
struct Window {
    blobs: Vec<(CasDigest, Bytes)>,
    bytes: usize,
    done: Vec<(usize, Vec<Blob>)>,
}

struct Sending<'a> {
    store: &'a Arc<dyn BlobStore>,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    /// What the store has, and has not, as far as it was asked.
    present: HashSet<CasDigest>,
    missing: HashSet<CasDigest>,
    sent: Sent,
}

impl Sending<'_> {
    async fn ask(&mut self, blobs: &[CasDigest]) -> Result<(), ContextError> {
        let missing = ask(self.store, blobs).await?;
        self.missing.extend(missing);
        let present = blobs.iter().filter(|blob| !self.missing.contains(*blob));
        self.present.extend(present);
        Ok(())
    }

    /// Reads pieces, sends what of them is missing, and gives what their blobs are.
    async fn read_and_send(
        &mut self,
        prepared: Arc<Prepared>,
        reader: FileReader,
        needed: VecDeque<usize>,
    ) -> Result<Vec<(usize, Vec<Blob>)>, ContextError> {
        let readers = READERS.min(needed.len());
        let queue = Arc::new(Mutex::new(needed));
        let reader = Arc::new(reader);
        let (give, mut windows) = mpsc::channel::<Window>(READERS);
        let threads: FuturesUnordered<JoinHandle<Result<(), ContextError>>> = (0..readers)
            .map(|_| {
                let (prepared, reader) = (Arc::clone(&prepared), Arc::clone(&reader));
                let (queue, give) = (Arc::clone(&queue), give.clone());
                spawn_blocking(move || read_windows(&prepared, &reader, &queue, &give))
            })
            .collect();
        drop(give);
        let mut made: HashMap<usize, Vec<Blob>> = HashMap::new();
        let mut on_the_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                window = windows.recv(), if on_the_way.len() < WINDOWS => match window {
                    Some(window) => {
                        self.sent.read += window.bytes as u64;
                        made.extend(window.done);
                        on_the_way.push(send_window(
                            self.store,
                            window.blobs,
                            (&self.present, &self.missing),
                        ));
                    }
                    None if on_the_way.is_empty() => break,
                    None => {
                        let sent = on_the_way.next().await;
                        note(&mut self.sent, sent, self.progress)?;
                    }
                },
                Some(sent) = on_the_way.next() => {
                    note(&mut self.sent, Some(sent), self.progress)?;
                }
            }
        }
        let ended = threads.map(|ended| ended.map_err(ContextError::broken_off)?);
        ended.try_collect::<Vec<()>>().await?;
        Ok(made.into_iter().collect())
    }

    /// Sends what is known to be missing, or was not asked for.
    async fn send(&mut self, blobs: Vec<(CasDigest, Bytes)>) -> Result<(), ContextError> {
        let lacking = blobs
            .into_iter()
            .filter(|(blob, _)| !self.present.contains(blob))
            .collect();
        self.sent.sent += write(self.store, lacking).await?.1;
        (self.progress)(self.sent.sent);
        Ok(())
    }
}

/// Counts what a window came to.
fn note(
    sent: &mut Sent,
    window: Option<Result<(u64, u64), ContextError>>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), ContextError> {
    let (blobs, bytes) = window.transpose()?.unwrap_or_default();
    sent.sent_blobs += blobs;
    sent.sent += bytes;
    progress(sent.sent);
    Ok(())
}

async fn ask(
    store: &Arc<dyn BlobStore>,
    blobs: &[CasDigest],
) -> Result<Vec<CasDigest>, ContextError> {
    let missing = patiently(|| store.missing(blobs)).await;
    missing.map_err(|source| ContextError::Store { what: ASK, source })
}

/// Sends what is missing of a window; how many blobs and bytes that is.
async fn send_window(
    store: &Arc<dyn BlobStore>,
    window: Vec<(CasDigest, Bytes)>,
    (present, missing): (&HashSet<CasDigest>, &HashSet<CasDigest>),
) -> Result<(u64, u64), ContextError> {
    let is_unknown = |blob: &CasDigest| !present.contains(blob) && !missing.contains(blob);
    let blobs = window.iter().map(|(blob, _)| *blob);
    let unknown: Vec<CasDigest> = blobs.filter(is_unknown).collect();
    let mut lacking: HashSet<CasDigest> = HashSet::new();
    if !unknown.is_empty() {
        lacking.extend(ask(store, &unknown).await?);
    }
    let lacks = |blob: &CasDigest| missing.contains(blob) || lacking.contains(blob);
    write(
        store,
        window.into_iter().filter(|(blob, _)| lacks(blob)).collect(),
    )
    .await
}

async fn write(
    store: &Arc<dyn BlobStore>,
    blobs: Vec<(CasDigest, Bytes)>,
) -> Result<(u64, u64), ContextError> {
    if blobs.is_empty() {
        return Ok((0, 0));
    }
    let count = blobs.len() as u64;
    let bytes = blobs.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let written = patiently(|| {
        let written = store.write_many(blobs.clone());
        written.map(|answers| answers.into_iter().collect::<Result<(), _>>())
    });
    match written.await {
        Ok(()) => Ok((count, bytes)),
        Err(source) => Err(ContextError::Store { what: SEND, source }),
    }
}

/// Reads pieces until there are no more, or nobody wants them.
fn read_windows(
    prepared: &Prepared,
    reader: &FileReader,
    queue: &Mutex<VecDeque<usize>>,
    give: &mpsc::Sender<Window>,
) -> Result<(), ContextError> {
    let mut window = Window::default();
    let pass_on = |window: &mut Window| {
        let full = std::mem::take(window);
        let gone = |_| ContextError::BrokenOff(None);
        give.blocking_send(full).map_err(gone)
    };
    loop {
        let next = locked(queue).pop_front();
        let Some(index) = next else {
            break;
        };
        let mut blobs = Vec::new();
        let NamedPiece { piece, .. } = prepared.pieces[index];
        let read = reader.read(piece, &prepared.files.contents, |blob, bytes| {
            blobs.push(Blob::of(&blob));
            window.bytes += bytes.len();
            window.blobs.push((blob, bytes));
            if window.bytes >= WINDOW {
                pass_on(&mut window)?;
            }
            Ok(())
        });
        if read.is_err() {
            // Nobody needs the others any more.
            locked(queue).clear();
            return read;
        }
        window.done.push((index, blobs));
    }
    pass_on(&mut window)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContextError> + Send + 'static,
) -> Result<T, ContextError> {
    spawn_blocking(work)
        .await
        .map_err(ContextError::broken_off)?
}
