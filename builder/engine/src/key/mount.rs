//! What of a mount enters the key of its RUN: what the command can see of it without looking at
//! files. Those of binds and seeds are inputs of their own; those of caches, values of secrets
//! and what agents hold must not matter.

use ashlar_model::content_hash::KeyEncoder;
use ashlar_model::mount::{
    BindMount, CacheMount, MountSource, MountSpec, OptionalOwner, Owner, SecretMount, SshMount,
    TmpfsMount,
};

// Fields are named one by one, so that a new one cannot be forgotten.
pub(super) fn encode_mount(mount: &MountSpec, encoder: &mut KeyEncoder) {
    match mount {
        MountSpec::Bind(bind) => {
            let BindMount {
                target,
                source,
                read_only,
            } = bind;
            encoder.tag("bind").value(target).value(read_only);
            encode_source(source, encoder);
        }
        MountSpec::Cache(cache) => {
            let CacheMount {
                target,
                id: _,
                sharing: _,
                seed,
                owner: OptionalOwner { mode, uid, gid },
                read_only,
            } = cache;
            encoder.tag("cache").value(target).value(read_only);
            encoder.value(mode).value(uid).value(gid);
            encoder.value(&seed.is_some());
            if let Some(seed) = seed {
                encode_source(seed, encoder);
            }
        }
        MountSpec::Tmpfs(tmpfs) => {
            let TmpfsMount {
                target,
                size,
                read_only,
            } = tmpfs;
            encoder
                .tag("tmpfs")
                .value(target)
                .value(size)
                .value(read_only);
        }
        MountSpec::Secret(secret) => {
            let SecretMount {
                id,
                file,
                env,
                required,
            } = secret;
            encoder.tag("secret").value(id).value(env).value(required);
            encoder.value(&file.is_some());
            if let Some(file) = file {
                encoder.value(&file.target);
                encode_owner(file.owner, encoder);
            }
        }
        MountSpec::Ssh(ssh) => {
            let SshMount {
                id,
                target,
                owner,
                required,
            } = ssh;
            encoder.tag("ssh").value(id).value(target).value(required);
            encode_owner(*owner, encoder);
        }
    }
}

fn encode_source(source: &MountSource, encoder: &mut KeyEncoder) {
    let MountSource { layers: _, path } = source;
    encoder.value(path);
}

fn encode_owner(owner: Owner, encoder: &mut KeyEncoder) {
    let Owner { mode, uid, gid } = owner;
    encoder.value(&mode).value(&uid).value(&gid);
}

/// A mount as people read it: as far as it enters the key.
pub(super) fn shown_mount(mount: &MountSpec) -> String {
    let access = |read_only: bool| if read_only { " read-only" } else { "" };
    let seeded = |source: Option<&MountSource>| {
        source.map_or_else(String::new, |source| format!(" from {}", source.path))
    };
    match mount {
        MountSpec::Bind(bind) => format!(
            "bind {}{}{}",
            bind.target,
            seeded(Some(&bind.source)),
            access(bind.read_only)
        ),
        MountSpec::Cache(cache) => format!(
            "cache {}{}{}",
            cache.target,
            seeded(cache.seed.as_ref()),
            access(cache.read_only)
        ),
        MountSpec::Tmpfs(tmpfs) => {
            let size = tmpfs
                .size
                .map_or_else(String::new, |size| format!(" of {size} bytes"));
            format!("tmpfs {}{size}{}", tmpfs.target, access(tmpfs.read_only))
        }
        MountSpec::Secret(secret) => {
            let file = secret.file.as_ref();
            let file = file.map_or_else(String::new, |file| format!(" at {}", file.target));
            let env = secret.env.as_ref();
            let env = env.map_or_else(String::new, |env| format!(" as ${env}"));
            format!("secret {}{file}{env}", secret.id)
        }
        MountSpec::Ssh(ssh) => format!("ssh {} at {}", ssh.id, ssh.target),
    }
}
