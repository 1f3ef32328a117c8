//! One stream of bytes for several stages, each on a thread of its own.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use bytes::Bytes;

use super::PackError;
use super::stage::{Stage, StageResult};
use crate::layer::compress::GzipWriter;
use crate::layer::tar_write::TarWriteError;

/// Bytes handed on at a time: what a gzip member holds, so that blocks need no copy.
const CHUNK: usize = GzipWriter::<Vec<u8>>::BLOCK;
/// Chunks that may wait for a stage. Evens out stages of changing speed.
const WAITING: usize = 3;

/// Runs `make` with a writer whose bytes go to all `stages`.
pub(super) fn fan_out<T>(
    stages: Vec<Stage<'_>>,
    make: impl FnOnce(&mut dyn Write) -> Result<T, TarWriteError>,
) -> Result<(T, Vec<StageResult>), PackError> {
    thread::scope(|scope| {
        let mut fan_out = FanOut {
            scope,
            chunk: Vec::new(),
            stages: Stages::Waiting(stages),
        };
        let made = make(&mut fan_out);
        let finished = fan_out.finish();
        match (made, finished) {
            // A stage that fails makes the tar fail too, but is the cause.
            (Err(TarWriteError::Write(_)), Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(_), Err(error)) => Err(error),
            (Ok(made), Ok(results)) => Ok((made, results)),
        }
    })
}

/// Cuts what is written to it into chunks and hands them to the stages.
struct FanOut<'scope, 'env, 'a> {
    scope: &'scope Scope<'scope, 'env>,
    chunk: Vec<u8>,
    stages: Stages<'scope, 'a>,
}

enum Stages<'scope, 'a> {
    /// No chunk was full yet.
    Waiting(Vec<Stage<'a>>),
    Running(Vec<Running<'scope>>),
}

struct Running<'scope> {
    chunks: SyncSender<Bytes>,
    thread: ScopedJoinHandle<'scope, Result<StageResult, PackError>>,
}

impl<'scope, 'a: 'scope> FanOut<'scope, '_, 'a> {
    /// Hands on a full chunk; fails if a stage has.
    fn hand_on(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let chunk = Bytes::from(chunk);
        let running = match &mut self.stages {
            Stages::Running(running) => running,
            Stages::Waiting(stages) => {
                let scope = self.scope;
                let running = stages.drain(..).map(|stage| start(scope, stage)).collect();
                self.stages = Stages::Running(running);
                let Stages::Running(running) = &mut self.stages else {
                    return Ok(());
                };
                running
            }
        };
        for stage in running {
            stage
                .chunks
                .send(chunk.clone())
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<StageResult>, PackError> {
        let rest = Bytes::from(std::mem::take(&mut self.chunk));
        match self.stages {
            Stages::Waiting(stages) => stages
                .into_iter()
                .map(|mut stage| {
                    stage.take(&rest)?;
                    stage.finish()
                })
                .collect(),
            Stages::Running(running) => {
                let mut threads = Vec::with_capacity(running.len());
                for Running { chunks, thread } in running {
                    // A stage that has failed takes nothing more; its thread says why.
                    drop(chunks.send(rest.clone()));
                    threads.push(thread);
                }
                // All are waited for before the first error is looked at.
                let results: Vec<_> = threads.into_iter().map(join).collect();
                results.into_iter().collect()
            }
        }
    }
}

impl<'scope, 'a: 'scope> Write for FanOut<'scope, '_, 'a> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK {
            self.hand_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start<'scope, 'a: 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut stage: Stage<'a>,
) -> Running<'scope> {
    let (sender, chunks): (_, Receiver<Bytes>) = sync_channel(WAITING);
    let thread = scope.spawn(move || {
        for chunk in chunks {
            stage.take(&chunk)?;
        }
        stage.finish()
    });
    Running {
        chunks: sender,
        thread,
    }
}

fn join(
    thread: ScopedJoinHandle<'_, Result<StageResult, PackError>>,
) -> Result<StageResult, PackError> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
