//! Git repositories, and a server of them: git's own, behind HTTP.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::web::{Answer, Request, WebServer};

/// A repository with files, as somebody works in it.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// An empty repository whose branch is `main`.
    pub fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let repository = Self { path };
        repository.git(["init", "--quiet", "--initial-branch=main"]);
        // As forges have it: whole commits are given out by their ids.
        repository.git(["config", "uploadpack.allowAnySHA1InWant", "true"]);
        // What relative submodules are relative to.
        let own = repository.path.join(".git").display().to_string();
        repository.git(["config", "remote.origin.url", &own]);
        repository
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let target = self.path.join(path);
        let written = fs::create_dir_all(target.parent().unwrap_or(&self.path))
            .and_then(|()| fs::write(&target, content));
        written.unwrap_or_else(|error| panic!("{path}: {error}"));
        self
    }

    /// Makes a file a program.
    pub fn program(&self, path: &str) -> &Self {
        fs::set_permissions(self.path.join(path), fs::Permissions::from_mode(0o755))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        self
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, path: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.path.join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        self
    }

    /// Commits all there is, at this second, and gives the commit's id.
    pub fn commit_at(&self, seconds: u64) -> String {
        self.git(["add", "--all"]);
        let date = format!("{seconds} +0000");
        let mut command = self.command();
        command
            .args(["commit", "--quiet", "--allow-empty", "--message=x"])
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date);
        run(command);
        self.id("HEAD")
    }

    /// Commits all there is, and gives the commit's id.
    pub fn commit(&self) -> String {
        self.commit_at(1_700_000_000)
    }

    /// The id that a name stands for.
    pub fn id(&self, name: &str) -> String {
        self.git(["rev-parse", name])
    }

    /// Runs git in it and gives what it says.
    pub fn git<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let mut command = self.command();
        command.args(arguments);
        let out = run(command);
        String::from_utf8_lossy(&out).trim().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = git();
        command.current_dir(&self.path);
        command
    }
}

/// Git without anybody's configuration, as somebody.
fn git() -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_COUNT", "2")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_CONFIG_KEY_1", "protocol.file.allow")
        .env("GIT_CONFIG_VALUE_1", "always")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.com");
    command
}

fn run(command: Command) -> Vec<u8> {
    let shown = format!("{command:?}");
    let output = output_of(command, &[]);
    assert!(
        output.status.success(),
        "{shown}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn output_of(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("git cannot be run: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A git that does not read it says why on its own.
        drop(stdin.write_all(input));
    }
    child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("git cannot be run: {error}"))
}

/// Serves all repositories of a directory over HTTP, until it is dropped.
#[derive(Debug)]
pub struct GitServer {
    directory: TempDir,
    web: WebServer,
}

impl GitServer {
    /// A server whose directory is empty yet.
    pub fn start() -> Self {
        Self::new(None, true)
    }

    /// A server that wants this `Authorization`.
    pub fn with_login(authorization: &str) -> Self {
        Self::new(Some(authorization), true)
    }

    /// A server that knows nothing of protocol 2, and so may refuse to give out commits by id.
    pub fn old() -> Self {
        Self::new(None, false)
    }

    fn new(authorization: Option<&str>, version_2: bool) -> Self {
        let directory = tempfile::tempdir().expect("there is no room for a directory");
        let root = directory.path().to_owned();
        let authorization = authorization.map(str::to_owned);
        let web = WebServer::start(move |request| {
            if authorization.is_some() && request.field("authorization") != authorization.as_deref()
            {
                return Answer::status(401).field("WWW-Authenticate", "Basic realm=\"git\"");
            }
            serve(&root, request, version_2)
        });
        Self { directory, web }
    }

    /// A new repository of the server.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(self.directory.path().join(name))
    }

    /// The URL of a repository: `http://127.0.0.1:PORT/NAME/.git`.
    pub fn url(&self, name: &str) -> String {
        self.web.url(&format!("/{name}/.git"))
    }

    /// The server itself.
    pub const fn web(&self) -> &WebServer {
        &self.web
    }
}

/// Lets `git http-backend` answer: a program behind CGI.
fn serve(root: &Path, request: &Request, version_2: bool) -> Answer {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let mut command = git();
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("CONTENT_LENGTH", request.body.len().to_string());
    for (name, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "HTTP_GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.field(name)
            && (version_2 || name != "git-protocol")
        {
            command.env(variable, value);
        }
    }
    let out = output_of(command, &request.body).stdout;
    let end = out
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(out.len());
    let mut answer = Answer::body(out.get(end + 4..).unwrap_or_default());
    for line in String::from_utf8_lossy(&out[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => {
                let code = status.split(' ').next().and_then(|code| code.parse().ok());
                answer = Answer::status(code.unwrap_or(500));
            }
            Some((name, value)) => answer = answer.field(name, value),
            None => {}
        }
    }
    answer
}
