//! A certificate authority that nobody trusts by default, made by openssl.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::TestCommand;
use crate::environment;

/// An authority and one certificate for `localhost` and `127.0.0.1`.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Makes keys and certificates.
    pub fn new() -> Self {
        let directory = environment::scratch_directory("certificates");
        let authority = Self { directory };
        let request = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let own = ["-x509", "-days", "2", "-subj", "/CN=Ashlar Test Authority"];
        authority.openssl(
            &[
                &request[..],
                &own[..],
                &["-keyout", "ca.key", "-out", "ca.crt"],
            ]
            .concat(),
        );
        let server = [
            "-subj",
            "/CN=localhost",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ];
        authority.openssl(&[&request[..], &server[..]].concat());
        fs::write(
            authority.path("names"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .expect("cannot write a certificate's names");
        let sign = [
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
        ];
        let signed = [
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.crt",
        ];
        authority.openssl(&[&sign[..], &signed[..]].concat());
        authority
    }

    fn openssl(&self, arguments: &[&str]) {
        TestCommand::root("openssl")
            .args(arguments)
            .directory(self.directory.path())
            .run()
            .success();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The authority's certificate in PEM.
    pub fn certificate(&self) -> Vec<u8> {
        fs::read(self.path("ca.crt")).expect("cannot read a certificate")
    }

    /// The server's certificate and key.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.path("server.crt"), self.path("server.key"))
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
