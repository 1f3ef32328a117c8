//! A walk that takes only what a filter says (`--exclude`, `--parents`).

use ashlar_model::layer::LayerPath;
use ashlar_model::select::{Filter, FilterState};

use super::{LayeredView, Seen, ViewError};

/// Something on the walk.
struct Step {
    seen: Seen,
    taken: bool,
    /// Of a directory: what the filter has said of it.
    state: Option<FilterState>,
}

impl LayeredView {
    /// A directory and all below it that the filter takes, in the order of paths; and the places
    /// of those directories that are there only as the way to others.
    pub(in super::super) fn walk_part(
        &self,
        start: Seen,
        filter: &Filter,
    ) -> Result<(Vec<Seen>, Vec<usize>), ViewError> {
        let base = start.node.entry.path.clone();
        let mut all = vec![Step {
            seen: start,
            taken: true,
            state: Some(filter.root()),
        }];
        let mut next = 0;
        while let Some(step) = all.get(next) {
            next += 1;
            let Some(state) = &step.state else {
                continue;
            };
            let children = self.see_children(&step.seen.node.entry.path, &step.seen.parts)?;
            let below: Vec<Step> = children
                .into_iter()
                .filter_map(|child| judge(child, &base, filter, state))
                .collect();
            all.extend(below);
        }
        all.sort_unstable_by(|a, b| a.seen.node.entry.path.cmp(&b.seen.node.entry.path));
        Ok(without_dead_ends(all))
    }
}

/// What the filter says of something in a directory; `None` if neither it nor anything below it
/// is taken.
fn judge(seen: Seen, base: &LayerPath, filter: &Filter, parent: &FilterState) -> Option<Step> {
    let path = seen.node.entry.path.strip_prefix(base)?;
    if !seen.node.entry.is_directory() {
        let taken = filter.takes(path.as_bytes(), parent);
        let state = None;
        return taken.then_some(Step { seen, taken, state });
    }
    let (taken, state) = filter.judge_directory(path.as_bytes(), parent);
    let enter = taken || filter.may_take_below(path.as_bytes(), parent);
    enter.then_some(Step {
        seen,
        taken,
        state: Some(state),
    })
}

/// Drops the directories that lead to nothing, and tells which lead on.
fn without_dead_ends(all: Vec<Step>) -> (Vec<Seen>, Vec<usize>) {
    let mut kept: Vec<Step> = Vec::with_capacity(all.len());
    for step in all.into_iter().rev() {
        // What was kept last comes next in the order of paths, and so is below it, if anything is.
        let leads_on = kept.last().is_some_and(|next| {
            let next = &next.seen.node.entry.path;
            next.starts_with(&step.seen.node.entry.path)
        });
        if step.taken || leads_on {
            kept.push(step);
        }
    }
    kept.reverse();
    let ways = (0..).zip(&kept).filter(|(_, step)| !step.taken);
    let ways = ways.map(|(place, _)| place).collect();
    (kept.into_iter().map(|step| step.seen).collect(), ways)
}
