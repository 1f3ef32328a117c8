//! A monorepo: one Dockerfile of nearly fifty stages, with libraries that share libraries, an image
//! for each service and one for all.

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::progress::{End, Progress};

/// A stage and one of its instructions.
type Step = (String, String);

/// The repository in a place of its own.
fn repository() -> (TestHome, Context) {
    let home = TestHome::sub();
    let context = home.context("monorepo");
    graph::write(&context);
    (home, context)
}

/// A build of a target, tagged with the target's name, with busybox under the name that the
/// Dockerfile has for it.
fn build_command(home: &TestHome, context: &Context, target: &str) -> TestCommand {
    let base = format!("busybox:1={}", bases::busybox().reference());
    let tag = format!("{target}:1");
    home.build_command(context, &["--build-context", &base])
        .args(["--target", target, "-t", &tag])
}

fn build(home: &TestHome, context: &Context, target: &str) -> Progress {
    build_command(home, context, target)
        .run()
        .success()
        .progress()
}

/// The steps that ended in one of some ways.
fn steps(progress: &Progress, ends: &[End]) -> BTreeSet<Step> {
    let all = progress.named("").into_iter();
    all.filter(|step| step.end.as_ref().is_some_and(|end| ends.contains(end)))
        .filter_map(|step| {
            let stage = step.name.strip_prefix('[')?.split(' ').next()?;
            Some((stage.to_owned(), step.instruction()?.to_owned()))
        })
        .collect()
}

/// The steps that ran.
fn ran(progress: &Progress) -> BTreeSet<Step> {
    steps(progress, &[End::Done])
}

/// The stages of some steps.
fn stages(steps: &BTreeSet<Step>) -> BTreeSet<String> {
    steps.iter().map(|(stage, _)| stage.clone()).collect()
}

/// Asserts what a service's image prints.
#[track_caller]
fn assert_prints(home: &TestHome, service: &str, expected: &str) {
    let image = format!("{service}:1");
    let run = home.ashlar(["run", "--rm", &image]).run();
    assert_eq!(run.success().stdout(), expected, "{service}");
}

#[test]
fn every_service_is_made_of_what_all_share() {
    let (home, context) = repository();
    assert!(graph::stage_count() >= 40);
    build(&home, &context, "tests");
    build(&home, &context, "aggregate");
    for service in graph::services() {
        // All is linked by now: what is left is the image.
        let progress = build(&home, &context, service);
        let own = BTreeSet::from([service.to_owned()]);
        assert_eq!(stages(&ran(&progress)), own);
        assert_prints(&home, service, &graph::output(service));
        assert!(ran(&build(&home, &context, service)).is_empty());
    }
    let out = home.path("out");
    let output = format!("type=local,dest={}", out.display());
    let again = build_command(&home, &context, "aggregate")
        .args(["-o", &output])
        .run();
    assert!(ran(&again.success().progress()).is_empty(), "{again}");
    let found = fs::read_dir(out.join("services")).unwrap().count();
    assert_eq!(found, graph::services().count());
    home.assert_clean();
}

#[test]
fn a_target_builds_what_it_needs_and_nothing_else() {
    let (home, context) = repository();
    for service in ["cron", "gateway"] {
        let progress = build(&home, &context, service);
        let told = steps(&progress, &[End::Done, End::Cached]);
        assert_eq!(stages(&told), graph::stages_for(service), "{service}");
    }
}

#[test]
fn a_changed_library_runs_exactly_its_dependents() {
    let (home, context) = repository();
    let build_all = || -> BTreeSet<Step> {
        let builds = graph::services().map(|service| build(&home, &context, service));
        builds.flat_map(|progress| ran(&progress)).collect()
    };
    let again = || -> BTreeSet<String> {
        let steps = build_all().into_iter();
        steps
            .map(|(stage, step)| graph::chain(&stage, &step))
            .collect()
    };
    build_all();
    // One that few stand on, one in the middle, and the one that all stand on.
    for library in ["queue", "auth", "core"] {
        let louder = graph::source(library).replace("hello", "hello, loudly");
        context.file(&graph::source_of("libs", library), louder);
        assert_eq!(again(), graph::chains_changed_by(library), "{library}");
    }
    let mut expected = graph::output("cron");
    for library in ["queue", "core"] {
        let line = format!("{library} says hello");
        expected = expected.replace(&line, &format!("{line}, loudly"));
    }
    assert_prints(&home, "cron", &expected);
    home.assert_clean();
}

#[test]
fn a_comment_in_the_lowest_library_runs_that_library_alone() {
    let (home, context) = repository();
    build(&home, &context, "aggregate");
    let commented = format!("# Nothing new.\n{}", graph::source("core"));
    context.file(&graph::source_of("libs", "core"), commented);
    let progress = build(&home, &context, "aggregate");
    let expected = ["COPY libs/core/ /src/", "RUN make-unit core"];
    let expected = expected.map(|step| ("lib-core".to_owned(), step.to_owned()));
    assert_eq!(ran(&progress), BTreeSet::from(expected));
}

#[test]
fn ten_targets_at_once_run_what_they_share_once() {
    let (home, context) = repository();
    let ten: Vec<&str> = graph::services().take(10).collect();
    let start = |service: &&str| build_command(&home, &context, service).start();
    let builds: Vec<_> = ten.iter().map(start).collect();
    let mut times: BTreeMap<Step, u32> = BTreeMap::new();
    for build in builds {
        let output = build.wait();
        output.success();
        for step in ran(&output.progress()) {
            *times.entry(step).or_default() += 1;
        }
    }
    times.retain(|_, times| *times != 1);
    assert!(times.is_empty(), "these ran more than once: {times:#?}");
    for service in ten {
        assert_prints(&home, service, &graph::output(service));
    }
    home.assert_clean();
}
