//! The file worker: handles requests with the rights of root inside the sandbox, many at once.
//!
//! The frames are those of the builder's side, [`calls`](super::super::helper::calls).

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::super::helper::calls::{ANSWERED, ID_LENGTH, PANICKED, read_frame, write_frame};

/// Answers a request. Called on many threads at once, inside a rayon pool, in a process that sees
/// the machine's files as the containers' root does.
pub type FileHandler = fn(Vec<u8>) -> Vec<u8>;

/// Requests that are handled at once at least. More than there are cores, for requests wait for
/// the disk, and a short one must not wait for long ones.
const LEAST_THREADS: usize = 8;

/// Serves until the builder goes; requests that are not finished then are abandoned.
pub(super) fn serve(stream: UnixStream, handler: FileHandler) {
    // The launcher's end is the sandbox's end. If it has ended already, the builder has too.
    let _set = set_parent_process_death_signal(Some(Signal::KILL));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(LEAST_THREADS.max(2 * cores))
        .thread_name(|index| format!("files-{index}"))
        .build();
    let (Ok(pool), Ok(writer)) = (pool, stream.try_clone()) else {
        return;
    };
    let writer = Arc::new(Mutex::new(writer));
    let mut reader = BufReader::new(stream);
    while let Ok(Some((id, request))) = read_frame(&mut reader) {
        let writer = Arc::clone(&writer);
        // In order of arrival, where plain `spawn` takes the latest first.
        pool.spawn_fifo(move || {
            let answer = answer(handler, request);
            let mut head = [0; 4 + ID_LENGTH];
            // The handler's answer is shorter than memory; one that no frame can hold is a bug.
            let length = u32::try_from(answer.len() + ID_LENGTH).unwrap_or(0);
            head[..4].copy_from_slice(&length.to_le_bytes());
            head[4..].copy_from_slice(&id.to_le_bytes());
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            // Fails only if the builder has gone; the reader sees that too.
            let _written = write_frame(&mut writer, &head, &answer);
        });
    }
}

fn answer(handler: FileHandler, request: Vec<u8>) -> Vec<u8> {
    // The handler is a plain function, so there is no state of it that could be broken.
    match catch_unwind(AssertUnwindSafe(|| handler(request))) {
        Ok(mut answer) => {
            answer.push(ANSWERED);
            answer
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panic");
            let mut answer = text.as_bytes().to_vec();
            answer.push(PANICKED);
            answer
        }
    }
}
