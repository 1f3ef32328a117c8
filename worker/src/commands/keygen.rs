//! `ashlar-worker keygen`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ashlar_model::secret::SecretValue;
use ashlar_remote::seal::FarmKey;

use crate::cli::KeygenArgs;
use crate::failure::Failure;

/// The longest file of a key that is read.
const LONGEST_FILE: u64 = 4096;

/// Makes a key.
pub fn run(args: &KeygenArgs) -> Result<u8, Failure> {
    let key =
        FarmKey::generate().map_err(|error| Failure::new("cannot make a key").caused_by(error))?;
    write(&args.file, &key.to_text())?;
    let public = format!("{}\n", key.recipient());
    let mut path = args.file.clone().into_os_string();
    path.push(".pub");
    let path = Path::new(&path);
    std::fs::write(path, &public).map_err(|error| {
        Failure::new(format!("cannot write the public key to {}", path.display())).caused_by(error)
    })?;
    super::print(&public);
    Ok(0)
}

fn write(path: &Path, text: &SecretValue) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let failure = Failure::new(format!("cannot write the key to {}", path.display()));
        let failure = failure.caused_by(error);
        if exists {
            failure.hinted("a key is never overwritten: remove the file first, or choose another")
        } else {
            failure
        }
    };
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.reveal()))
        .map_err(failed)
}

/// Reads the key of a file; a new one if there is no file.
pub fn read(path: Option<&Path>) -> Result<FarmKey, Failure> {
    let Some(path) = path else {
        let made = FarmKey::generate();
        return made.map_err(|error| Failure::new("cannot make a key").caused_by(error));
    };
    let read = || {
        use std::io::Read as _;
        let mut text = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(LONGEST_FILE).read_to_end(&mut text)?;
        Ok(SecretValue::new(text))
    };
    let text = read().map_err(|error: std::io::Error| {
        Failure::new(format!("cannot read the key in {}", path.display()))
            .caused_by(error)
            .hinted("make one with `ashlar-worker keygen FILE`")
    })?;
    FarmKey::parse(&text).map_err(|error| {
        Failure::new(format!("cannot use the key in {}", path.display()))
            .caused_by(error)
            .hinted("make one with `ashlar-worker keygen FILE`")
            .as_usage()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_written_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("farm.key");
        let args = KeygenArgs { file: path.clone() };
        assert_eq!(run(&args).unwrap(), 0);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let recipient = read(Some(&path)).unwrap().recipient().to_string();
        let error = run(&args).unwrap_err().render();
        assert!(error.contains("never overwritten"), "{error}");
        assert_eq!(
            read(Some(&path)).unwrap().recipient().to_string(),
            recipient
        );
        assert_ne!(read(None).unwrap().recipient().to_string(), recipient);
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(read(Some(&path)).unwrap_err().code, 2);
    }
}
