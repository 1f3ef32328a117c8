#!/bin/bash
# Runs all tests of the workspace, and prints which were skipped and why. Arguments go to nextest.
# cargo-nextest is installed if it is missing; where it cannot be, cargo test runs the tests.
set -uo pipefail

target=${CARGO_TARGET_DIR:-target}
export ASHLAR_TEST_SKIPS=$PWD/$target/test-skips.log
rm -f "$ASHLAR_TEST_SKIPS"

if ! cargo nextest --version >/dev/null 2>&1; then
  echo "cargo-nextest is missing and is installed now" >&2
  cargo install --locked --quiet cargo-nextest
fi
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace ${CI:+--profile ci} "$@"
else
  cargo test --workspace --no-fail-fast -- --test-threads=1
fi
result=$?

if [ -s "$ASHLAR_TEST_SKIPS" ]; then
  echo
  sort -u "$ASHLAR_TEST_SKIPS"
fi
exit $result
