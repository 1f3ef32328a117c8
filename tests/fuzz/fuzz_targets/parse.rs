//! No bytes make the parser panic, and what it reads prints to what it reads the same.
#![no_main]

use ashlar_engine::dockerfile::{Dockerfile, check_syntax, parse};
use libfuzzer_sys::fuzz_target;

/// What an instruction says, without where it says it.
fn content(dockerfile: &Dockerfile) -> Vec<String> {
    let arguments = dockerfile
        .global_args
        .iter()
        .map(|arg| format!("{:?}", arg.kind));
    let stages = dockerfile.stages.iter().flat_map(|stage| {
        let from = format!("{:?}", stage.from.kind);
        let instructions = stage.instructions.iter();
        std::iter::once(from).chain(instructions.map(|one| format!("{:?}", one.kind)))
    });
    arguments.chain(stages).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let foreign = check_syntax("Dockerfile", bytes, None);
    drop(foreign.map_err(|error| error.diagnostic().to_string()));
    match parse("Dockerfile", bytes) {
        Ok(dockerfile) => {
            let printed = dockerfile.to_string();
            let again = parse("printed", printed.as_bytes());
            let again = again.unwrap_or_else(|error| panic!("{error}\n{printed}"));
            assert_eq!(content(&dockerfile), content(&again), "{printed}");
            assert_eq!(again.to_string(), printed);
        }
        Err(error) => drop(error.diagnostic().to_string()),
    }
});
