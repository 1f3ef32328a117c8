//! What the end-to-end tests stand on.
//!
//! The tests run as root, and run Ashlar as ordinary users: root only plays the machine (makes
//! users, disks that fill up, registries) and the judge (reads files whoever owns them).
//!
//! | module | subject |
//! |---|---|
//! | [`binary`] | the programs under test, where ordinary users can run them |
//! | [`user`] | the users: with subordinate ids, without, root |
//! | [`command`] | a command with a user, a clean environment and a time limit; its output |
//! | [`home`] | one test's own home directory, store and scratch space |
//! | [`context`] | build contexts |
//! | [`progress`] | what `--progress plain` said about each step |
//! | [`processes`] | processes and mounts that should not be there any more |
//! | [`trace`] | what a build asks of the kernel |
//! | [`tree`] | the canonical listing of a file tree, and how two of them differ |
//! | [`layout`] | reading OCI layouts in the test's own process |
//! | [`judge`] | foreign readers of images: skopeo and GNU tar, umoci, buildah |
//! | [`registry`] | Debian's docker-registry, and proxies that make it misbehave |
//! | [`cache_server`] | an `ashlar-cache` that is started, stopped, killed and started again |
//! | [`worker`] | the same for an `ashlar-worker` |
//! | [`collector`] | a collector of traces |
//! | [`redis`] | real Redis servers: one, a cluster, a master with Sentinels |
//! | [`reapi`] | foreign servers and clients of the Remote Execution API |
//! | [`s3`], [`s3_faults`] | an S3 server, and a proxy that makes it misbehave |
//! | [`jwt`] | an issuer of JSON Web Tokens |
//! | [`farm`] | several servers over one Redis and one S3 server, behind one address, and what is done to them |
//! | [`history`] | what clients of a cache saw, and whether it may be so |
//! | [`wire`] | a TCP proxy that counts bytes, and delays, cuts, stalls and changes them |
//! | [`web`] | an HTTP server that does to its clients what a test tells it to |
//! | [`network`] | machines with addresses of their own |
//! | [`numbers`] | numbers that follow from a seed |
//! | [`seeds`] | which seeds a test runs |
//! | [`git`] | git repositories, and a server of them |
//! | [`bases`] | the base images |
//! | [`service`] | an image that serves HTTP, while `ashlar run` runs it |
//! | [`skip`] | tests that cannot run on this machine, and say so |
//!
//! Everything here panics when it cannot do its work: what fails in a test's footing fails the
//! test, and the message says what was missing.
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    reason = "test support: whatever goes wrong is the failure of a test"
)]

pub mod bases;
pub mod binary;
pub mod cache_server;
pub mod collector;
pub mod command;
pub mod context;
pub mod environment;
pub mod farm;
pub mod git;
pub mod history;
pub mod home;
pub mod judge;
pub mod jwt;
pub mod layout;
pub mod network;
pub mod numbers;
pub mod processes;
pub mod progress;
pub mod reapi;
pub mod redis;
pub mod registry;
pub mod s3;
pub mod s3_faults;
pub mod seeds;
pub mod service;
pub mod skip;
pub mod trace;
pub mod tree;
pub mod user;
pub mod web;
pub mod wire;
pub mod worker;

mod http;
