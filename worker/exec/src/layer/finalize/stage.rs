//! One thing that is made of the tar's bytes.

use std::io::{self, Write};

use ashlar_model::digest::DiffId;
use ashlar_model::executor::BlobForm;
use ashlar_model::media_type::Compression;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{PackError, PackOutput, PackTarget, PackedBlob};
use crate::layer::compress::{CompressedWriter, HashingWriter};

type Output<'a> = Box<dyn Write + Send + 'a>;

/// Takes the tar chunk by chunk.
pub(super) enum Stage<'a> {
    DiffId(Box<Sha256>),
    Tar(Output<'a>),
    Blob(BlobForm, Box<CompressedWriter<HashingWriter<Output<'a>>>>),
}

/// What a stage gives in the end.
#[derive(Debug)]
pub(super) enum StageResult {
    DiffId(DiffId),
    Tar,
    Blob(PackedBlob),
}

impl<'a> Stage<'a> {
    pub(super) fn diff_id() -> Self {
        Self::DiffId(Box::new(Sha256::new()))
    }

    pub(super) fn output(output: PackOutput<'a>, threads: usize) -> Result<Self, PackError> {
        let PackOutput { target, writer } = output;
        match target {
            PackTarget::Tar => Ok(Self::Tar(writer)),
            PackTarget::Blob(form) => {
                let compressor = CompressedWriter::new(HashingWriter::new(writer), form, threads)
                    .map_err(|source| blob_error(form, source))?;
                Ok(Self::Blob(form, Box::new(compressor)))
            }
        }
    }

    pub(super) fn take(&mut self, chunk: &Bytes) -> Result<(), PackError> {
        match self {
            Self::DiffId(hasher) => {
                hasher.update(chunk);
                Ok(())
            }
            Self::Tar(out) => out.write_all(chunk).map_err(tar_error),
            Self::Blob(form, out) => out.write_shared(chunk).map_err(|e| blob_error(*form, e)),
        }
    }

    pub(super) fn finish(self) -> Result<StageResult, PackError> {
        match self {
            Self::DiffId(hasher) => {
                let digest = DiffId::from_bytes(hasher.finalize().into());
                Ok(StageResult::DiffId(digest))
            }
            Self::Tar(mut out) => {
                out.flush().map_err(tar_error)?;
                Ok(StageResult::Tar)
            }
            Self::Blob(form, out) => {
                let (digest, size) = out
                    .finish()
                    .and_then(|out| {
                        let (mut out, digest, size) = out.finish();
                        out.flush()?;
                        Ok((digest, size))
                    })
                    .map_err(|e| blob_error(form, e))?;
                Ok(StageResult::Blob(PackedBlob { form, digest, size }))
            }
        }
    }
}

fn tar_error(source: io::Error) -> PackError {
    PackError::Write {
        output: "the tar of the layer".to_owned(),
        source,
    }
}

fn blob_error(form: BlobForm, source: io::Error) -> PackError {
    let kind = match form.compression {
        Compression::Uncompressed => "uncompressed",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    PackError::Write {
        output: format!("the {kind} blob of the layer"),
        source,
    }
}
