//! Requests to the file worker and their answers, on one stream.
//!
//! ```text
//! request  length of the rest (u32) | id (u64) | bytes of the request
//! answer   length of the rest (u32) | id (u64) | bytes of the answer | 0
//!                                               | what a panic said   | 1
//! ```
//!
//! Numbers are little-endian. Answers come in any order. A thread of its own reads them: it needs
//! no runtime, and sleeps in read(2) when there is nothing.

use std::collections::HashMap;
use std::io::{self, BufReader, IoSlice, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::super::error::CallError;

/// Longest request or answer. A longer length in a frame means that the stream is out of step.
pub(in super::super) const FRAME_LIMIT: usize = 1 << 30;

/// The length of an id, which opens every frame.
pub(in super::super) const ID_LENGTH: usize = 8;

/// Last byte of an answer that the handler gave.
pub(in super::super) const ANSWERED: u8 = 0;
/// Last byte of an answer in place of a handler that panicked.
pub(in super::super) const PANICKED: u8 = 1;

type Answer = Result<Vec<u8>, CallError>;

/// Who waits for an answer; `None` when no answer can come any more.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// The builder's end of the stream.
#[derive(Debug)]
pub(super) struct Calls {
    /// Held while a frame is written. The worker reads without delay, so that is short.
    writer: Mutex<Writer>,
    /// Locked only for moments; taken after `writer`, where both are.
    waiting: Waiting,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Writer {
    stream: UnixStream,
    next_id: u64,
}

impl Calls {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let reading = stream.try_clone()?;
        let theirs = Arc::clone(&waiting);
        let reader = thread::Builder::new()
            .name("sandbox-answers".to_owned())
            .spawn(move || read_answers(reading, &theirs))?;
        let writer = Mutex::new(Writer { stream, next_id: 0 });
        Ok(Self {
            writer,
            waiting,
            reader: Some(reader),
        })
    }

    /// Sends a request; the receiver gets the answer, or an end if none can come.
    pub(super) fn call(&self, request: &[u8]) -> Result<oneshot::Receiver<Answer>, CallError> {
        let length = request.len();
        let frame_length = u32::try_from(length + ID_LENGTH)
            .ok()
            .filter(|_| length <= FRAME_LIMIT)
            .ok_or(CallError::TooLong { length })?;
        let (sender, receiver) = oneshot::channel();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let id = writer.next_id;
        writer.next_id += 1;
        match &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(CallError::HelperLost),
        };
        let mut head = [0; 4 + ID_LENGTH];
        head[..4].copy_from_slice(&frame_length.to_le_bytes());
        head[4..].copy_from_slice(&id.to_le_bytes());
        write_frame(&mut writer.stream, &head, request).map_err(CallError::Channel)?;
        Ok(receiver)
    }

    /// Ends the stream. Requests that wait for an answer get none.
    pub(super) fn close(&mut self) {
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // Fails only if the worker has gone already.
        let _shut = writer.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _joined = reader.join();
        }
    }
}

/// Writes head and body, in one system call as a rule.
pub(in super::super) fn write_frame(
    stream: &mut UnixStream,
    head: &[u8],
    body: &[u8],
) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(body)];
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the length and the id of a frame, then its body; `None` at the end of the stream.
pub(in super::super) fn read_frame(stream: &mut impl Read) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut head = [0; 4 + ID_LENGTH];
    match stream.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let [a, b, c, d, id @ ..] = head;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d]))
        .ok()
        .and_then(|length| length.checked_sub(ID_LENGTH))
        .filter(|length| *length <= FRAME_LIMIT + 1)
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((u64::from_le_bytes(id), body)))
}

fn read_answers(stream: UnixStream, waiting: &Waiting) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some((id, mut body))) = read_frame(&mut stream) {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) else {
            continue;
        };
        drop(waiting);
        let answer = match body.pop() {
            Some(ANSWERED) => Ok(body),
            Some(_) => Err(CallError::Panicked {
                message: String::from_utf8_lossy(&body).into_owned(),
            }),
            None => Err(CallError::HelperLost),
        };
        // The one who asked may have gone.
        let _unheard = sender.send(answer);
    }
    // Dropping the senders tells all who wait, and `None` all who come later.
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that answers each pair of requests in reverse order.
    fn reversing_worker(mut stream: UnixStream) {
        while let Ok(Some(first)) = read_frame(&mut stream) {
            let Ok(Some(second)) = read_frame(&mut stream) else {
                return;
            };
            for (id, mut body) in [second, first] {
                body.push(ANSWERED);
                let mut head = u32::try_from(body.len() + ID_LENGTH)
                    .unwrap()
                    .to_le_bytes()
                    .to_vec();
                head.extend(id.to_le_bytes());
                write_frame(&mut stream, &head, &body).unwrap();
            }
        }
    }

    #[test]
    fn answers_find_those_who_asked() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let worker = thread::spawn(move || reversing_worker(theirs));
        let mut calls = Calls::new(ours).unwrap();
        let long = vec![b'x'; 3 << 20];
        let receivers: Vec<_> = [b"one".as_slice(), &long, b"", b"four"]
            .map(|request| calls.call(request).unwrap())
            .into();
        let answers: Vec<_> = receivers
            .into_iter()
            .map(|receiver| receiver.blocking_recv().unwrap().unwrap())
            .collect();
        assert_eq!(
            answers,
            [b"one".to_vec(), long, Vec::new(), b"four".to_vec()]
        );
        calls.close();
        worker.join().unwrap();
    }

    #[test]
    fn a_worker_that_goes_away_leaves_nobody_waiting() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let calls = Calls::new(ours).unwrap();
        let receiver = calls.call(b"never answered").unwrap();
        read_frame(&mut theirs).unwrap();
        drop(theirs);
        receiver.blocking_recv().unwrap_err();
        calls.call(b"too late").unwrap_err();
    }

    #[test]
    fn a_length_that_makes_no_sense_is_an_error() {
        let mut short = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].as_slice();
        read_frame(&mut short).unwrap_err();
        let mut long = [255; 12].as_slice();
        read_frame(&mut long).unwrap_err();
    }
}
