//! COPY, ADD and WORKDIR on stored layers.

use std::fs;
use std::path::{Path, PathBuf};

use ashlar_model::digest::LayerId;
use ashlar_model::executor::PackRequest;
use ashlar_model::layer::LayerRecord;
use ashlar_model::step::{CopySource, CopySpec, MakeDirectorySpec, Selection};
use serde::{Deserialize, Serialize};

use super::super::clock::now;
use super::super::request::WorkError;
use super::archive::{Archive, ArchiveOptions, is_archive, unpack_archive};
use super::pack::{self, PackedLayer};
use super::{StoredLayer, failed, home, of_error, view};
use crate::copy::materialise::{MaterialiseError, materialise};
use crate::copy::{
    CopyError, Digests, LayerSelection, LayeredView, Plan, RecipeContents, SourceFiles, plan_copy,
    plan_make_directory,
};

/// A layer to make from files.
#[derive(Debug, Serialize, Deserialize)]
pub struct CopyJob {
    /// The store.
    pub home: PathBuf,
    /// The layer's name.
    pub layer: LayerId,
    /// The filesystem that it will lie on, bottom first.
    pub parent: Vec<StoredLayer>,
    /// The filesystems that the spec's `Layers` sources are in, in their order.
    pub sources: Vec<Vec<StoredLayer>>,
    /// A directory for temporary files, on the store's filesystem.
    pub scratch: PathBuf,
    /// What to make.
    pub form: LayerForm,
    /// Whether only one user id exists where the layer is made.
    pub single_owner: bool,
}

/// What a layer made from files becomes.
#[derive(Debug, Serialize, Deserialize)]
pub enum LayerForm {
    /// A tree at this path.
    Tree(PathBuf),
    /// No tree: its index, its tar or blobs, and a complete record. Whatever is `wanted` is made;
    /// the tar is kept if no blob is, for the files must be somewhere.
    Packed(PackRequest),
}

impl LayerForm {
    /// Whether the digests of files that come without must be computed: an index has to have them.
    /// A tree's index is made when the tree is read.
    const fn digests(&self) -> Digests {
        match self {
            Self::Tree(_) => Digests::Skip,
            Self::Packed(_) => Digests::Compute,
        }
    }
}

/// Makes the layer of a COPY or ADD. Returns warnings.
pub fn copy(spec: &CopySpec, job: &CopyJob) -> Result<Vec<String>, WorkError> {
    let home = home(&job.home)?;
    let destination = view(&home, &job.parent)?;
    let digests = job.form.digests();
    let mut stacks = job.sources.iter();
    let mut opened: Vec<Source<'_>> = Vec::new();
    let mut archives = 0;
    let mut notes = Vec::new();
    let options = ArchiveOptions {
        meter: &home.meter(),
        digests,
        single_owner: job.single_owner,
    };
    for source in &spec.sources {
        match source {
            CopySource::Inline { name, data } => opened.push(Source::Inline { name, data }),
            CopySource::Layers { query, .. } => {
                let stack = stacks.next().map(Vec::as_slice).unwrap_or_default();
                let view = view(&home, stack)?;
                let selected = crate::copy::select(&view, query.clone(), digests)
                    .map_err(|error| super::select::of_select(&error))?;
                opened.push(Source::Layers { view, selected });
            }
            CopySource::Directory { root, selection } if !spec.unpack => {
                opened.push(Source::Directory { root, selection });
            }
            CopySource::Fetched {
                root,
                selection,
                unpack: false,
            } => opened.push(Source::Directory { root, selection }),
            CopySource::Directory { root, selection }
            | CopySource::Fetched {
                root, selection, ..
            } => {
                for item in &selection.items {
                    if is_archive(root, item) {
                        archives += 1;
                        let tree = job.scratch.join(format!("archive-{archives}"));
                        let archive = unpack_archive(root, item, &tree, options)?;
                        notes.extend_from_slice(&archive.warnings);
                        opened.push(Source::Archive(archive));
                    } else {
                        let items = vec![item.clone()];
                        let selection = Selection { items };
                        opened.push(Source::Alone { root, selection });
                    }
                }
            }
        }
    }
    let sources: Vec<SourceFiles<'_>> = opened.iter().map(Source::files).collect();
    let plan = plan_copy(spec, &sources, &destination, now()).map_err(|e| of_copy(&e))?;
    notes.extend(make(&home, plan, job)?);
    Ok(notes)
}

/// Makes the layer of a WORKDIR. Returns warnings.
pub fn make_directory(spec: &MakeDirectorySpec, job: &CopyJob) -> Result<Vec<String>, WorkError> {
    let home = home(&job.home)?;
    let destination = view(&home, &job.parent)?;
    let plan = plan_make_directory(spec, &destination, now()).map_err(|e| of_copy(&e))?;
    make(&home, plan, job)
}

fn make(
    home: &ashlar_store::home::Home,
    plan: Plan,
    job: &CopyJob,
) -> Result<Vec<String>, WorkError> {
    let Plan { recipe, warnings } = plan;
    let mut notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let mut record = LayerRecord::made_by_step(job.layer);
    record.created = Some(now());
    match &job.form {
        LayerForm::Tree(path) => {
            let made = job.scratch.join("tree");
            fs::create_dir(&made)
                .map_err(|e| failed(format_args!("cannot create {}", made.display()), &e))?;
            let skipped = materialise(&recipe, &made, &home.meter()).map_err(|error| {
                let input = matches!(
                    error,
                    MaterialiseError::Changed { .. } | MaterialiseError::Owner { .. }
                );
                let mut told = of_error(&error);
                if !job.single_owner {
                    // Where only one id exists, whoever started this knows why.
                    told.hint = told.hint.or_else(|| error.hint());
                }
                WorkError { input, ..told }
            })?;
            notes.extend(skipped.iter().map(ToString::to_string));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)
                    .map_err(|e| failed(format_args!("cannot create {}", parent.display()), &e))?;
            }
            super::note_tree(home, &made, path)?;
            super::rename(&made, path)?;
        }
        LayerForm::Packed(wanted) => {
            let contents = RecipeContents::open(&recipe)
                .map_err(|e| failed("cannot open the files to copy", &e))?;
            let index = recipe.index();
            let with_tar = wanted.blobs.is_empty();
            let packed: PackedLayer =
                pack::pack_contents(home, &job.layer, &index, &contents, wanted, with_tar)?;
            home.put_layer_index(&job.layer, &index)
                .map_err(super::of_store)?;
            packed.fill_in(&mut record);
            record.content = Some(index.content_digest());
        }
    }
    home.put_layer(&record).map_err(super::of_store)?;
    Ok(notes)
}

fn of_copy(error: &CopyError) -> WorkError {
    match error {
        CopyError::View(error) => super::of_view(error),
        error => WorkError::input(super::chain(error), error.hint()),
    }
}

/// A source with what must live as long as it.
enum Source<'a> {
    Directory {
        root: &'a Path,
        selection: &'a Selection,
    },
    Alone {
        root: &'a Path,
        selection: Selection,
    },
    Layers {
        view: LayeredView,
        selected: LayerSelection,
    },
    Archive(Archive),
    Inline {
        name: &'a str,
        data: &'a [u8],
    },
}

impl Source<'_> {
    fn files(&self) -> SourceFiles<'_> {
        match self {
            Self::Directory { root, selection } => SourceFiles::Directory { root, selection },
            Self::Alone { root, selection } => SourceFiles::Directory { root, selection },
            Self::Layers { view, selected } => SourceFiles::Layers {
                view,
                selection: selected,
            },
            Self::Archive(archive) => SourceFiles::Unpacked {
                view: &archive.view,
                selection: &archive.selected,
            },
            Self::Inline { name, data } => SourceFiles::Inline { name, data },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use ashlar_model::layer::{EntryKind, LayerIndex};
    use ashlar_store::home::Home;

    use super::*;

    /// The index of a layer that is made of these sources, and never becomes a tree.
    fn packed(home: &Home, sources: Vec<CopySource>, stacks: Vec<Vec<StoredLayer>>) -> LayerIndex {
        let layer = home.new_layer_id().unwrap();
        let spec = CopySpec {
            sources,
            destination: "/to/".to_owned(),
            owner: None,
            mode: None,
            unpack: true,
            created: None,
        };
        let scratch = home.scratch().unwrap();
        let job = CopyJob {
            home: home.root().to_owned(),
            layer,
            parent: Vec::new(),
            sources: stacks,
            scratch: scratch.path().to_owned(),
            form: LayerForm::Packed(PackRequest::default()),
            single_owner: false,
        };
        copy(&spec, &job).unwrap();
        assert!(home.tar_path(&layer).is_file());
        home.layer_index(&layer).unwrap().unwrap()
    }

    fn digest_of(index: &LayerIndex, path: &str) -> Option<blake3::Hash> {
        let entry = index
            .entries
            .iter()
            .find(|entry| entry.path.to_string().trim_start_matches('/') == path);
        let digest = entry.unwrap().file_digest()?;
        Some(blake3::Hash::from_bytes(*digest.as_bytes()))
    }

    #[test]
    fn files_of_other_stages_have_their_digests_in_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(&directory.path().join("home")).unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("from")).unwrap();
        fs::write(tree.join("from/file"), "content").unwrap();
        let source = CopySource::Layers {
            layers: Vec::new(),
            query: "/from".into(),
        };
        let index = packed(&home, vec![source], vec![vec![StoredLayer::Tree(tree)]]);
        assert_eq!(digest_of(&index, "to/file"), Some(blake3::hash(b"content")));
    }

    #[test]
    fn files_of_archives_have_their_digests_in_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(&directory.path().join("home")).unwrap();
        let mut archive = tar::Builder::new(File::create(directory.path().join("a.tar")).unwrap());
        let mut header = tar::Header::new_ustar();
        header.set_size(7);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, "file", b"content".as_slice())
            .unwrap();
        archive.finish().unwrap();
        let item = ashlar_model::step::SelectedItem {
            name: b"a.tar".to_vec(),
            path: ashlar_model::layer::LayerPath::new(b"a.tar").unwrap(),
            entries: vec![ashlar_model::layer::Entry {
                path: ashlar_model::layer::LayerPath::default(),
                metadata: ashlar_model::layer::Metadata::default(),
                kind: EntryKind::File {
                    size: 2048,
                    digest: None,
                },
            }],
            ways: Vec::new(),
        };
        let source = CopySource::Directory {
            root: directory.path().to_owned(),
            selection: std::sync::Arc::new(Selection { items: vec![item] }),
        };
        let index = packed(&home, vec![source], Vec::new());
        assert_eq!(digest_of(&index, "to/file"), Some(blake3::hash(b"content")));
    }
}
