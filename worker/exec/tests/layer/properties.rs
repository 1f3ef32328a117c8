//! Applying a layer gives what the step left, whatever the step did.

use proptest::prelude::*;

use super::lab::{Lab, exact_tar_of};

/// A shell command on a few names, so that steps meet each other's files. Any may fail.
fn command() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let mode = prop::sample::select(vec!["600", "755", "2711", "1777", "4755"]);
    let time = prop::sample::select(vec!["1", "2", "1000000000.5"]);
    (0..13_u8, path.clone(), path, mode, time).prop_map(|(kind, one, two, mode, time)| match kind {
        0 | 1 => format!("mkdir -p {one}"),
        // Opening a pipe would wait for its other end.
        2 | 3 => format!("[ -p {one} ] || echo {two} >{one}"),
        4 => format!("rm -rf {one}"),
        5 => format!("mv {one} {two}"),
        6 => format!("ln {one} {two}"),
        7 => format!("ln -snf {one} {two}"),
        8 => format!("chmod {mode} {one}"),
        9 => format!("touch -h -d @{time} {one}"),
        // What a copy of a directory into itself gives depends on the order of its listing; and
        // opening an old destination that is a pipe would wait.
        10 if two.starts_with(&one) => String::from(":"),
        10 => format!("cp -a --remove-destination {one} {two}"),
        11 => format!("mkfifo {one}"),
        _ if one.starts_with(&two) => format!("rm -rf {one}"),
        _ => format!("rm -rf {one}; mkdir -p {one}; cp -a --remove-destination {two} {one}"),
    })
}

fn script() -> impl Strategy<Value = String> {
    prop::collection::vec(command(), 1..12).prop_map(|commands| {
        let commands: String = commands
            .iter()
            .map(|c| format!("{{ {c}; }} 2>/dev/null || :\n"))
            .collect();
        commands
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// 49
    #[test]
    fn applying_a_layer_gives_what_the_step_left(
        below in prop::collection::vec(script(), 1..4),
        step in script(),
    ) {
        let mut lab = Lab::new();
        for script in &below {
            lab.keep(script);
        }
        let step = lab.run(&step);
        let (index, _) = lab.index(&step);
        lab.check_apply(&step, &index);
    }

    /// The same over layers that came as tars.
    #[test]
    fn the_way_a_layer_came_makes_no_difference(
        below in prop::collection::vec(script(), 1..4),
        step in script(),
    ) {
        let mut lab = Lab::new();
        let mut unpacked = Lab::new();
        for script in &below {
            let layer = lab.run_only(script);
            let (index, _) = lab.index_of(&layer).unwrap();
            // With whole seconds, two files might have the same time in one of them only.
            let (tree, _) = unpacked.unpack(&exact_tar_of(&index, &layer));
            lab.layers.push(layer);
            unpacked.layers.push(tree);
        }
        let [one, other] = [&lab, &unpacked].map(|lab| {
            let layer = lab.run_only(&step);
            lab.index_of(&layer).unwrap().0.content_digest()
        });
        prop_assert_eq!(one, other);
    }
}
