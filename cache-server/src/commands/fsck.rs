//! `ashlar-cache fsck`.

use ashlar_model::size::HumanSize;
use ashlar_store::clock;
use ashlar_store::disk::{CheckReport, DiskSettings, DiskStore};
use ashlar_store::{Fault, FaultKind};

use super::{print, runtime};
use crate::cli::FsckArgs;
use crate::failure::Failure;
use crate::settings::SettingsError;
use crate::settings::env::Environment;

/// Reads the whole store.
pub fn run(args: &FsckArgs, environment: &Environment) -> Result<u8, Failure> {
    let set = environment.options().map_err(Failure::usage)?.root;
    let root = args.root.clone().or(set);
    let root = root.ok_or_else(|| Failure::usage(SettingsError::NoRoot))?;
    if !root.is_dir() {
        return Err(Failure::new(format!("{} is no directory", root.display())));
    }
    let settings = DiskSettings {
        scrub: None,
        ..DiskSettings::default()
    };
    let failed = |fault: Fault| {
        let busy = fault.kind == FaultKind::Unavailable;
        let failure = Failure::new(format!("cannot check {}", root.display())).caused_by(fault);
        if busy {
            failure.hinted("stop the server first; while it runs, it looks for damage itself")
        } else {
            failure
        }
    };
    let store = DiskStore::open(&root, settings, clock::system()).map_err(failed)?;
    let report = runtime()?.block_on(store.fsck(args.repair));
    store.close();
    let report = report.map_err(failed)?;
    print(&rendered(&report, args.repair));
    Ok(u8::from(!report.is_clean() && !args.repair))
}

fn rendered(report: &CheckReport, repair: bool) -> String {
    let mut lines = Vec::new();
    for damage in &report.named {
        let what = if damage.is_gone { "gone" } else { "changed" };
        lines.push(format!("{what}: {}", damage.what));
    }
    let unnamed = report.damaged.saturating_sub(report.named.len() as u64);
    if unnamed > 0 {
        lines.push(format!("and {unnamed} more"));
    }
    if let Some(index) = &report.index {
        lines.push(format!("index: {index}"));
    }
    let outcome = match (report.is_clean(), repair) {
        (true, _) => "",
        (false, true) => ", removed",
        (false, false) => "; --repair removes them",
    };
    lines.push(format!(
        "{} entries with {}: {} damaged, {} files that nothing names{outcome}",
        report.entries,
        HumanSize(report.bytes),
        report.damaged,
        report.orphans,
    ));
    lines.push(String::new());
    lines.join("\n")
}
