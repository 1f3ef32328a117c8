//! End-to-end tests: the `ashlar` binary, run by ordinary users, and judged by foreign readers.
//!
//! They run as root on a machine that `make test` prepared; `ashlar_test_support` says how each
//! part works. A module stands for one promise of the product.
#![forbid(unsafe_code)]

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod build;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod caching;
#[cfg(test)]
mod cleanup;
#[cfg(test)]
mod compare_buildah;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod debian;
#[cfg(test)]
mod failure;
#[cfg(test)]
mod farm_image;
#[cfg(test)]
mod hunted;
#[cfg(test)]
mod image_commands;
#[cfg(test)]
mod instructions;
#[cfg(test)]
mod lint;
#[cfg(test)]
mod one_uid;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod parallelism;
#[cfg(test)]
mod progress;
mod quota;
#[cfg(test)]
mod real;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod remote_context;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod workers;
