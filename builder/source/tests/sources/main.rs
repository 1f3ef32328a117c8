//! Fetching from real servers: files over HTTP, repositories through git's own server.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod git;
mod http;
mod support;
