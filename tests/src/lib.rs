//! Nothing but a home for the end-to-end tests in `e2e/` and the benchmarks in `bench/`.
#![forbid(unsafe_code)]
