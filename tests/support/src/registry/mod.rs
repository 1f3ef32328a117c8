//! Registries on the loopback interface: Debian's docker-registry, and a proxy before it that
//! asks for tokens, loses bytes, or gives answers that it should not.

mod certificates;
mod debian;

mod proxy;

pub use certificates::Authority;
pub use debian::{Access, Registry};
pub use proxy::{Fault, Proxy, Request};

use std::net::TcpListener;

/// The user that the registries with a login know.
pub const USER: &str = "ashlar";
/// That user's password.
pub const PASSWORD: &str = "stone-cutter";

/// A port that nobody listens on, now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("there is no free port")
        .port()
}
