//! The files that are made for one container: `/etc/hosts`, a RUN's script, and secrets.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use ashlar_model::mount::Owner;
use ashlar_model::step::{ExtraHost, Network};
use rustix::mount::MountAttrFlags;

use super::super::error::SetupError;
use super::super::spec::{ContainerSpec, Mount};
use super::mount::{attach, clone_tree};
use super::mount_point::{Kind, MountPoints};
use super::runtime::Runtime;

/// Files of one container, in a directory of its own, which goes with this value.
#[derive(Debug)]
pub(in super::super) struct RunFiles {
    directory: PathBuf,
    /// Name in the runtime's tmpfs of what becomes `/etc/resolv.conf`.
    resolver: &'static str,
    /// Where the script belongs, if there is one.
    script: Option<String>,
}

impl RunFiles {
    /// Writes them, in the process that will wait for the container's end.
    pub(in super::super) fn make(
        runtime: &Runtime,
        spec: &ContainerSpec,
    ) -> Result<Self, SetupError> {
        let failed = || SetupError::system("the container's files cannot be written");
        let directory = runtime.path(&format!("runs/{}", std::process::id()));
        if let Err(error) = fs::create_dir(&directory) {
            // Of an earlier process of the same number, which was killed.
            let left = error.kind() == io::ErrorKind::AlreadyExists;
            let remade = if left { remake(&directory) } else { Err(error) };
            remade.map_err(failed())?;
        }
        let files = Self {
            directory,
            resolver: match spec.network {
                Network::Host => "resolv.conf",
                Network::None => "nothing",
            },
            script: spec.script.as_ref().map(|script| script.path.clone()),
        };
        files
            .write(
                "hosts",
                0o644,
                hosts(&spec.hostname, &spec.extra_hosts).as_bytes(),
            )
            .map_err(failed())?;
        if let Some(script) = &spec.script {
            files
                .write("script", 0o755, script.body.as_bytes())
                .map_err(failed())?;
        }
        for (number, mount) in spec.mounts.iter().enumerate() {
            if let Mount::Secret(secret) = mount {
                let Owner { mode, uid, gid } = secret.owner;
                runtime.check_owner(secret.owner)?;
                let name = secret_name(number);
                files
                    .write(&name, mode, secret.value.reveal())
                    .and_then(|()| chown(files.directory.join(&name), Some(uid), Some(gid)))
                    // Changing the owner takes some bits away.
                    .and_then(|()| {
                        let path = files.directory.join(&name);
                        fs::set_permissions(path, fs::Permissions::from_mode(mode))
                    })
                    .map_err(failed())?;
            }
        }
        Ok(files)
    }

    /// Where the value of the secret lies that is the container's mount of this number.
    pub(super) fn secret(&self, number: usize) -> PathBuf {
        self.directory.join(secret_name(number))
    }

    fn write(&self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = self.directory.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        // The umask is that of whoever started the builder.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)
    }

    /// Shows the files, read-only, where containers look for them.
    pub(super) fn mount(
        &self,
        runtime: &Runtime,
        points: &mut MountPoints<'_>,
    ) -> Result<(), SetupError> {
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV;
        let data = read_only | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mut show = |host: PathBuf, path: &str, attributes| -> Result<(), SetupError> {
            let failed = |errno: rustix::io::Errno| SetupError::Mount {
                path: path.to_owned(),
                source: errno.into(),
            };
            let target = points.open(path, Kind::File)?;
            let tree = clone_tree(&host, attributes, false).map_err(failed)?;
            attach(&tree, &target).map_err(failed)
        };
        show(runtime.path(self.resolver), "/etc/resolv.conf", data)?;
        show(self.directory.join("hosts"), "/etc/hosts", data)?;
        if let Some(path) = &self.script {
            show(self.directory.join("script"), path, read_only)?;
        }
        Ok(())
    }
}

fn secret_name(number: usize) -> String {
    format!("secret-{number}")
}

fn remake(directory: &Path) -> io::Result<()> {
    fs::remove_dir_all(directory)?;
    fs::create_dir(directory)
}

impl Drop for RunFiles {
    fn drop(&mut self) {
        // It is memory of the sandbox, which goes with it at the latest.
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

/// The text of `/etc/hosts`, as BuildKit writes it.
fn hosts(hostname: &str, extra: &[ExtraHost]) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost");
    if !hostname.is_empty() {
        text.push(' ');
        text.push_str(hostname);
    }
    text.push_str("\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for host in extra {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "{}\t{}", host.address, host.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_the_loopback_names_then_the_extra_ones() {
        let extra = [
            ExtraHost {
                name: "db".to_owned(),
                address: "10.0.0.1".parse().unwrap(),
            },
            ExtraHost {
                name: "six".to_owned(),
                address: "fe80::1".parse().unwrap(),
            },
        ];
        assert_eq!(
            hosts("box", &extra),
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             10.0.0.1\tdb\nfe80::1\tsix\n"
        );
        assert_eq!(
            hosts("", &[]),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        );
    }
}
