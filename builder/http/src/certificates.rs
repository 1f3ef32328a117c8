//! Whom to trust: the certificate authorities of `$SSL_CERT_FILE` and `$SSL_CERT_DIR`, else those
//! of the system's bundle; and more, for whoever asks for more.
//!
//! The system's bundle may hold entries that nobody can read any more: they are left out. A file
//! that somebody put there for Ashlar must be right, or it is an error.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::environment::HttpEnvironment;

/// Where Linux distributions, FreeBSD and macOS keep their bundle, most common first.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// A certificate file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("cannot read the certificates in {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no PEM, or there is nothing in it.
    #[error("{} holds no usable {what} in PEM form", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// A client certificate lacks its key.
    #[error("{} has no key beside it: {} is missing", certificate.display(), key.display())]
    NoKey {
        /// The certificate.
        certificate: PathBuf,
        /// The file that should be there.
        key: PathBuf,
    },
    /// Certificate and key do not go together, or TLS cannot be set up at all.
    #[error("cannot set up TLS for {server}")]
    Tls {
        /// The server.
        server: String,
        /// Why not.
        source: rustls::Error,
    },
}

/// Makes TLS configurations. The system's bundle is read at the first use, once.
#[derive(Debug, Default)]
pub struct Certificates {
    system: OnceLock<RootCertStore>,
}

/// What is trusted beside the system's authorities.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Files with certificate authorities.
    pub files: Vec<PathBuf>,
    /// Directories as in `certs.d`: `*.crt` are authorities, `NAME.cert` and `NAME.key` the
    /// client's own certificate. They need not exist.
    pub directories: Vec<PathBuf>,
}

impl Certificates {
    /// TLS for one server.
    pub fn config_for(
        &self,
        server: &str,
        environment: &HttpEnvironment,
        extra: &Extra,
    ) -> Result<ClientConfig, CertificateError> {
        let mut roots = self
            .system
            .get_or_init(|| system_roots(environment))
            .clone();
        for path in &extra.files {
            add_file(&mut roots, path)?;
        }
        let mut identity = None;
        for directory in &extra.directories {
            add_directory(&mut roots, &mut identity, directory)?;
        }
        let tls = |source| CertificateError::Tls {
            server: server.to_owned(),
            source,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(roots);
        match identity {
            Some((certificates, key)) => builder
                .with_client_auth_cert(certificates, key)
                .map_err(tls),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

/// The system's authorities as they are written, in PEM, for those who set up TLS themselves.
pub fn system_pem(environment: &HttpEnvironment) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut add = |path: &Path| match fs::read(path) {
        Ok(bytes)
            if CertificateDer::pem_slice_iter(&bytes)
                .flatten()
                .next()
                .is_some() =>
        {
            found.push(bytes);
            true
        }
        _ => false,
    };
    of_system(environment, &mut add);
    found
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The system's authorities. No bundle at all is no error yet: a server's own authority may do.
fn system_roots(environment: &HttpEnvironment) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    of_system(environment, &mut |path| {
        let Ok(bytes) = fs::read(path) else {
            return false;
        };
        let certificates = CertificateDer::pem_slice_iter(&bytes).flatten();
        roots.add_parsable_certificates(certificates).0 > 0
    });
    roots
}

/// Shows `add` the files that may hold the system's authorities. It says whether one did.
fn of_system(environment: &HttpEnvironment, add: &mut dyn FnMut(&Path) -> bool) {
    let chosen = environment.ssl_cert_file.is_some() || environment.ssl_cert_dir.is_some();
    if let Some(file) = &environment.ssl_cert_file {
        add(file);
    }
    if let Some(directory) = &environment.ssl_cert_dir {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            add(&entry.path());
        }
    }
    if !chosen {
        // The first that has any certificate is the system's; the others are links to it.
        SYSTEM_BUNDLES.iter().any(|path| add(Path::new(path)));
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unusable = || CertificateError::Unusable {
        path: path.to_owned(),
        what: "certificate",
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| unusable())?;
    if certificates.is_empty() {
        return Err(unusable());
    }
    Ok(certificates)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), CertificateError> {
    for certificate in certificates_in(path)? {
        roots
            .add(certificate)
            .map_err(|_| CertificateError::Unusable {
                path: path.to_owned(),
                what: "certificate",
            })?;
    }
    Ok(())
}

fn add_directory(
    roots: &mut RootCertStore,
    identity: &mut Option<Identity>,
    directory: &Path,
) -> Result<(), CertificateError> {
    let failed = |source| CertificateError::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        // Others than root may not look into a directory of root's: then it is not for them.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => add_file(roots, &path)?,
            Some("cert") => *identity = Some(client_identity(&path)?),
            _ => {}
        }
    }
    Ok(())
}

fn client_identity(certificate: &Path) -> Result<Identity, CertificateError> {
    let key = certificate.with_extension("key");
    if !key.exists() {
        return Err(CertificateError::NoKey {
            certificate: certificate.to_owned(),
            key,
        });
    }
    let private =
        PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|_| CertificateError::Unusable {
            path: key,
            what: "private key",
        })?;
    Ok((certificates_in(certificate)?, private))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &Extra) -> Result<ClientConfig, CertificateError> {
        let environment = HttpEnvironment::default();
        Certificates::default().config_for("example.com", &environment, extra)
    }

    #[test]
    fn no_files_at_all_are_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let environment = HttpEnvironment {
            ssl_cert_file: Some(directory.path().join("missing")),
            ..HttpEnvironment::default()
        };
        let extra = Extra {
            directories: vec![directory.path().join("missing")],
            ..Extra::default()
        };
        Certificates::default()
            .config_for("example.com", &environment, &extra)
            .unwrap();
    }

    #[test]
    fn a_bad_authority_is_named_and_other_files_do_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let extra = Extra {
            directories: vec![directory.path().to_owned()],
            ..Extra::default()
        };
        fs::write(directory.path().join("README"), "no certificate").unwrap();
        config(&extra).unwrap();
        fs::write(directory.path().join("ca.crt"), "no certificate").unwrap();
        let error = config(&extra).unwrap_err();
        assert!(
            matches!(&error, CertificateError::Unusable { path, .. } if path.ends_with("ca.crt")),
            "{error}"
        );
    }

    #[test]
    fn a_client_certificate_needs_its_key() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("client.cert"), "x").unwrap();
        let extra = Extra {
            directories: vec![directory.path().to_owned()],
            ..Extra::default()
        };
        let error = config(&extra).unwrap_err();
        assert!(matches!(error, CertificateError::NoKey { .. }), "{error}");
    }

    #[test]
    fn a_missing_file_of_the_list_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let extra = Extra {
            files: vec![directory.path().join("ca.pem")],
            ..Extra::default()
        };
        let error = config(&extra).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
