#!/bin/bash
# Fuzzes the Dockerfile language and split layers: each target of tests/fuzz for $1 seconds (60 if not given). Inputs
# that were found are kept in target/fuzz-inputs; one that breaks something stays there as crash-*.
# Needs a nightly compiler, for only that can count which code a run reaches.
set -euo pipefail

seconds=${1:-60}
root=$PWD
inputs=$root/target/fuzz-inputs
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares"

export CARGO_TARGET_DIR=$root/target/fuzz
RUSTFLAGS="$coverage --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1" \
  cargo +nightly build --release --target "$host" --manifest-path tests/fuzz/Cargo.toml

for target in parse plan expand split; do
  mkdir -p "$inputs/$target"
  if [ "$target" = parse ] || [ "$target" = plan ]; then
    for file in tests/fixtures/compare/*/Dockerfile; do
      cp "$file" "$inputs/$target/$(basename "$(dirname "$file")")"
    done
  fi
  "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=20 \
    -max_len=4096 -artifact_prefix="$inputs/$target-" "$inputs/$target"
done
