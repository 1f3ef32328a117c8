//! What ADD takes from elsewhere.

use ashlar_model::digest::BlobDigest;
use ashlar_model::remote::RemoteSource;

use crate::plan::error::PlanError;

/// Which of the sources come from elsewhere. Rules and words as BuildKit's.
pub(super) fn remote_sources(
    keyword: &str,
    keep_git_dir: Option<bool>,
    paths: &[String],
    checksum: Option<&str>,
) -> Result<Vec<Option<RemoteSource>>, PlanError> {
    let parse = |path: &String| {
        RemoteSource::parse(path).map_err(|error| PlanError::new(error.to_string()).about(path))
    };
    let parsed: Result<Vec<_>, PlanError> = paths.iter().map(parse).collect();
    let mut parsed = parsed?;
    if checksum.is_some() {
        match parsed.as_slice() {
            [Some(_)] => {}
            [None] => {
                return Err(PlanError::new("checksum requires HTTP(S) or Git sources"));
            }
            _ => {
                return Err(PlanError::new(
                    "checksum can't be specified for multiple sources",
                ));
            }
        }
    }
    for (source, path) in parsed.iter_mut().zip(paths) {
        let Some(source) = source else {
            continue;
        };
        let problem = |text: String| PlanError::new(text).about(path);
        if keyword == "COPY" {
            let what = match source {
                RemoteSource::Git(_) => "git ref",
                RemoteSource::Http(_) => "URL",
            };
            return Err(problem(format!("source can't be a {what} for COPY")).hinted("use ADD"));
        }
        match source {
            RemoteSource::Http(http) => {
                http.checksum = checksum.map(file_checksum).transpose()?;
            }
            RemoteSource::Git(git) => {
                match (keep_git_dir, git.keep_git_dir) {
                    (Some(flag), Some(query)) if flag != query => {
                        return Err(problem("inconsistent keep-git-dir configuration".into()));
                    }
                    (flag, query) => git.keep_git_dir = query.or(flag),
                }
                if let Some(wanted) = checksum {
                    match &git.checksum {
                        Some(other) if other != wanted => {
                            let text = format!("checksum mismatch {wanted:?} != {other:?}");
                            return Err(problem(text));
                        }
                        Some(_) => {}
                        None => git
                            .set_checksum(wanted)
                            .map_err(|error| problem(error.to_string()))?,
                    }
                }
            }
        }
    }
    Ok(parsed)
}

/// The checksum of a URL's file.
fn file_checksum(text: &str) -> Result<BlobDigest, PlanError> {
    text.parse().map_err(|error| {
        PlanError::new(format!("invalid checksum {text:?}: {error}"))
            .about(text)
            .hinted("write sha256: and 64 hexadecimal digits")
    })
}

/// All of a source from elsewhere, as a source pattern: the one file of a URL, or all files of a
/// commit.
pub(super) fn whole(source: &RemoteSource) -> String {
    match source {
        RemoteSource::Git(_) => "/".to_owned(),
        RemoteSource::Http(http) => {
            let mut pattern = "/".to_owned();
            for character in http.file_name().chars() {
                if matches!(character, '*' | '?' | '[' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(character);
            }
            pattern
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_whatever_is_in_its_name() {
        let of = |url: &str| whole(&RemoteSource::parse(url).unwrap().unwrap());
        assert_eq!(of("https://h/a/b.txt"), "/b.txt");
        assert_eq!(of("https://h/%5Bx%5D*?y"), "/\\[x]\\*");
        assert_eq!(of("https://h/x.git"), "/");
    }
}
