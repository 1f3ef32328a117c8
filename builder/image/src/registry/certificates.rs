//! Whom to trust: more certificate authorities for single registries.
//!
//! | place | for |
//! |---|---|
//! | `$SSL_CERT_FILE`, `$SSL_CERT_DIR`, else the system's bundle | all registries |
//! | the list in the settings | all registries |
//! | `/etc/docker/certs.d/HOST/`, `/etc/containers/certs.d/HOST/`, `~/.config/containers/certs.d/HOST/`, `~/.config/docker/certs.d/HOST/` | the registry `HOST` (with its port) |

use std::path::PathBuf;

use ashlar_http::certificates::Extra;

use super::settings::RegistrySettings;

/// What is trusted of one registry beside the system's authorities.
pub(super) fn extra(registry: &str, settings: &RegistrySettings) -> Extra {
    let mut parents = vec![
        PathBuf::from("/etc/docker/certs.d"),
        PathBuf::from("/etc/containers/certs.d"),
    ];
    if let Some(config) = settings.environment.config_directory() {
        parents.push(config.join("containers/certs.d"));
        parents.push(config.join("docker/certs.d"));
    }
    Extra {
        files: settings.extra_certificates.clone(),
        directories: parents
            .into_iter()
            .map(|parent| parent.join(registry))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryEnvironment;

    #[test]
    fn a_registry_has_directories_of_its_own() {
        let settings = RegistrySettings {
            environment: RegistryEnvironment {
                home: Some("/home/u".into()),
                ..RegistryEnvironment::default()
            },
            extra_certificates: vec!["/ca.pem".into()],
            ..RegistrySettings::default()
        };
        let extra = extra("example.com:5000", &settings);
        assert_eq!(extra.files, [PathBuf::from("/ca.pem")]);
        let own = PathBuf::from("/home/u/.config/containers/certs.d/example.com:5000");
        assert!(extra.directories.contains(&own), "{extra:?}");
    }
}
