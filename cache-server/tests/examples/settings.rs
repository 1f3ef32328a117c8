//! Settings and flags: the program itself says whether it takes them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::files::{document, list, path, root, string, text};

/// Where the files that settings name are put.
struct Machine {
    directory: tempfile::TempDir,
}

/// Where settings expect what tests have elsewhere.
const PLACES: [&str; 5] = [
    "/run/secrets",
    "/etc/ashlar/secrets",
    "/etc/ashlar/tls",
    "/var/log/ashlar",
    "/var/cache/ashlar",
];

impl Machine {
    /// A machine with all the files that any of the settings names.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let machine = Self { directory };
        for place in PLACES {
            fs::create_dir_all(machine.at(place)).expect("a directory");
        }
        for place in ["/run/secrets", "/etc/ashlar/secrets"] {
            for name in [
                "redis-password",
                "peer-token",
                "admins",
                "builders",
                "developers",
                "worker-token",
            ] {
                let file = format!("{}/{name}", machine.at(place));
                fs::write(file, format!("the-token-of-{name}\n")).expect("written");
            }
        }
        let made = rcgen::generate_simple_self_signed(["cache.example.com".to_owned()]);
        let made = made.expect("a certificate");
        let tls = machine.at("/etc/ashlar/tls");
        fs::write(format!("{tls}/tls.crt"), made.cert.pem()).expect("written");
        let key = made.signing_key.serialize_pem();
        fs::write(format!("{tls}/tls.key"), key).expect("written");
        machine
    }

    /// Where something is that settings expect there.
    fn at(&self, place: &str) -> String {
        format!("{}{place}", self.directory.path().display())
    }

    /// A text with all places in it as they are here.
    fn placed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for place in PLACES {
            text = text.replace(place, &self.at(place));
        }
        text
    }

    /// Puts settings into a file.
    fn file(&self, settings: &str) -> String {
        let path = self.directory.path().join("cache.toml");
        fs::write(&path, self.placed(settings)).expect("written");
        path.to_str().expect("a name").to_owned()
    }

    /// What `check-config` says to arguments of `serve`.
    fn check(&self, arguments: &[String]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ashlar-cache"))
            .env_clear()
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "mason")
            .env("AWS_SECRET_ACCESS_KEY", "chisel")
            .arg("check-config")
            .args(arguments)
            .output()
            .expect("run")
    }

    #[track_caller]
    fn accepts(&self, arguments: &[String]) -> String {
        let output = self.check(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The arguments of a command line behind `serve`, with another settings file.
fn behind_serve<'a>(words: impl Iterator<Item = &'a str>, config: &str) -> Vec<String> {
    let mut words = words.skip_while(|word| *word != "serve");
    assert_eq!(words.next(), Some("serve"));
    let mut arguments: Vec<String> = words.map(str::to_owned).collect();
    let at = arguments.iter().position(|word| word == "--config");
    arguments[at.expect("--config") + 1] = config.to_owned();
    arguments
}

#[test]
fn the_settings_of_the_compose_file_are_settings() {
    let machine = Machine::new();
    let config = machine.file(&text("cache.toml"));
    let compose = document("compose.yaml");
    for server in ["cache-1", "cache-2", "cache-3"] {
        let command = list(&compose["services"][server]["command"]);
        let arguments = behind_serve(command.iter().map(string), &config);
        let shown = machine.accepts(&arguments);
        let own = format!("peer_address = \"{server}:8982\"");
        assert!(shown.contains(&own), "{shown}");
        assert_eq!(string(&compose["services"][server]["hostname"]), server);
    }
}

#[test]
fn the_settings_of_the_cluster_are_settings() {
    let machine = Machine::new();
    let map = document("kubernetes/configmap.yaml");
    let config = machine.file(string(&map["data"]["cache.toml"]));
    let deployment = super::kubernetes::deployment();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let arguments = list(&container["args"]).iter().map(string);
    let mut arguments = behind_serve(arguments, &config);
    // What the environment says there.
    arguments.extend(["--peer-address".to_owned(), "10.0.0.7:8982".to_owned()]);
    let shown = machine.accepts(&arguments);
    assert!(shown.contains("redis+sentinel://"), "{shown}");
}

#[test]
fn the_set_up_for_teams_is_one() {
    let machine = Machine::new();
    let page = fs::read_to_string(root().join("docs/farm.md")).expect("a page");
    let begin = page.find("    tls_cert = ").expect("the settings");
    let lines = page[begin..].lines();
    let block = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let block: Vec<_> = block.map(str::trim_start).collect();
    let block = block.join("\n");
    assert!(block.matches("[[rule]]").count() >= 6, "{block}");
    let config = machine.file(&format!("root = '/var/cache/ashlar'\n{block}"));
    machine.accepts(&["--config".to_owned(), config]);
}

#[test]
fn a_setting_that_is_none_would_be_found() {
    let machine = Machine::new();
    let config = machine.file(&format!("objekts = 'x'\n{}", text("cache.toml")));
    let output = machine.check(&["--config".to_owned(), config]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && error.contains("objekts"),
        "{error}"
    );
}

/// What the unit starts.
fn exec_start() -> String {
    let unit = text("ashlar-cache.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    line.expect("ExecStart").to_owned()
}

#[test]
fn the_unit_starts_the_server_with_flags_that_it_has() {
    let machine = Machine::new();
    let config = machine.file("limit = '50GB'\n");
    let line = machine.placed(&exec_start());
    let arguments = behind_serve(line.split_whitespace(), &config);
    let shown = machine.accepts(&arguments);
    assert!(shown.contains("http = \"127.0.0.1:8981\""), "{shown}");
    let unit = text("ashlar-cache.service");
    assert!(unit.contains("\nType=notify\n"));
    let root = exec_start().split("--root ").nth(1).map(str::to_owned);
    let root = root.and_then(|rest| rest.split(' ').next().map(str::to_owned));
    let directory = unit
        .lines()
        .find_map(|line| line.strip_prefix("CacheDirectory="));
    assert_eq!(root, directory.map(|name| format!("/var/cache/{name}")));
}

/// The unit may take longer to stop than requests may take to end.
#[test]
fn the_unit_waits_for_requests() {
    let machine = Machine::new();
    let shown = machine.accepts(&["--root".to_owned(), machine.at("/var/cache/ashlar")]);
    let grace = shown
        .lines()
        .find_map(|line| line.strip_prefix("grace = \""));
    let grace = seconds(grace.expect("grace").trim_end_matches('"'));
    let unit = text("ashlar-cache.service");
    let stop = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="));
    assert!(seconds(stop.expect("TimeoutStopSec")) > grace);
}

/// `30s` and `1m` as a number.
pub(crate) fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        _ => panic!("{text}"),
    };
    number.parse::<u64>().unwrap_or_else(|_| panic!("{text}")) * unit
}

#[test]
fn systemd_understands_the_unit() {
    let machine = Machine::new();
    let program = Path::new("/usr/bin/systemd-analyze");
    if !program.exists() {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    // It looks whether the program is there.
    let unit = text("ashlar-cache.service");
    let unit = unit.replace(
        "/usr/local/bin/ashlar-cache",
        env!("CARGO_BIN_EXE_ashlar-cache"),
    );
    let file = machine.directory.path().join("ashlar-cache.service");
    fs::write(&file, unit).expect("written");
    let output = Command::new(program)
        .args(["verify", "--man=no"])
        .arg(&file)
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It tells of all units that are read on the way.
    let own: Vec<_> = said
        .lines()
        .filter(|line| line.contains("ashlar-cache.service"))
        .collect();
    assert!(own.is_empty(), "{said}");
}

#[test]
fn the_image_has_the_program_and_its_ports() {
    let dockerfile = text("Dockerfile");
    let exposed = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("EXPOSE "));
    let exposed: Vec<_> = exposed.expect("EXPOSE").split(' ').collect();
    assert_eq!(exposed, ["8980", "8981", "8982", "8983"]);
    assert!(dockerfile.contains("ENTRYPOINT [\"/usr/local/bin/ashlar-cache\"]"));
    for copied in dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
    {
        let words: Vec<_> = copied.split(' ').collect();
        if copied.starts_with("--from=") {
            continue;
        }
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{copied}");
        }
    }
    assert!(path("secrets.sh").exists());
}
