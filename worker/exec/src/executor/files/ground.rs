//! What of a layer's tree depends on the layers below: directories that the tar does not name are
//! what is below, and a layer that hides all of that needs whiteouts for it.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use ashlar_model::digest::LayerId;
use ashlar_model::layer::{LayerPath, Metadata};
use rustix::io::Errno;

use super::super::request::WorkError;
use super::{StoredLayer, failed, home, of_error, of_store, of_view, view};
use crate::copy::materialise::set_directory;
use crate::layer::tree::{Root, whiteout};

/// Sets a tree up for the layers below. Unnamed directories are 0755 and root's where those have no
/// directory.
pub(in super::super) fn set_on_ground(
    root: &Path,
    layer: &LayerId,
    tree: &Path,
    below: &[PathBuf],
) -> Result<(), WorkError> {
    let home = home(root)?;
    let below: Vec<_> = below.iter().cloned().map(StoredLayer::Tree).collect();
    let below = view(&home, &below)?;
    let opened =
        Root::open(tree).map_err(|e| failed(format_args!("cannot open {}", tree.display()), &e))?;
    let ground = home.layer_ground(layer).map_err(of_store)?;
    if ground.hides_all {
        for name in below
            .names_at_most(&LayerPath::ROOT)
            .map_err(|e| of_view(&e))?
        {
            // What the tree has itself stays.
            match whiteout::make_whiteout(opened.as_fd(), &name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    let tree = tree.display();
                    return Err(failed(
                        format_args!("cannot hide what is below {tree}"),
                        &errno.into(),
                    ));
                }
            }
        }
    }
    for path in ground.unnamed {
        let found = below.directory_metadata(&path).map_err(|e| of_view(&e))?;
        let metadata = found.unwrap_or_else(|| Metadata {
            mode: 0o755,
            ..Metadata::default()
        });
        let directory = opened.open_directory(&path).map_err(|e| {
            failed(
                format_args!("cannot open {path} in {}", tree.display()),
                &e.into(),
            )
        })?;
        set_directory(&directory, &path, &metadata).map_err(|error| of_error(&error))?;
    }
    Ok(())
}
