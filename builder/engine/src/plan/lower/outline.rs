//! What a target takes from outside, once its stages are lowered.

use std::collections::BTreeSet;

use ashlar_model::mount::MountSpec;

use super::Lowering;
use crate::graph::{NodeKind, PlannedOp};
use crate::plan::outline::{self, Outline, OutlineAccess};

impl Lowering<'_> {
    /// What the target, and the stages that were lowered for it, take from outside.
    pub(in crate::plan) fn outline(&self) -> Outline {
        let target = self.stages.target;
        let others = (0..self.done.len()).rev().filter(|index| *index != target);
        let stages = std::iter::once(target).chain(others).filter_map(|index| {
            let state = self.done[index].as_ref()?;
            Some((&self.dockerfile.stages[index], &state.own_arguments))
        });
        let stage = &self.dockerfile.stages[target];
        Outline {
            name: stage.name().map(str::to_owned),
            description: stage.description().map(str::to_owned),
            arguments: outline::arguments(self.dockerfile, self.options, self.globals, stages),
            secrets: self.accesses(|mount| match mount {
                MountSpec::Secret(secret) => Some((&secret.id, secret.required)),
                _ => None,
            }),
            ssh: self.accesses(|mount| match mount {
                MountSpec::Ssh(agent) => Some((&agent.id, agent.required)),
                _ => None,
            }),
        }
    }

    /// What commands are let use by some of their mounts, each by its first line.
    fn accesses(&self, name: impl Fn(&MountSpec) -> Option<(&String, bool)>) -> Vec<OutlineAccess> {
        let mut found: Vec<OutlineAccess> = Vec::new();
        for (_, node) in self.graph.nodes() {
            let (
                NodeKind::Step {
                    op: PlannedOp::Run(run),
                    ..
                },
                Some(range),
            ) = (&node.kind, node.range)
            else {
                continue;
            };
            found.extend(
                run.spec
                    .mounts
                    .iter()
                    .filter_map(&name)
                    .map(|(id, required)| OutlineAccess {
                        id: id.clone(),
                        required,
                        range,
                    }),
            );
        }
        found.sort_by_key(|access| access.range);
        let mut known = BTreeSet::new();
        found.retain(|access| known.insert(access.id.clone()));
        found
    }
}
