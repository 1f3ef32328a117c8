//! What a command goes by: flag, else environment, else default, resolved in one place.

pub mod clock;
pub mod config;
pub mod env;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_remote::address::FarmSpec;
use ashlar_sharing::address::CacheSpec;
use ashlar_store::home::Home;
use ashlar_store::home::quota::SMALLEST_QUOTA;
use ashlar_telemetry::collector::{Collector, CollectorError};
use clap::ValueEnum as _;
use rustix::termios::isatty;

use crate::cli::GlobalArgs;
use crate::cli::value::{CacheArg, FarmArg, Quota, SignArg, TrustArg};
use crate::diagnostics::CliError;
use crate::ui::ProgressMode;
use clock::Clock;
use config::Config;
use env::Environment;

/// How long a build waits at its end until its results are sent, if nobody says.
const CACHE_WAIT: Duration = Duration::from_secs(30);

/// What every command is given beside its own arguments.
#[derive(Debug, Clone)]
pub struct Settings {
    environment: Environment,
    home: Option<PathBuf>,
    quota: Option<Quota>,
    clock: Clock,
    color: bool,
    tls_verify: bool,
}

impl Settings {
    /// Resolves the flags that all commands share.
    pub fn resolve(global: &GlobalArgs, environment: Environment, clock: Clock) -> Self {
        let home = global.home.clone().or_else(|| default_home(&environment));
        let color = isatty(std::io::stderr())
            && !environment.no_color()
            && environment.terminal_is_capable();
        Self {
            environment,
            home,
            quota: global.store_quota,
            clock,
            color,
            tls_verify: global.tls_verify.unwrap_or(true),
        }
    }

    /// The environment.
    pub const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The clock.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether registries have to show a certificate that can be checked.
    pub const fn tls_verify(&self) -> bool {
        self.tls_verify
    }

    /// Whether standard error may be coloured.
    pub const fn color(&self) -> bool {
        self.color
    }

    /// Directory of the local store: `--home`, else `$ASHLAR_HOME`, else `ashlar` below
    /// `$XDG_DATA_HOME` or `$HOME/.local/share`.
    pub fn home(&self) -> Result<&PathBuf, CliError> {
        self.home.as_ref().ok_or_else(|| {
            CliError::usage("cannot tell where the store is: HOME is not set")
                .hint("set ASHLAR_HOME, or give --home DIR")
        })
    }

    /// Opens the local store, making it if there is none, and gives it the quota that was asked
    /// for: by the flag, else by `$ASHLAR_STORE_QUOTA`.
    pub fn open_home(&self) -> Result<Home, CliError> {
        let home = Home::open(self.home()?)?;
        match self.quota()? {
            None => {}
            Some(Quota::None) => home.set_quota(None)?,
            Some(Quota::Bytes(bytes)) => home.set_quota(Some(bytes))?,
            Some(Quota::Percent(percent)) => {
                home.set_quota(Some(part_of_filesystem(home.root(), percent)?))?;
            }
        }
        Ok(home)
    }

    fn quota(&self) -> Result<Option<Quota>, CliError> {
        match (self.quota, self.environment.store_quota()) {
            (Some(quota), _) => Ok(Some(quota)),
            (None, Some(text)) => text.parse().map(Some).map_err(|error| {
                CliError::usage(format!("ASHLAR_STORE_QUOTA is wrong: {error}"))
                    .hint("set it as in `ASHLAR_STORE_QUOTA=20GB`, or unset it")
            }),
            (None, None) => Ok(None),
        }
    }

    /// The configuration file: `$ASHLAR_CONFIG`, else `ashlar/config.toml` below
    /// `$XDG_CONFIG_HOME` or `$HOME/.config`.
    fn config(&self) -> Result<Config, CliError> {
        if let Some(path) = self.environment.ashlar_config() {
            return Config::read(&path);
        }
        let directory = self.environment.xdg_config_home();
        let directory = directory.or_else(|| Some(self.environment.home()?.join(".config")));
        match directory {
            Some(directory) => Config::read(&directory.join("ashlar/config.toml")),
            None => Ok(Config::default()),
        }
    }

    /// The shared caches, in order: those of the flags, else of `$ASHLAR_CACHE`, else of the
    /// configuration file. `none` stands for no cache at all.
    pub fn caches(&self, flags: &[CacheArg]) -> Result<Vec<CacheSpec>, CliError> {
        if !flags.is_empty() {
            return Ok(specs(flags));
        }
        let Some(text) = self.environment.cache() else {
            return Ok(self.config()?.caches);
        };
        let parsed = text.split_whitespace().map(|text| {
            text.parse().map_err(|error| {
                CliError::usage(format!("ASHLAR_CACHE is wrong: {error}"))
                    .hint("set it as in `ASHLAR_CACHE=grpc://HOST:PORT`, or unset it")
            })
        });
        Ok(specs(&parsed.collect::<Result<Vec<CacheArg>, _>>()?))
    }

    /// The farm: the flag's, else that of `$ASHLAR_REMOTE`, else of the configuration file. `none`
    /// stands for no farm at all.
    pub fn remote(&self, flag: Option<&FarmArg>) -> Result<Option<FarmSpec>, CliError> {
        let given = match (flag, self.environment.remote()) {
            (Some(flag), _) => flag.clone(),
            (None, Some(text)) => text.parse().map_err(|error| {
                CliError::usage(format!("ASHLAR_REMOTE is wrong: {error}"))
                    .hint("set it as in `ASHLAR_REMOTE=grpc://HOST:PORT`, or unset it")
            })?,
            (None, None) => return Ok(self.config()?.remote),
        };
        Ok(match given {
            FarmArg::None => None,
            FarmArg::Farm(spec) => Some(*spec),
        })
    }

    /// How results are signed: as the flag says, else `$ASHLAR_CACHE_SIGN`, else the configuration
    /// file; `None` if they are not.
    pub fn cache_sign(&self, flag: Option<&SignArg>) -> Result<Option<SignArg>, CliError> {
        let sign = match (flag, self.environment.cache_sign()) {
            (Some(flag), _) => Some(flag.clone()),
            (None, Some(text)) => Some(parsed("ASHLAR_CACHE_SIGN", text)?),
            (None, None) => self.config()?.sign,
        };
        Ok(sign.filter(|sign| *sign != SignArg::None))
    }

    /// Which results are taken from caches: as the flag says, else `$ASHLAR_CACHE_TRUST`, else the
    /// configuration file; any if nobody says.
    pub fn cache_trust(&self, flag: Option<&TrustArg>) -> Result<TrustArg, CliError> {
        match (flag, self.environment.cache_trust()) {
            (Some(flag), _) => Ok(flag.clone()),
            (None, Some(text)) => parsed("ASHLAR_CACHE_TRUST", text),
            (None, None) => Ok(self.config()?.trust.unwrap_or(TrustArg::Any)),
        }
    }

    /// How long a build waits at its end until its results are sent: the flag, else the
    /// configuration file, else half a minute.
    pub fn cache_wait(&self, flag: Option<Duration>) -> Result<Duration, CliError> {
        match flag {
            Some(wait) => Ok(wait),
            None => {
                let wait = self.config()?.cache_wait;
                Ok(wait.map_or(CACHE_WAIT, Duration::from_secs))
            }
        }
    }

    /// The address of the collector that traces of a build go to, if any: the flag, else
    /// `$ASHLAR_TRACE`, else the configuration file.
    pub fn trace(&self, flag: Option<&Collector>) -> Result<Option<String>, CliError> {
        let collector = match (flag, self.environment.trace()) {
            (Some(collector), _) => Some(collector.clone()),
            (None, Some(text)) => Some(text.parse().map_err(|error: CollectorError| {
                CliError::usage(format!("ASHLAR_TRACE is wrong: {error}"))
            })?),
            (None, None) => self.config()?.trace,
        };
        let Some(collector) = collector else {
            return Ok(None);
        };
        let variable = |name: &str| self.environment.text(name).map(ToOwned::to_owned);
        let address = collector.address(variable);
        address.map(Some).map_err(|error| {
            CliError::usage(error.to_string()).hint("set it, or give --trace http://HOST:PORT")
        })
    }

    /// How many steps run at once: the flag, else `$ASHLAR_JOBS`, else the number of processors
    /// that this process may use.
    pub fn jobs(&self, flag: Option<NonZeroUsize>) -> Result<NonZeroUsize, CliError> {
        if let Some(jobs) = flag {
            return Ok(jobs);
        }
        match self.environment.jobs() {
            Some(text) => text.parse().map_err(|_| {
                CliError::usage(format!(
                    "ASHLAR_JOBS is `{text}`, which is no number of steps"
                ))
                .hint("set it to 1 or more, or unset it to use all processors")
            }),
            None => Ok(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        }
    }

    /// How progress is shown: the flag, else `$ASHLAR_PROGRESS`, else `$BUILDKIT_PROGRESS` (a
    /// value that only BuildKit knows is ignored), else `auto`.
    pub fn progress(&self, flag: Option<ProgressMode>) -> Result<ProgressMode, CliError> {
        if let Some(mode) = flag {
            return Ok(mode);
        }
        let parse = |text: &str| ProgressMode::from_str(text, true);
        if let Some(text) = self.environment.progress() {
            return parse(text).map_err(|_| {
                CliError::usage(format!(
                    "ASHLAR_PROGRESS is `{text}`, which is no way to show progress"
                ))
                .hint("set it to auto, tty, plain, json or quiet")
            });
        }
        let buildkit = self.environment.buildkit_progress();
        Ok(buildkit
            .and_then(|text| parse(text).ok())
            .unwrap_or_default())
    }
}

/// A variable's value, which is written as a flag's.
fn parsed<T: std::str::FromStr<Err = String>>(name: &str, text: &str) -> Result<T, CliError> {
    text.parse().map_err(|why| {
        CliError::usage(format!("{name} is wrong: {why}"))
            .hint("set it as the flag of `ashlar build --help`, or unset it")
    })
}

fn specs(arguments: &[CacheArg]) -> Vec<CacheSpec> {
    let named = arguments.iter().filter_map(|argument| match argument {
        CacheArg::None => None,
        CacheArg::Cache(spec) => Some(spec.as_ref().clone()),
    });
    named.collect()
}

fn part_of_filesystem(root: &Path, percent: u8) -> Result<u64, CliError> {
    let filesystem = rustix::fs::statvfs(root).map_err(|error| {
        CliError::environment(format!(
            "cannot tell how large the filesystem of {} is",
            root.display()
        ))
        .caused_by(std::io::Error::from(error))
    })?;
    let size = filesystem.f_blocks.saturating_mul(filesystem.f_frsize);
    Ok((size / 100 * u64::from(percent)).max(SMALLEST_QUOTA))
}

fn default_home(environment: &Environment) -> Option<PathBuf> {
    if let Some(home) = environment.ashlar_home() {
        return Some(home);
    }
    let data = environment
        .xdg_data_home()
        .or_else(|| Some(environment.home()?.join(".local/share")))?;
    Some(data.join("ashlar"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    fn settings(flag: Option<&str>, environment: &[(&str, &str)]) -> Settings {
        let global = GlobalArgs {
            home: flag.map(PathBuf::from),
            tls_verify: None,
            store_quota: None,
        };
        Settings::resolve(
            &global,
            Environment::of_pairs(environment.iter().copied()),
            Clock::System,
        )
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_default() {
        let all = [
            ("ASHLAR_HOME", "/a"),
            ("XDG_DATA_HOME", "/x"),
            ("HOME", "/h"),
        ];
        let home = |flag, environment: &[(&str, &str)]| {
            settings(flag, environment).home().unwrap().clone()
        };
        assert_eq!(home(Some("/f"), &all), Path::new("/f"));
        assert_eq!(home(None, &all), Path::new("/a"));
        assert_eq!(home(None, &all[1..]), Path::new("/x/ashlar"));
        assert_eq!(home(None, &all[2..]), Path::new("/h/.local/share/ashlar"));
        let error = settings(None, &[]).home().unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn a_quota_comes_from_the_flag_then_the_environment_then_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        let open = |flag: Option<&str>, environment: &[(&str, &str)]| {
            let mut settings = settings(Some(root), environment);
            settings.quota = flag.map(|text| text.parse().unwrap());
            settings.open_home().unwrap().quota().unwrap()
        };
        let five = [("ASHLAR_STORE_QUOTA", "5MB")];
        assert_eq!(open(None, &[]), None);
        assert_eq!(open(Some("7MB"), &five), Some(7 << 20));
        assert_eq!(open(None, &[]), Some(7 << 20));
        assert_eq!(open(None, &five), Some(5 << 20));
        let (tenth, all) = (open(Some("10%"), &[]), open(Some("100%"), &[]));
        assert!(tenth.unwrap() > 1 << 20 && tenth.unwrap() < all.unwrap() / 9);
        assert_eq!(open(Some("none"), &five), None);
        let error = settings(Some(root), &[("ASHLAR_STORE_QUOTA", "lots")]);
        let error = error.open_home().unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn caches_come_from_flags_then_the_environment_then_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let text = "cache_wait = 7\n[[cache]]\nurl = 'grpc://file:1'\n";
        std::fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap();
        let names = |flags: &[&str], environment: &[(&str, &str)]| {
            let flags: Vec<CacheArg> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
            let specs = settings(None, environment).caches(&flags).unwrap();
            specs.iter().map(CacheSpec::name).collect::<Vec<_>>()
        };
        let all = [
            ("ASHLAR_CONFIG", config),
            ("ASHLAR_CACHE", " grpc://one:1  unix:///two "),
        ];
        assert_eq!(names(&["grpc://flag:1"], &all), ["grpc://flag:1"]);
        assert_eq!(names(&["none"], &all), [""; 0]);
        assert_eq!(names(&[], &all), ["grpc://one:1", "unix:///two"]);
        assert_eq!(names(&[], &all[..1]), ["grpc://file:1"]);
        let none = [("ASHLAR_CONFIG", config), ("ASHLAR_CACHE", "none")];
        assert_eq!(names(&[], &none), [""; 0]);
        assert_eq!(names(&[], &[("HOME", "/nowhere")]), [""; 0]);
        let error = settings(None, &[("ASHLAR_CACHE", "cache")]).caches(&[]);
        assert_eq!(error.unwrap_err().exit_code(), ExitCode::Usage);

        let wait = |flag| settings(None, &all).cache_wait(flag).unwrap().as_secs();
        assert_eq!((wait(Some(Duration::ZERO)), wait(None)), (0, 7));
    }

    #[test]
    fn proof_comes_from_flags_then_the_environment_then_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let text = "cache_sign = '/f.pem'\ncache_trust = 'signed=/f.pub'\n";
        std::fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap();
        let all = [
            ("ASHLAR_CONFIG", config),
            ("ASHLAR_CACHE_SIGN", "env=KEY"),
            ("ASHLAR_CACHE_TRUST", "any"),
        ];
        let sign = |flag: Option<&str>, environment: &[(&str, &str)]| {
            let flag = flag.map(|text| text.parse().unwrap());
            let sign = settings(None, environment).cache_sign(flag.as_ref());
            sign.unwrap()
        };
        assert_eq!(sign(Some("/a.pem"), &all), "/a.pem".parse().ok());
        assert_eq!(sign(Some("none"), &all), None);
        assert_eq!(sign(None, &all), "env=KEY".parse().ok());
        assert_eq!(sign(None, &all[..1]), "/f.pem".parse().ok());
        assert_eq!(sign(None, &[]), None);
        let trust = |flag: Option<&str>, environment: &[(&str, &str)]| {
            let flag = flag.map(|text| text.parse().unwrap());
            let trust = settings(None, environment).cache_trust(flag.as_ref());
            trust.unwrap()
        };
        let signed = |path: &str| format!("signed={path}").parse::<TrustArg>().unwrap();
        assert_eq!(trust(Some("signed=/a.pub"), &all), signed("/a.pub"));
        assert_eq!(trust(None, &all), TrustArg::Any);
        assert_eq!(trust(None, &all[..1]), signed("/f.pub"));
        assert_eq!(trust(None, &[]), TrustArg::Any);
        let wrong = [("ASHLAR_CACHE_TRUST", "all")];
        let error = settings(None, &wrong).cache_trust(None).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn the_configuration_file_is_where_the_xdg_specification_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        std::fs::create_dir_all(directory.path().join(".config/ashlar")).unwrap();
        std::fs::create_dir_all(directory.path().join("xdg/ashlar")).unwrap();
        for (place, wait) in [(".config", 1), ("xdg", 2)] {
            let path = directory.path().join(place).join("ashlar/config.toml");
            std::fs::write(path, format!("cache_wait = {wait}")).unwrap();
        }
        let xdg = format!("{root}/xdg");
        let wait = |environment: &[(&str, &str)]| {
            settings(None, environment)
                .cache_wait(None)
                .unwrap()
                .as_secs()
        };
        assert_eq!(wait(&[("HOME", root)]), 1);
        assert_eq!(wait(&[("HOME", root), ("XDG_CONFIG_HOME", &xdg)]), 2);
        assert_eq!(wait(&[]), 30);
    }

    #[test]
    fn traces_go_where_the_flag_then_the_environment_then_the_file_says() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        std::fs::write(&config, "trace = 'http://file:1'").unwrap();
        let all = [
            ("ASHLAR_CONFIG", config.to_str().unwrap()),
            ("ASHLAR_TRACE", "env"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:1"),
        ];
        let trace = |flag: Option<&str>, environment: &[(&str, &str)]| {
            let flag = flag.map(|text| text.parse().unwrap());
            settings(None, environment).trace(flag.as_ref()).unwrap()
        };
        assert_eq!(
            trace(Some("http://flag:1"), &all).as_deref(),
            Some("http://flag:1")
        );
        assert_eq!(trace(None, &all).as_deref(), Some("http://env:1"));
        assert_eq!(trace(None, &all[..1]).as_deref(), Some("http://file:1"));
        assert_eq!(trace(None, &all[2..]), None);
        let unset = settings(None, &[("ASHLAR_TRACE", "env")]).trace(None);
        assert_eq!(unset.unwrap_err().exit_code(), ExitCode::Usage);
        let wrong = settings(None, &[("ASHLAR_TRACE", "collector")]).trace(None);
        assert!(wrong.unwrap_err().message().contains("ASHLAR_TRACE"));
    }

    #[test]
    fn jobs_come_from_the_flag_then_the_environment() {
        let eight = [("ASHLAR_JOBS", "8")];
        let four = NonZeroUsize::new(4);
        assert_eq!(settings(None, &eight).jobs(four).unwrap().get(), 4);
        assert_eq!(settings(None, &eight).jobs(None).unwrap().get(), 8);
        assert!(settings(None, &[]).jobs(None).unwrap().get() >= 1);
        for wrong in ["0", "-1", "many"] {
            let error = settings(None, &[("ASHLAR_JOBS", wrong)])
                .jobs(None)
                .unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Usage);
        }
    }

    #[test]
    fn progress_comes_from_the_flag_then_our_variable_then_buildkits() {
        let both = [("ASHLAR_PROGRESS", "json"), ("BUILDKIT_PROGRESS", "plain")];
        let progress = |environment: &[(&str, &str)]| settings(None, environment).progress(None);
        assert_eq!(
            settings(None, &both)
                .progress(Some(ProgressMode::Tty))
                .unwrap(),
            ProgressMode::Tty
        );
        assert_eq!(progress(&both).unwrap(), ProgressMode::Json);
        assert_eq!(progress(&both[1..]).unwrap(), ProgressMode::Plain);
        assert_eq!(
            progress(&[("BUILDKIT_PROGRESS", "none")]).unwrap(),
            ProgressMode::Auto
        );
        progress(&[("ASHLAR_PROGRESS", "none")]).unwrap_err();
    }
}
