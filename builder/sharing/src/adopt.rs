//! Results of other machines, as results of this store.
//!
//! Only records are written: the files of the layers stay where they are until something needs
//! them.

use ashlar_model::cas::{CasDigest, SharedLayer};
use ashlar_model::digest::LayerId;
use ashlar_model::layer::{LayerOrigin, LayerRecord, StoredBlob};
use ashlar_store::home::{Home, StoreError};

use crate::record::{ResultLayer, ResultOrigin, StepResult};

/// The most caches that a layer is remembered to be in.
const MOST_COPIES: usize = 8;

/// Takes the layers of a result over, bottom first. `trees` has those of each layer. `None` if it has
/// a layer of an image that this machine does not know and cannot get: then it is no result here.
/// What is `proven` takes the place of what others said of a layer before.
pub fn adopt(
    home: &Home,
    cache: &str,
    (result, trees): (&StepResult, &[Vec<CasDigest>]),
    proven: bool,
) -> Result<Option<Vec<LayerId>>, StoreError> {
    for layer in &result.layers {
        // A build knows the layers of its own base images before it asks for anything.
        if let ResultOrigin::Image { repositories } = &layer.origin
            && repositories.is_empty()
            && home.layer(&LayerId::of_diff_id(&layer.diff_id))?.is_none()
        {
            return Ok(None);
        }
    }
    let layers = result.layers.iter().zip(trees);
    let layers = layers.map(|(layer, trees)| adopt_layer(home, cache, (layer, trees), proven));
    layers.collect::<Result<_, _>>().map(Some)
}

fn adopt_layer(
    home: &Home,
    cache: &str,
    (layer, trees): (&ResultLayer, &[CasDigest]),
    proven: bool,
) -> Result<LayerId, StoreError> {
    let new = match &layer.origin {
        ResultOrigin::Image { repositories } => {
            let Some((first, rest)) = layer.blobs.split_first() else {
                return Ok(LayerId::of_diff_id(&layer.diff_id));
            };
            let mut new = LayerRecord::of_image(layer.diff_id, first.clone(), None);
            new.blobs.extend_from_slice(rest);
            new.origin = LayerOrigin::Image {
                repositories: repositories.clone(),
            };
            new
        }
        ResultOrigin::Step {
            tar_size,
            content,
            created,
            ..
        } => {
            let copy = SharedLayer {
                cache: cache.to_owned(),
                trees: trees.to_vec(),
            };
            if let Some(same) = same_layer(home, layer, &copy)? {
                return Ok(same);
            }
            let mut new =
                LayerRecord::of_shared(layer.diff_id, *tar_size, *content, vec![copy.clone()]);
            new.created = *created;
            new.blobs.clone_from(&layer.blobs);
            new
        }
    };
    home.claim_layers(&[new.id])?;
    let record = match home.layer(&new.id)? {
        None => new,
        Some(known) => match merged(&known, new, proven) {
            Some(merged) => merged,
            None => return Ok(known.id),
        },
    };
    home.put_layer(&record)?;
    if let (LayerOrigin::Shared { .. }, Some(content)) = (&record.origin, &record.content) {
        // What runs here and gives the same keeps the layer that is shared.
        home.note_content(content, &record.id)?;
    }
    Ok(record.id)
}

/// A layer that was made here and has the same tar: nobody need fetch another.
fn same_layer(
    home: &Home,
    layer: &ResultLayer,
    copy: &SharedLayer,
) -> Result<Option<LayerId>, StoreError> {
    let ResultOrigin::Step { content, .. } = &layer.origin else {
        return Ok(None);
    };
    let Some(id) = home.layer_with_content(content)? else {
        return Ok(None);
    };
    let Some(mut known) = home.layer(&id)? else {
        return Ok(None);
    };
    let same = known.diff_id == Some(layer.diff_id)
        && known.origin == LayerOrigin::Step
        && home.holds_files_of(&known)?;
    if !same {
        return Ok(None);
    }
    if add_blobs(&mut known.blobs, &layer.blobs) {
        home.put_layer(&known)?;
    }
    home.note_copy(&id, copy.clone())?;
    Ok(Some(id))
}

/// A known layer with what is new; `None` if nothing is.
fn merged(known: &LayerRecord, new: LayerRecord, proven: bool) -> Option<LayerRecord> {
    let mut merged = known.clone();
    if proven && matches!(known.origin, LayerOrigin::Shared { .. }) {
        merged.content = new.content;
        merged.tar_size = new.tar_size;
        merged.created = new.created;
        merged.blobs.clone_from(&new.blobs);
    }
    match (&mut merged.origin, new.origin) {
        (LayerOrigin::Image { repositories }, LayerOrigin::Image { repositories: more }) => {
            for repository in more {
                let is_known =
                    |one: &ashlar_model::reference::Reference| one.name() == repository.name();
                if !repositories.iter().any(is_known) {
                    repositories.push(repository);
                }
            }
        }
        (LayerOrigin::Shared { copies }, LayerOrigin::Shared { copies: more }) => {
            for copy in more {
                copies.retain(|known| known.cache != copy.cache);
                copies.insert(0, copy);
            }
            copies.truncate(MOST_COPIES);
        }
        _ => {}
    }
    // The compressed form that an image's layer came in stands first.
    add_blobs(&mut merged.blobs, &new.blobs);
    (merged != *known).then_some(merged)
}

/// Adds forms that are not known. Whether there were any.
fn add_blobs(known: &mut Vec<StoredBlob>, more: &[StoredBlob]) -> bool {
    let before = known.len();
    for blob in more {
        let is_known = |one: &StoredBlob| {
            one.descriptor.digest == blob.descriptor.digest
                || (one.level.is_some()
                    && (one.compression, one.level) == (blob.compression, blob.level))
        };
        if !known.iter().any(is_known) {
            known.push(blob.clone());
        }
    }
    known.len() > before
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;
    use ashlar_model::descriptor::Descriptor;
    use ashlar_model::digest::{BlobDigest, ContentDigest, DiffId};
    use ashlar_model::media_type::{Compression, OCI_LAYER_GZIP};

    use super::*;

    fn blob(level: Option<i32>) -> StoredBlob {
        let digest = BlobDigest::of(format!("{level:?}").as_bytes());
        StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, digest, 4),
            compression: Compression::Gzip,
            level,
        }
    }

    fn step(tar: &str) -> ResultLayer {
        ResultLayer {
            diff_id: DiffId::of(tar.as_bytes()),
            blobs: vec![blob(Some(6))],
            origin: ResultOrigin::Step {
                tar_size: 3,
                content: ContentDigest::from_bytes([1; 32]),
                created: None,
                trees: 1,
            },
        }
    }

    fn trees(text: &str) -> Vec<CasDigest> {
        vec![CasDigest::of(DigestFunction::Sha256, text.as_bytes())]
    }

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        (directory, home)
    }

    #[test]
    fn a_layer_is_known_with_all_caches_that_have_it() {
        let (_directory, home) = home();
        let result = StepResult {
            layers: vec![step("tar")],
        };
        let first = adopt(&home, "a", (&result, &[trees("1")]), false)
            .unwrap()
            .unwrap();
        let again = |cache, tree| adopt(&home, cache, (&result, &[trees(tree)]), false).unwrap();
        assert_eq!(again("b", "2").as_ref(), Some(&first));
        assert_eq!(again("a", "3").as_ref(), Some(&first));
        let record = home.layer(&first[0]).unwrap().unwrap();
        let LayerOrigin::Shared { copies } = &record.origin else {
            panic!("{record:?}");
        };
        let caches: Vec<&str> = copies.iter().map(|copy| copy.cache.as_str()).collect();
        assert_eq!(caches, ["a", "b"]);
        assert_eq!(copies[0].trees, trees("3"));
        assert_eq!(record.tar_size, Some(3));
        // What is made here with this content keeps the shared layer.
        let content = record.content.unwrap();
        assert_eq!(home.layer_with_content(&content).unwrap(), Some(first[0]));
    }

    #[test]
    fn a_layer_that_was_made_here_stays() {
        let (_directory, home) = home();
        let mut record = LayerRecord::made_by_step(home.new_layer_id().unwrap());
        record.diff_id = Some(DiffId::of(b"tar"));
        record.content = Some(ContentDigest::from_bytes([1; 32]));
        home.put_layer(&record).unwrap();
        std::fs::write(home.tar_path(&record.id), "tar").unwrap();
        home.note_content(&record.content.unwrap(), &record.id)
            .unwrap();

        let result = StepResult {
            layers: vec![step("tar")],
        };
        let adopted = adopt(&home, "a", (&result, &[trees("1")]), false)
            .unwrap()
            .unwrap();
        assert_eq!(adopted, [record.id]);
        assert_eq!(home.copies_of(&record.id).unwrap().len(), 1);
        let known = home.layer(&record.id).unwrap().unwrap();
        assert_eq!(known.blobs, [blob(Some(6))]);

        // With other times it is another layer.
        let result = StepResult {
            layers: vec![step("other tar")],
        };
        let adopted = adopt(&home, "a", (&result, &[trees("1")]), false)
            .unwrap()
            .unwrap();
        assert_eq!(adopted, [LayerId::of_diff_id(&DiffId::of(b"other tar"))]);
        // And one whose files are lost is none.
        std::fs::remove_file(home.tar_path(&record.id)).unwrap();
        let result = StepResult {
            layers: vec![step("tar")],
        };
        let adopted = adopt(&home, "a", (&result, &[trees("1")]), false)
            .unwrap()
            .unwrap();
        assert_eq!(adopted, [LayerId::of_diff_id(&DiffId::of(b"tar"))]);
    }

    #[test]
    fn what_is_proven_takes_the_place_of_bare_words() {
        let (_directory, home) = home();
        let adopt = |form: StoredBlob, proven| {
            let mut layer = step("tar");
            layer.blobs = vec![form];
            let result = StepResult {
                layers: vec![layer],
            };
            let id = adopt(&home, "a", (&result, &[trees("1")]), proven);
            let id = id.unwrap().unwrap()[0];
            home.layer(&id).unwrap().unwrap().blobs
        };
        let form = |text: &str| StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, BlobDigest::of(text.as_bytes()), 4),
            ..blob(Some(6))
        };
        assert_eq!(adopt(form("forged"), false), [form("forged")]);
        assert_eq!(adopt(form("right"), false), [form("forged")]);
        assert_eq!(adopt(form("right"), true), [form("right")]);
    }

    #[test]
    fn layers_of_images_are_what_they_are_when_pulled() {
        let (_directory, home) = home();
        let diff_id = DiffId::of(b"base");
        let image = |repository: &str| ResultLayer {
            diff_id,
            blobs: vec![blob(None)],
            origin: ResultOrigin::Image {
                repositories: vec![repository.parse().unwrap()],
            },
        };
        let adopt = |layer: ResultLayer| {
            let result = StepResult {
                layers: vec![layer],
            };
            let adopted = adopt(&home, "a", (&result, &[Vec::new()]), false).unwrap();
            adopted.unwrap()[0]
        };
        let id = adopt(image("one.example.com/base"));
        let pulled = LayerRecord::of_image(diff_id, blob(None), None);
        assert_eq!(id, pulled.id);
        adopt(image("two.example.com/base"));
        let record = home.layer(&id).unwrap().unwrap();
        assert_eq!(record.content, pulled.content);
        assert_eq!(record.blobs, pulled.blobs);
        let LayerOrigin::Image { repositories } = record.origin else {
            panic!("{record:?}");
        };
        assert_eq!(repositories.len(), 2);
    }

    #[test]
    fn layers_of_images_that_nobody_has_for_us_make_no_result() {
        let (_directory, home) = home();
        let base = ResultLayer {
            diff_id: DiffId::of(b"base"),
            blobs: vec![blob(None)],
            origin: ResultOrigin::Image {
                repositories: Vec::new(),
            },
        };
        let result = StepResult {
            layers: vec![step("tar"), base],
        };
        let trees = [trees("1"), Vec::new()];
        assert_eq!(adopt(&home, "a", (&result, &trees), false).unwrap(), None);
        let step = LayerId::of_diff_id(&DiffId::of(b"tar"));
        assert!(home.layer(&step).unwrap().is_none());

        // This build stands on it, wherever it came from.
        let here = LayerRecord::of_image(DiffId::of(b"base"), blob(None), None);
        home.put_layer(&here).unwrap();
        let adopted = adopt(&home, "a", (&result, &trees), false).unwrap();
        assert_eq!(adopted, Some(vec![step, here.id]));
    }
}
