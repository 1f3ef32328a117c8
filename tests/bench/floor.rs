//! What the machine can do at best: the same work done by the simplest program there is for it.

use std::path::Path;

use ashlar_test_support::command::TestCommand;

use crate::measure::Case;
use crate::subject::Site;

/// `cp -r` of a tree.
pub(crate) fn copy<'a>(site: &'a Site, tree: &'a Path) -> Case<'a> {
    Case::new("cp -r", move || {
        site.command("cp")
            .arg("-r")
            .arg(tree)
            .arg(site.fresh("copied"))
    })
}

/// A walk of a tree that asks for the status of everything.
pub(crate) fn stat_walk<'a>(site: &'a Site, tree: &'a Path) -> Case<'a> {
    Case::new("stat walk (find)", move || {
        // A size test that no file meets: find must ask for the status, and prints nothing.
        site.command("find").arg(tree).args(["-size", "+1000000G"])
    })
}

/// `tar` piped through a compressor that uses all processors.
pub(crate) fn tar_through<'a>(
    site: &'a Site,
    tree: &'a Path,
    compressor: &'static str,
) -> Case<'a> {
    let subject = match compressor {
        "pigz" => "tar | pigz",
        _ => "tar | zstd -T0",
    };
    Case::new(subject, move || {
        let script = "tar --create --file - --directory \"$1\" . | $0 > \"$2\"";
        site.command("bash")
            .args(["-o", "pipefail", "-c", script, compressor])
            .arg(tree)
            .arg(site.fresh("compressed"))
    })
}

/// A program that does nothing: what starting a process and looking after it costs here.
pub(crate) fn nothing(site: &Site) -> Case<'_> {
    Case::new("/bin/true", move || -> TestCommand { site.command("true") })
}
