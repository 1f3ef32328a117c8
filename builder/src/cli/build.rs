//! `ashlar build`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_model::step::{ExtraHost, Network, Ulimit};
use ashlar_telemetry::Collector;
use clap::Args;

use super::value::{
    self, BuildArg, CacheArg, CacheStore, Call, Entitlement, FarmArg, Label, Method, NamedContext,
    SecretArg, SignArg, Size, SshArg, TrustArg,
};
use crate::shared::CacheFlags;
use crate::ui::ProgressMode;

/// Build an image from a Dockerfile.
///
/// Steps whose inputs are ready run at once; steps that gave a result before are not run again.
/// With -t and no --output the image stays in the local store under that name.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar build -t hello .                              build ./Dockerfile, keep the image as hello
  ashlar build -f app.Dockerfile --target test .       build one stage
  ashlar build -o type=oci,dest=hello.tar .            write an OCI archive
  ashlar build -o out .                                write the files of the image to ./out
  ashlar build -t registry.example.com/hello --push .  build and push
  tar c . | ashlar build -t hello -                    context from standard input
  ashlar build --check .                               lint the Dockerfile, build nothing
  ashlar build --cache grpc://cache:8980 .             share results with other machines
  ashlar build --remote grpc://farm:8980 .             run the steps on a farm of workers
  ashlar build https://example.com/app.git#v1:dir      a directory of a git repository
  ashlar build https://example.com/app.tar.gz          an archive, or a Dockerfile alone

Outputs (-o, more than one may be given):
  type=oci,dest=FILE.tar | type=oci,tar=false,dest=DIR    OCI image layout
  type=docker,dest=FILE.tar                               archive for `docker load`
  type=local,dest=DIR | type=tar,dest=FILE                the files, without image
  type=image,name=REF,push=true                           to a registry
  name=REF, compression=gzip|zstd|uncompressed, compression-level=N and, with a SOURCE_DATE_EPOCH,
  rewrite-timestamp=true go with all that carry layers.")]
pub struct BuildArgs {
    /// Dockerfile, relative to the current directory, or in a context from elsewhere; `-` reads it
    /// from standard input, a URL fetches it [default: Dockerfile in the context]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Name of the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME", value_parser = value::tag)]
    pub tags: Vec<Reference>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Value of an ARG; without `=VALUE` it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<BuildArg>,

    /// Label of the image
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<Label>,

    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = value::platform)]
    pub platform: Option<Platform>,

    /// Another context, for FROM and COPY --from by name: NAME=DIR, NAME=oci-layout://DIR:TAG,
    /// NAME=docker-image://REF, or NAME=URL of a git repository or a file
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub build_contexts: Vec<NamedContext>,

    /// Run every step, even those whose result is known; results are stored and sent all the same
    #[arg(long)]
    pub no_cache: bool,

    /// Cache shared with other machines: grpc://HOST:PORT, grpcs://HOST:PORT or unix:///PATH, with
    /// ,instance=NAME ,mode=read|write|readwrite ,token-file=FILE ,token-env=VAR ,ca=FILE
    /// ,cert=FILE,key=FILE, and ,mounts=ID+ID for cache mounts whose contents are shared as well;
    /// `none` for no cache. Several servers of one cache: grpc://HOST:PORT+HOST:PORT.
    /// May be repeated: results are read from the first that has them and sent to all
    /// [default: $ASHLAR_CACHE, else those of the configuration file]
    #[arg(long = "cache", value_name = "URL[,OPTIONS]")]
    pub caches: Vec<CacheArg>,

    /// Cache without a server to read results from: type=registry,ref=NAME or type=local,src=DIR;
    /// may be repeated
    #[arg(long, value_name = "SPEC", value_parser = value::cache_from)]
    pub cache_from: Vec<CacheStore>,

    /// Cache without a server to send results to: type=registry,ref=NAME or type=local,dest=DIR;
    /// may be repeated
    #[arg(long, value_name = "SPEC", value_parser = value::cache_to)]
    pub cache_to: Vec<CacheStore>,

    /// Sign the results that are sent to caches with a private key: FILE or env=VARIABLE, with
    /// ,name=NAME for what the builder is called; `none` for not
    /// [default: $ASHLAR_CACHE_SIGN, else as the configuration file says]
    #[arg(long, value_name = "KEY[,name=NAME]")]
    pub cache_sign: Option<SignArg>,

    /// Which results are taken from caches: `any`, signed=FILE[+FILE] for those that one of these
    /// public keys (files, or directories of them) has signed, with ,signer=NAME[+NAME] and
    /// ,instance=NAME[+NAME]; or policy=FILE
    /// [default: $ASHLAR_CACHE_TRUST, else as the configuration file says, else any]
    #[arg(long, value_name = "POLICY")]
    pub cache_trust: Option<TrustArg>,

    /// How long to wait at the end until results are sent to the caches; 0 leaves at once
    /// [default: 30s; until all is sent with --cache-to]
    #[arg(long, value_name = "TIME", value_parser = value::wait)]
    pub cache_wait: Option<Duration>,

    /// Build on a farm of workers: the address of its server, as for --cache, with ,label=NAME=VALUE
    /// for workers that have this label, ,priority=N for its turn earlier (below 0) or later, and
    /// ,farm-key=KEY for a public key (or a file with one) that secrets are sealed to; `none` for
    /// building here. The farm's cache is the build's cache; nothing runs here
    /// [default: $ASHLAR_REMOTE, else as the configuration file says]
    #[arg(long, value_name = "URL[,OPTIONS]")]
    pub remote: Option<FarmArg>,

    /// Build here if the farm cannot be reached, or has no worker for the build
    #[arg(long)]
    pub remote_fallback: bool,

    /// Send a trace of the build to this collector of OpenTelemetry (OTLP over gRPC):
    /// http://HOST:PORT, https://HOST:PORT, or env for that in OTEL_EXPORTER_OTLP_ENDPOINT
    /// [default: $ASHLAR_TRACE]
    #[arg(long, value_name = "URL")]
    pub trace: Option<Collector>,

    /// Ask the registry for base images, even those in the local store
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub pull: bool,

    /// How many steps run at once [default: $ASHLAR_JOBS, else the number of processors]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// Network of RUN: `host` (also called `default`) or `none`
    #[arg(long, value_name = "NETWORK", default_value = "default", value_parser = value::network)]
    pub network: Network,

    /// Line for /etc/hosts of RUN: HOST:IP or HOST=IP; `host-gateway` stands for this machine
    #[arg(long = "add-host", value_name = "HOST:IP", value_parser = value::extra_host)]
    pub add_hosts: Vec<ExtraHost>,

    /// Secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=NAME
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub secrets: Vec<SecretArg>,

    /// SSH agent for RUN --mount=type=ssh: `default` for the one that SSH_AUTH_SOCK names, or
    /// ID=SOCKET
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub ssh: Vec<SshArg>,

    /// What the Dockerfile may ask for: `security.insecure` for RUN --security=insecure,
    /// `network.host` for RUN --network=host in a build with --network none
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_parser = value::entitlement)]
    pub allowed: Vec<Entitlement>,

    /// Size of /dev/shm of RUN [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<Size>,

    /// Limit on a resource of RUN: NAME=SOFT or NAME=SOFT:HARD
    #[arg(long = "ulimit", value_name = "LIMIT", value_parser = value::ulimit)]
    pub ulimits: Vec<Ulimit>,

    /// Where the result goes; may be repeated. A bare path means type=local, `-` a tar on
    /// standard output
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<String>,

    /// Push the image to the registries of its names: short for --output type=image,push=true
    #[arg(long)]
    pub push: bool,

    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Write digests and names of what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    /// How progress is shown [default: $ASHLAR_PROGRESS, else auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub progress: Option<ProgressMode>,

    /// Show nothing but errors, and print the image ID at the end
    #[arg(short, long)]
    pub quiet: bool,

    /// Look at the build instead of running it: `check` (lint), `outline` (what it can be given),
    /// `targets` (its stages); with `,format=json` for programs
    #[arg(
        long,
        value_name = "METHOD[,format=json]",
        default_value = "build",
        hide_default_value = true
    )]
    call: Call,

    /// Lint the Dockerfile and build nothing: short for --call=check
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    check: bool,

    #[command(flatten)]
    legacy: LegacyArgs,

    /// Directory of the files that COPY and ADD see, or the URL of a git repository, an archive or
    /// a Dockerfile; `-` reads an archive, or a Dockerfile alone, from standard input
    #[arg(value_name = "CONTEXT")]
    pub context: PathBuf,
}

/// Flags of Docker's that say what Ashlar does anyway, or that mean nothing without a daemon.
#[derive(Debug, Clone, Args)]
struct LegacyArgs {
    /// Remove intermediate containers: there are none
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// Remove intermediate containers even after failures: there are none
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_rm: Option<bool>,
    /// Compress the context on its way to the daemon: there is no daemon
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    compress: Option<bool>,
}

impl BuildArgs {
    /// The caches that are named.
    pub fn cache_flags(&self) -> CacheFlags<'_> {
        CacheFlags {
            servers: &self.caches,
            from: &self.cache_from,
            to: &self.cache_to,
            sign: self.cache_sign.as_ref(),
            trust: self.cache_trust.as_ref(),
            is_build: true,
            farm: None,
        }
    }

    /// Whether the context comes from standard input.
    pub fn context_is_stdin(&self) -> bool {
        self.context.as_os_str() == "-"
    }

    /// Whether the Dockerfile comes from standard input.
    pub fn file_is_stdin(&self) -> bool {
        self.file
            .as_ref()
            .is_some_and(|file| file.as_os_str() == "-")
    }

    /// What is done with the build: `--call`, or `--check`.
    pub fn call(&self) -> Call {
        match (self.call.method, self.check) {
            (Method::Build, true) => Call {
                method: Method::Check,
                ..self.call
            },
            _ => self.call,
        }
    }

    /// What clap cannot check: flags that exclude each other.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.check && !matches!(self.call.method, Method::Build | Method::Check) {
            return Err("--check and --call ask for different things".into());
        }
        if self.context_is_stdin() && self.file_is_stdin() {
            return Err(
                "the context and the Dockerfile cannot both come from standard input".into(),
            );
        }
        if self.push && self.tags.is_empty() && self.outputs.is_empty() {
            return Err("--push needs a name to push to: give --tag NAME".into());
        }
        let mut names: Vec<&str> = self
            .build_contexts
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(format!("build context `{}` is given twice", twice[0])),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{Command, parse};
    use super::*;

    fn build(arguments: &[&str]) -> Result<BuildArgs, String> {
        let all = ["ashlar", "build"].iter().chain(arguments);
        match parse(all.map(OsString::from))
            .map_err(|e| e.to_string())?
            .command
        {
            Command::Build(build) => Ok(*build),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_forms_of_the_issue_are_read() {
        let args = build(&[
            "-f",
            "a/Dockerfile",
            "-t",
            "one",
            "-t",
            "localhost:5000/two:2",
            "--target",
            "s",
            "--build-arg",
            "A",
            "--build-arg",
            "B=c=d",
            "--label",
            "k=v",
            "--platform",
            "linux/x86_64",
            "--build-context",
            "src=../src",
            "--no-cache",
            "--pull",
            "--jobs",
            "3",
            "--network",
            "none",
            "--add-host",
            "db:10.0.0.1",
            "-o",
            "out",
            "--output",
            "type=oci,dest=x.tar",
            "--push",
            "--iidfile",
            "iid",
            "--metadata-file",
            "meta",
            "--progress",
            "plain",
            "-q",
            "context",
        ])
        .unwrap();
        assert_eq!(args.tags.len(), 2);
        assert_eq!(args.build_args[0].value, None);
        assert_eq!(args.build_args[1].value.as_deref(), Some("c=d"));
        assert_eq!(args.platform.as_ref().unwrap().to_string(), "linux/amd64");
        assert_eq!(args.jobs.unwrap().get(), 3);
        assert_eq!(args.network, Network::None);
        assert_eq!(args.outputs, ["out", "type=oci,dest=x.tar"]);
        assert!(args.pull && args.push && args.quiet && args.no_cache);
        assert_eq!(args.progress, Some(ProgressMode::Plain));
        assert_eq!(args.context, PathBuf::from("context"));
    }

    #[test]
    fn what_docker_ignores_is_accepted() {
        let args = build(&[
            "--rm",
            "--force-rm=false",
            "--compress",
            "--pull=false",
            ".",
        ])
        .unwrap();
        assert!(!args.pull);
        assert!(build(&["--pull=true", "."]).unwrap().pull);
        // The flag takes no separate value: a context may follow it.
        assert_eq!(build(&["--pull", "."]).unwrap().context, PathBuf::from("."));
    }

    #[test]
    fn standard_input_is_read_once() {
        assert!(build(&["-"]).unwrap().context_is_stdin());
        assert!(build(&["-f", "-", "."]).unwrap().file_is_stdin());
        let error = build(&["-f", "-", "-"]).unwrap_err();
        assert!(error.contains("standard input"), "{error}");
    }

    #[test]
    fn a_build_may_only_be_looked_at() {
        let method = |arguments: &[&str]| build(arguments).map(|args| args.call().method);
        assert_eq!(method(&["."]), Ok(Method::Build));
        assert_eq!(method(&["--check", "."]), Ok(Method::Check));
        assert_eq!(method(&["--check=false", "."]), Ok(Method::Build));
        assert_eq!(method(&["--call", "targets", "."]), Ok(Method::Targets));
        let call = build(&["--check", "--call=check,format=json", "."])
            .unwrap()
            .call();
        assert!(call.json && call.method == Method::Check);
        let error = method(&["--check", "--call=outline", "."]).unwrap_err();
        assert!(error.contains("different"), "{error}");
    }

    #[test]
    fn a_context_is_required() {
        let error = build(&[]).unwrap_err();
        assert!(error.contains("<CONTEXT>"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, message) in [
            (&["--tagg", "x", "."][..], "'--tag'"),
            (&["-t", "UPPER", "."], "lowercase"),
            (&["--network", "bridge", "."], "bridge"),
            (&["--add-host", "db", "."], "db"),
            (
                &["--platform", "linux/amd64,linux/arm64", "."],
                "one platform",
            ),
            (&["--jobs", "0", "."], "0"),
            (&["--push", "."], "--tag"),
            (&["--progress", "loud", "."], "loud"),
            (&["--build-arg", "=x", "."], "name"),
            (
                &["--build-context", "a=x", "--build-context", "a=y", "."],
                "twice",
            ),
        ] {
            let error = build(arguments).unwrap_err();
            assert!(error.contains(message), "{arguments:?}: {error}");
        }
    }
}
