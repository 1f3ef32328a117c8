//! Finding the image that a text on the command line means.
//!
//! A name comes first. Else the text may be an image ID or the beginning of one, with or without
//! `sha256:`, if it fits one ID only; that ID may have several names.

use std::collections::BTreeSet;

use ashlar_model::config::ImageConfig;
use ashlar_model::digest::{BlobDigest, LayerId};
use ashlar_model::layer::EntryKind;
use ashlar_model::reference::Reference;
use ashlar_store::home::images::ImageRecord;
use ashlar_store::home::{Home, StoreError};

use crate::diagnostics::CliError;

/// What a text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The image under this name.
    ByName(Box<ImageRecord>),
    /// All names of the image with this ID; at least one.
    ById(Vec<ImageRecord>),
}

impl Found {
    /// The image; if it has several names, under the first of them.
    pub(crate) fn into_image(self) -> Option<ImageRecord> {
        match self {
            Self::ByName(image) => Some(*image),
            Self::ById(images) => images.into_iter().next(),
        }
    }
}

/// Finds what a text means; `None` if there is no such image.
pub(crate) fn find(home: &Home, text: &str) -> Result<Option<Found>, CliError> {
    let name: Result<Reference, _> = text.parse();
    if let Ok(reference) = &name
        && let Some(image) = by_name(home, reference)?
    {
        return Ok(Some(Found::ByName(Box::new(image))));
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = (1..=64).contains(&digits.len())
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_id {
        return by_id(home, digits);
    }
    match name {
        Ok(_) => Ok(None),
        Err(error) => Err(CliError::failed(format!("`{text}` names no image")).caused_by(error)),
    }
}

/// The image that a text means, or an error that it is not there.
pub(crate) fn image(home: &Home, text: &str) -> Result<ImageRecord, CliError> {
    find(home, text)?
        .and_then(Found::into_image)
        .ok_or_else(|| no_such_image(text))
}

/// There is no such image.
pub(crate) fn no_such_image(text: &str) -> CliError {
    CliError::failed(format!("there is no image `{text}` in the store"))
        .hint("`ashlar images` lists those that are there, `ashlar pull` fetches others")
}

/// `name@digest` is the image whose manifest has that digest, under whatever tag of the name.
fn by_name(home: &Home, reference: &Reference) -> Result<Option<ImageRecord>, StoreError> {
    if let Some(image) = home.image(reference)? {
        return Ok(Some(image));
    }
    let Some(digest) = reference.digest() else {
        return Ok(None);
    };
    let mut images = home.images()?.into_iter();
    Ok(images.find(|image| {
        image.reference.name() == reference.name()
            && image.manifest.as_ref().is_some_and(|m| m.digest == digest)
    }))
}

fn by_id(home: &Home, digits: &str) -> Result<Option<Found>, CliError> {
    let mut images = home.images()?;
    images.retain(|image| image.config.digest.to_hex().starts_with(digits));
    let ids: BTreeSet<BlobDigest> = images.iter().map(|image| image.config.digest).collect();
    match ids.len() {
        0 => Ok(None),
        1 => Ok(Some(Found::ById(images))),
        many => {
            let shown: Vec<String> = ids.iter().map(short_id).collect();
            Err(CliError::failed(format!(
                "{many} images have an ID that begins with `{digits}`"
            ))
            .hint(format!("give more digits: {}", shown.join(", "))))
        }
    }
}

/// The 12 digits by which people know an image.
pub(crate) fn short_id(id: &BlobDigest) -> String {
    let mut digits = id.to_hex();
    digits.truncate(12);
    digits
}

/// Repository and tag as Docker shows them.
pub(crate) fn repository_and_tag(reference: &Reference) -> (String, String) {
    let mut repository = reference.familiar();
    if let Some((before, _)) = repository.split_once('@') {
        repository.truncate(before.len());
    }
    let Some(tag) = reference.tag() else {
        return (repository, "<none>".to_owned());
    };
    // The text ends in a colon and the tag.
    repository.truncate(repository.len() - tag.len() - 1);
    (repository, tag.to_owned())
}

/// An image's configuration.
pub(crate) fn config_of(home: &Home, image: &ImageRecord) -> Result<ImageConfig, CliError> {
    let damaged = || {
        let name = image.reference.familiar();
        CliError::environment(format!("the configuration of {name} cannot be read"))
            .hint("build or pull the image again")
    };
    let bytes = home
        .blobs()
        .read(&image.config.digest)
        .map_err(|error| damaged().caused_by(error))?;
    ImageConfig::from_slice(&bytes).map_err(|error| damaged().caused_by(error))
}

/// Bytes of a layer as they come out when it is unpacked: the length of its tar; where that was
/// never made, the sum of its files; where they were never fetched, the size of its blob.
pub(crate) fn layer_size(home: &Home, id: &LayerId) -> Result<u64, StoreError> {
    let record = home.layer(id)?;
    if let Some(size) = record.as_ref().and_then(|record| record.tar_size) {
        return Ok(size);
    }
    if let Some(index) = home.layer_index(id)? {
        let sizes = index.entries.iter().map(|entry| match entry.kind {
            EntryKind::File { size, .. } => size,
            _ => 0,
        });
        return Ok(sizes.sum());
    }
    let blob = record.as_ref().and_then(|record| record.blobs.first());
    Ok(blob.map_or(0, |blob| blob.descriptor.size))
}

#[cfg(test)]
mod tests {
    use ashlar_model::descriptor::Descriptor;
    use ashlar_model::layer::Timestamp;
    use ashlar_model::platform::Platform;

    use super::*;

    fn home_with(images: &[(&str, &[u8])]) -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        for (name, config) in images {
            let image = ImageRecord {
                reference: name.parse().unwrap(),
                config: Descriptor::new("x", BlobDigest::of(config), 1),
                manifest: Some(Descriptor::new("x", BlobDigest::of(b"manifest"), 1)),
                platform: Platform::host(),
                layers: Vec::new(),
                tagged: Timestamp::default(),
            };
            home.put_image(&image).unwrap();
        }
        (directory, home)
    }

    #[test]
    fn names_come_before_ids() {
        let id = BlobDigest::of(b"one").to_hex();
        // A repository whose name looks like another image's ID.
        let (_directory, home) = home_with(&[("one", b"one"), (&id[..12], b"two")]);
        let found = find(&home, &id[..12]).unwrap().unwrap();
        assert!(matches!(&found, Found::ByName(_)), "{found:?}");
        let found = find(&home, &id[..13]).unwrap().unwrap();
        assert_eq!(
            found.into_image().unwrap().reference.familiar(),
            "one:latest"
        );
    }

    #[test]
    fn an_id_has_all_its_names() {
        let (_directory, home) = home_with(&[("a", b"one"), ("b:2", b"one"), ("c", b"two")]);
        let whole = BlobDigest::of(b"one").to_string();
        for text in [whole.as_str(), &whole[..12], &whole[7..20]] {
            match find(&home, text).unwrap().unwrap() {
                Found::ById(images) => assert_eq!(images.len(), 2),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_ambiguous_beginning_is_refused() {
        let configs: Vec<String> = (0..17).map(|number| format!("config {number}")).collect();
        let names: Vec<String> = (0..17).map(|number| format!("image{number}")).collect();
        let images: Vec<(&str, &[u8])> = names
            .iter()
            .zip(&configs)
            .map(|(name, config)| (name.as_str(), config.as_bytes()))
            .collect();
        let (_directory, home) = home_with(&images);
        // Of 17 IDs two begin with the same digit.
        let ambiguous = (0..16).any(|digit| find(&home, &format!("{digit:x}")).is_err());
        assert!(ambiguous);
    }

    #[test]
    fn a_manifest_digest_finds_its_image() {
        let (_directory, home) = home_with(&[("one:1", b"one")]);
        let manifest = BlobDigest::of(b"manifest");
        assert!(find(&home, &format!("one@{manifest}")).unwrap().is_some());
        assert!(find(&home, &format!("two@{manifest}")).unwrap().is_none());
    }

    #[test]
    fn what_is_not_there_is_said_so() {
        let (_directory, home) = home_with(&[]);
        assert_eq!(find(&home, "nothing").unwrap(), None);
        assert_eq!(find(&home, "abc").unwrap(), None);
        find(&home, "Not A Name").unwrap_err();
        let error = image(&home, "nothing:1").unwrap_err();
        assert!(error.message().contains("nothing:1"));
    }

    #[test]
    fn names_are_shown_as_docker_does() {
        for (name, repository, tag) in [
            ("a", "a", "latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b", "c"),
        ] {
            let shown = repository_and_tag(&name.parse().unwrap());
            assert_eq!(shown, (repository.to_owned(), tag.to_owned()));
        }
        let digest = format!("a@{}", BlobDigest::of(b"x"));
        let shown = repository_and_tag(&digest.parse().unwrap());
        assert_eq!(shown, ("a".to_owned(), "<none>".to_owned()));
    }
}
