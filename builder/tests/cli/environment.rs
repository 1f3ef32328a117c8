//! A store and a program that sees nothing else of the machine.

use std::path::Path;
use std::process::{Command, Stdio};

use ashlar_model::config::{HistoryEntry, ImageConfig};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{DefinitionKey, DiffId, LayerId};
use ashlar_model::layer::{LayerRecord, StoredBlob, Timestamp};
use ashlar_model::media_type::{Compression, OCI_CONFIG, OCI_LAYER_GZIP};
use ashlar_model::platform::Platform;
use ashlar_store::home::Home;
use ashlar_store::home::images::ImageRecord;
use ashlar_store::home::results::DefinitionResult;

/// A directory with a store.
pub(crate) struct TestEnvironment {
    directory: tempfile::TempDir,
    /// The store.
    pub(crate) home: Home,
}

/// What a run gave.
#[must_use = "look at the output, or at least at the exit code"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output of a run that must have gone well and said nothing.
    pub(crate) fn stdout(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// Standard error of a run that must have failed with this code and printed nothing.
    pub(crate) fn error(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        self.stderr
    }

    /// JSON objects on the lines of standard output.
    pub(crate) fn json_lines(self) -> Vec<serde_json::Value> {
        let stdout = self.stdout();
        let lines = stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl TestEnvironment {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(&directory.path().join("home")).unwrap();
        Self { directory, home }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program with nothing in its environment but the store and a home.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
        command
            .args(arguments)
            .env_clear()
            .env("ASHLAR_HOME", self.home.root())
            .env("HOME", self.directory.path())
            .stdin(Stdio::null())
            .current_dir(self.directory.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// A layer whose tar has so many bytes, with a tree and a blob.
    pub(crate) fn layer(&self, name: &str, tar_size: u64) -> LayerId {
        let id = self.home.new_layer_id().unwrap();
        let tree = self.home.tree_path("map", &id);
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join(name), vec![b'x'; 5000]).unwrap();
        let digest = self.home.blobs().put(name.as_bytes()).unwrap();
        let mut record = LayerRecord::made_by_step(id);
        record.diff_id = Some(DiffId::of(name.as_bytes()));
        record.tar_size = Some(tar_size);
        record.blobs = vec![StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, digest, name.len() as u64),
            compression: Compression::Gzip,
            level: None,
        }];
        self.home.put_layer(&record).unwrap();
        id
    }

    /// An image whose layers are made by instructions of the same names.
    pub(crate) fn image(&self, name: &str, layers: &[(&str, LayerId)]) -> ImageRecord {
        let mut config = ImageConfig::new(&Platform::new("linux", "amd64", None));
        config.created = Some("2020-02-03T04:05:06Z".parse().unwrap());
        config.config.env = vec!["A=1".into()];
        config.config.labels.insert("is".into(), name.into());
        for (instruction, _) in layers {
            config
                .rootfs
                .diff_ids
                .push(DiffId::of(instruction.as_bytes()));
            config.history.push(HistoryEntry {
                created: config.created,
                created_by: (*instruction).to_owned(),
                comment: "buildkit.dockerfile.v0".into(),
                ..HistoryEntry::default()
            });
        }
        config.history.push(HistoryEntry {
            created: config.created,
            created_by: "CMD [\"sh\"]".into(),
            empty_layer: true,
            ..HistoryEntry::default()
        });
        let bytes = config.to_vec();
        let digest = self.home.blobs().put(&bytes).unwrap();
        let image = ImageRecord {
            reference: name.parse().unwrap(),
            config: Descriptor::new(OCI_CONFIG, digest, bytes.len() as u64),
            manifest: None,
            platform: config.platform(),
            layers: layers.iter().map(|(_, layer)| *layer).collect(),
            tagged: Timestamp {
                seconds: 1_600_000_000,
                nanoseconds: 0,
            },
        };
        self.home.put_image(&image).unwrap();
        image
    }

    /// A cached result.
    pub(crate) fn result(&self, name: u8, stack: &[LayerId]) -> DefinitionKey {
        let key = DefinitionKey::from_bytes([name; 32]);
        let result = DefinitionResult::own(stack.to_vec());
        self.home.put_definition_result(&key, &result).unwrap();
        key
    }

    /// Two images that share a layer, and a third name.
    pub(crate) fn with_images() -> Self {
        let environment = Self::new();
        let base = environment.layer("ADD base", 1_500_000);
        let app = environment.layer("RUN make", 20_000);
        environment.image("app:1", &[("ADD base", base), ("RUN make", app)]);
        environment.image("localhost:5000/team/base:2", &[("ADD base", base)]);
        environment
    }

    /// The names that the store has.
    pub(crate) fn names(&self) -> Vec<String> {
        let images = self.home.images().unwrap();
        images
            .iter()
            .map(|image| image.reference.familiar())
            .collect()
    }
}

/// Runs a command that was made by [`TestEnvironment::command`].
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
