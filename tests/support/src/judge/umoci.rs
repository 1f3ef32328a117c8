//! umoci: unpacks an OCI layout.

use std::path::Path;

use crate::command::TestCommand;
use crate::tree::Tree;

/// Unpacks the image with the tag `image`.
pub(super) fn unpack(layout: &Path, bundle: &Path) -> Tree {
    TestCommand::root("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:image", layout.display()))
        .arg(bundle)
        .run()
        .success();
    Tree::read(&bundle.join("rootfs"))
}
