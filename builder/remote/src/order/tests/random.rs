//! Any graph whatever has the same layers from a farm as from here.

use std::collections::BTreeSet;

use ashlar_engine::graph::NodeId;
use ashlar_engine::schedule;
use ashlar_store::home::Home;

use super::fakes::Machine;
use super::farm::{Bench, Plan, diff_ids};

/// A few numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// A graph whose commands have few names, so that some are alike. `changed` is another name for one
/// of them.
fn graph(home: &Home, seed: u64, changed: Option<usize>) -> (Plan, NodeId) {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut plan = Plan::default();
    let mut nodes = vec![plan.base(home)];
    for number in 0..4 + chance.below(10) {
        // What is near is needed more often.
        let mut near = |most: usize| {
            let back = chance.below(most.min(nodes.len()));
            nodes[nodes.len() - 1 - back]
        };
        let (one, other) = (near(4), near(8));
        let kind = chance.below(6);
        let name = match changed == Some(number) {
            true => "changed".to_owned(),
            false => chance.below(5).to_string(),
        };
        nodes.push(match kind {
            0..=2 => plan.run(one, &name),
            3 | 4 => plan.copy(one, other, &name),
            _ => plan.stack(one, other),
        });
    }
    let target = nodes[nodes.len() - 1];
    (plan, target)
}

#[tokio::test]
async fn a_farm_and_a_machine_make_the_same() {
    for seed in 1..9 {
        let bench = Bench::new(3);
        for changed in [None, Some(usize::try_from(seed % 7).unwrap())] {
            let (plan, target) = graph(&bench.client.home, seed, changed);
            let made = bench.build(&plan, target).await.unwrap();
            // Nothing is made twice.
            let keyed = plan.keyed();
            let steps = keyed.graph.nodes().filter(|(_, node)| node.is_step());
            let different: BTreeSet<[u8; 32]> = steps
                .map(|(id, _)| *keyed.keys[id.index()].definition.as_bytes())
                .collect();
            assert!(bench.workers.ran().len() <= different.len(), "{seed}");
            bench.workers.orders();

            let local = Machine::new(None, false);
            let (plan, target) = graph(&local.home, seed, changed);
            let options = local.options();
            let here = schedule::make(plan.keyed(), target, options, local.surroundings());
            let here = here.await.layers.unwrap();
            assert_eq!(diff_ids(&made), diff_ids(&here), "{seed}");

            bench.build(&plan, target).await.unwrap();
            assert_eq!(bench.workers.orders(), 0, "{seed}");
        }
    }
}
