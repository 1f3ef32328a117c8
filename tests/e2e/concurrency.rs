//! Many builds at once in one store.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::layout::Layout;

#[test]
fn ten_builds_at_once_give_one_image_and_run_identical_steps_once() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(&bases::busybox().dockerfile(
            "COPY f /f\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /once\n\
             RUN cat /once /proc/sys/kernel/random/uuid > /twice\nWORKDIR /w\n",
        ))
        .file("f", "f");
    let path = |number: usize| home.path(&format!("out{number}"));
    let builds: Vec<_> = (0..10)
        .map(|number| {
            let output = format!("type=oci,tar=false,dest={}", path(number).display());
            home.build_command(&context, &["-t", "same", "-o", &output])
                .start()
        })
        .collect();
    let mut ran = 0;
    for build in builds {
        let output = build.wait();
        output.success();
        let progress = output.progress();
        ran += progress
            .ran()
            .iter()
            .filter(|ran| ran.starts_with("RUN cat /once"))
            .count();
    }
    let first = Layout::open(path(0)).config()["rootfs"].clone();
    for number in 1..10 {
        assert_eq!(
            Layout::open(path(number)).config()["rootfs"],
            first,
            "build {number}"
        );
    }
    assert_eq!(
        ran, 1,
        "one of the builds must have run the step, and one only"
    );
    home.assert_clean();
}

#[test]
fn different_builds_at_once_do_not_disturb_each_other() {
    let home = TestHome::sub();
    let builds: Vec<_> = (0..6)
        .map(|number| {
            let context = home.context(&format!("context{number}"));
            context
                .dockerfile(&bases::busybox().dockerfile(&format!(
                    "COPY f /f\nRUN echo shared > /shared\nRUN cat /f > /own && echo {number}\n"
                )))
                .file("f", format!("content {number}"));
            let out = home.path(&format!("out{number}"));
            let output = format!("type=local,dest={}", out.display());
            (
                number,
                out,
                home.build_command(&context, &["-o", &output]).start(),
            )
        })
        .collect();
    for (number, out, build) in builds {
        build.wait().success();
        let own = std::fs::read_to_string(out.join("own")).unwrap();
        assert_eq!(own, format!("content {number}"));
    }
    home.assert_clean();
}

#[test]
fn a_build_goes_on_when_the_one_it_waits_for_is_killed() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN echo started; sleep 3; echo x > /made\n"));
    let mut first = home.build_command(&context, &[]).start();
    first.wait_for_output("started");
    let second = home.build_command(&context, &["-t", "second"]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    first.signal(rustix::process::Signal::KILL);
    assert_eq!(first.wait().signal(), Some(9));
    second.wait().success();
    home.build_tree(&context, &[]).at("made").has_content("x\n");
    home.assert_clean();
}

#[test]
fn pruning_takes_nothing_from_a_running_build() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(
        "RUN echo one > /one\nRUN echo started; sleep 2; cat /one > /two\nRUN cat /two > /three\n",
    ));
    let mut build = home.build_command(&context, &["-t", "kept"]).start();
    build.wait_for_output("started");
    for _ in 0..5 {
        home.ashlar(["prune", "--all", "--force"]).run().success();
    }
    build.wait().success();
    home.build_tree(&context, &[])
        .at("three")
        .has_content("one\n");
}
