//! Any bytes that are split come back as they were, however they come; chunks that are no layer's
//! are refused, and never give more bytes than they should.
#![no_main]

use std::collections::VecDeque;
use std::io;

use ashlar_exec::layer::split::{ChunkSource, Part, assemble, split};
use ashlar_model::cas::DigestFunction;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

#[derive(Clone, Default)]
struct Chunks([VecDeque<Bytes>; 2]);

impl ChunkSource for Chunks {
    fn next(&mut self, part: Part) -> io::Result<Option<Bytes>> {
        Ok(self.0[part as usize].pop_front())
    }
}

/// Mends the checksums of what would be headers, so that more of them are understood.
fn mend(tar: &mut [u8]) {
    let (blocks, _) = tar.as_chunks_mut::<512>();
    for block in blocks {
        if &block[148..150] == b"ok" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>, u16)| {
    let (mut tar, headers, contents, size) = input;
    mend(&mut tar);
    let mut chunks = Chunks::default();
    let split = split(&tar[..], DigestFunction::Blake3, |chunk| {
        chunks.0[chunk.part as usize].push_back(chunk.bytes);
        Ok::<_, ()>(())
    });
    assert_eq!(split.unwrap().tar_size, tar.len() as u64);
    let mut back = Vec::new();
    assemble(&mut chunks, Some(tar.len() as u64), &mut back).unwrap();
    assert!(back == tar);

    let mut any = Chunks::default();
    let headers = [&b"ashlar split layer 1\n"[..], &headers].concat();
    any.0[Part::Headers as usize].push_back(headers.into());
    any.0[Part::Contents as usize].push_back(contents.into());
    let mut out = Vec::new();
    let size = u64::from(size);
    let assembled = assemble(&mut any, Some(size), &mut out);
    assert!(out.len() as u64 <= size);
    assert_eq!(assembled.is_ok() && out.len() as u64 != size, false);
});
