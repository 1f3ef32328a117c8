//! Tagged images: a name, the image's configuration, and its layers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::LayerId;
use ashlar_model::layer::Timestamp;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use serde::{Deserialize, Serialize};

use super::layers::SMALL_RECORD;
use super::quota::Claim;
use super::{Home, StoreError, record};

/// Longest name of an image that is a file's name as well. Linux allows 255 bytes (`NAME_MAX`), and
/// names of files that are being written are longer than the files'.
const LONGEST_NAME: usize = 180;

/// An image under a name. Its identity ("image ID") is the configuration's digest; a manifest
/// comes into being only when a registry or an archive needs one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The name.
    pub reference: Reference,
    /// The configuration blob.
    pub config: Descriptor,
    /// The manifest blob that the image came with; `None` for one built here.
    pub manifest: Option<Descriptor>,
    /// What it runs on.
    pub platform: Platform,
    /// The layers, bottom first.
    pub layers: Vec<LayerId>,
    /// When the name was last given.
    pub tagged: Timestamp,
}

impl Home {
    fn image_path(&self, reference: &Reference) -> PathBuf {
        let name = reference.to_string();
        let name = if name.len() > LONGEST_NAME {
            // The record has the name itself.
            format!("%{}", blake3::hash(name.as_bytes()).to_hex())
        } else {
            // `%` cannot occur in a reference, so that no two are the same.
            name.replace('/', "%")
        };
        self.root().join("images").join(name)
    }

    /// The image under a name.
    pub fn image(&self, reference: &Reference) -> Result<Option<ImageRecord>, StoreError> {
        let path = self.image_path(reference);
        loop {
            let image: Option<ImageRecord> = record::read(&path)?;
            let Some(image) = image else {
                return Ok(None);
            };
            self.claim_image(&image)?;
            // What was claimed cannot go any more, if it had not gone before: with its name.
            if self.user().is_none() || record::read(&path)?.as_ref() == Some(&image) {
                return Ok(Some(image));
            }
        }
    }

    /// Keeps all of an image from being evicted.
    fn claim_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let blobs = [Some(&image.config), image.manifest.as_ref()];
        let blobs = blobs.into_iter().flatten().map(|blob| blob.digest);
        let layers = image.layers.iter().copied().map(Claim::Layer);
        let claims: Vec<Claim> = layers.chain(blobs.map(Claim::Blob)).collect();
        self.claim(&claims)
    }

    /// Gives an image its name, taking it from whatever had it.
    pub fn put_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        self.claim_image(image)?;
        let _permit = self.admit(SMALL_RECORD)?;
        record::write(&self.image_path(&image.reference), image)
    }

    /// Takes a name away. False if nothing had it.
    pub fn remove_image(&self, reference: &Reference) -> Result<bool, StoreError> {
        let path = self.image_path(reference);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove", &path, error)),
        }
    }

    /// All named images, by name.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let directory = self.root().join("images");
        let mut images = BTreeMap::new();
        for name in super::layers::list_names(&directory, |name| Some(name.to_owned()))? {
            if let Some(image) = record::read::<ImageRecord>(&directory.join(name))? {
                images.insert(image.reference.clone(), image);
            }
        }
        Ok(images.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::digest::BlobDigest;

    use super::*;

    #[test]
    fn the_longest_names_are_given_and_taken() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let mut images: Vec<ImageRecord> = Vec::new();
        for length in [150, 180, 190, 250] {
            for last in ["x", "y"] {
                let name = format!(
                    "localhost/{}{last}:{}",
                    "a/".repeat(length / 2 - 7),
                    "t".repeat(128)
                );
                images.push(ImageRecord {
                    reference: name.parse().unwrap(),
                    config: Descriptor::new("x", BlobDigest::of(b"config"), 6),
                    manifest: None,
                    platform: Platform::host(),
                    layers: Vec::new(),
                    tagged: Timestamp::default(),
                });
            }
        }
        images
            .iter()
            .for_each(|image| home.put_image(image).unwrap());
        for image in &images {
            assert_eq!(home.image(&image.reference).unwrap().as_ref(), Some(image));
        }
        assert_eq!(home.images().unwrap().len(), images.len());
        for image in &images {
            assert!(home.remove_image(&image.reference).unwrap());
        }
    }

    #[test]
    fn a_name_is_given_and_taken() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let reference: Reference = "localhost:5000/a/b:1".parse().unwrap();
        let image = ImageRecord {
            reference: reference.clone(),
            config: Descriptor::new("x", BlobDigest::of(b"config"), 6),
            manifest: None,
            platform: Platform::host(),
            layers: Vec::new(),
            tagged: Timestamp::default(),
        };
        home.put_image(&image).unwrap();
        assert_eq!(home.image(&reference).unwrap(), Some(image.clone()));
        assert_eq!(home.images().unwrap(), [image]);
        assert!(home.remove_image(&reference).unwrap());
        assert!(!home.remove_image(&reference).unwrap());
    }
}
