//! Generates the messages, clients and servers of the .proto files beside this one, without a
//! protocol compiler of the machine.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;
use protox::Compiler;

/// The files that nothing else imports; the rest comes with them.
const ROOTS: [&str; 5] = [
    "ashlar/cache/v1/cache.proto",
    "ashlar/farm/v1/farm.proto",
    "build/bazel/remote/execution/v2/remote_execution.proto",
    "google/bytestream/bytestream.proto",
    "google/rpc/error_details.proto",
];

#[expect(
    clippy::disallowed_methods,
    reason = "so Cargo and build scripts talk to each other"
)]
fn main() -> Result<(), Box<dyn Error>> {
    for folder in ["ashlar", "build", "google"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let mut compiler = Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(ROOTS)?;
    let mut files = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .include_file("wire.rs")
        .compile_fds(files.clone())?;

    // What the server says about itself needs no comments.
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    Ok(())
}
