//! RUN, and what USER, WORKDIR and SHELL mean for it.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::{Kind, Tree};

/// The tree that some instructions make of busybox.
fn tree_of(instructions: &str) -> Tree {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(instructions));
    home.build_tree(&context, &[])
}

#[test]
fn shell_and_exec_forms_and_heredocs_run() {
    let tree = tree_of(
        "RUN echo shell > /shell && \\\n    echo more >> /shell\n\
         RUN [\"/bin/sh\", \"-c\", \"echo $HOME > /exec\"]\n\
         RUN [\"touch\", \"/a b\"]\n\
         RUN <<EOF\nset -e\necho heredoc > /heredoc\nEOF\n\
         RUN <<-'EOF' cat > /piped\n\t$HOME stays\nEOF\n\
         RUN <<EOF\n#!/bin/cat\nshebang\nEOF\n",
    );
    tree.at("shell").has_content("shell\nmore\n");
    tree.at("exec").has_content("/root\n");
    tree.at("a b").has_content("");
    tree.at("heredoc").has_content("heredoc\n");
    tree.at("piped").has_content("$HOME stays\n");
}

#[test]
fn another_shell_is_used_from_its_place_on() {
    let tree = tree_of(
        "RUN echo $0 > /one\nSHELL [\"/bin/busybox\", \"sh\", \"-xc\"]\nRUN echo $0 > /two\n",
    );
    tree.at("one").has_content("/bin/sh\n");
    tree.at("two").has_content("sh\n");
}

#[test]
fn users_are_looked_up_in_the_image() {
    let report = "RUN id -u > /tmp/$STEP && id -g >> /tmp/$STEP && id -G >> /tmp/$STEP && \
                  echo $HOME >> /tmp/$STEP\n";
    let mut text = String::new();
    let cases = [
        ("root", "0\n0\n0 10\n/root\n"),
        ("app", "1000\n1000\n1000 29\n/home/app\n"),
        ("app:www-data", "1000\n33\n33\n/home/app\n"),
        ("1000", "1000\n1000\n1000 29\n/home/app\n"),
        ("4321", "4321\n0\n0\n/\n"),
        ("4321:77", "4321\n77\n77\n/\n"),
    ];
    for (step, (user, _)) in cases.iter().enumerate() {
        text += &format!("ENV STEP={step}\nUSER {user}\n{report}");
    }
    let tree = tree_of(&text);
    for (step, (_, expected)) in cases.iter().enumerate() {
        let ids: Vec<u32> = expected
            .lines()
            .take(2)
            .map(|id| id.parse().unwrap())
            .collect();
        tree.at(&format!("tmp/{step}"))
            .has_content(expected)
            .is_owned(0o644, ids[0], ids[1]);
    }
}

#[test]
fn an_unknown_user_is_an_error_that_names_it() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("USER nosuchuser\nRUN true\n"));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("nosuchuser");
}

#[test]
fn the_working_directory_is_made_for_the_user_and_used() {
    let tree = tree_of(
        "USER app\nWORKDIR /srv/new\nRUN pwd > here\nWORKDIR deeper\nRUN pwd > here\n\
         USER root\nWORKDIR /etc\nRUN pwd > /pwd\n",
    );
    tree.at("srv").is_directory().is_owned(0o755, 1000, 1000);
    tree.at("srv/new")
        .is_directory()
        .is_owned(0o755, 1000, 1000);
    tree.at("srv/new/here").has_content("/srv/new\n");
    tree.at("srv/new/deeper/here")
        .has_content("/srv/new/deeper\n");
    tree.at("etc").is_owned(0o755, 0, 0);
    tree.at("pwd").has_content("/etc\n");
}

#[test]
fn everything_a_filesystem_can_hold_is_kept() {
    let tree = tree_of(
        "RUN mkdir /x && cd /x && echo data > file && ln file hard && ln -s file soft && \
             ln -s /nowhere dangling && mkfifo fifo && mkdir -m 1777 sticky && \
             echo s > setuid && chown 33:10 setuid && chmod 6755 setuid && \
             echo m > none && chmod 000 none && mkdir -m 000 locked && touch locked/in && \
             chown -h 1:2 soft && mkdir empty && chown 65534:65534 empty && \
             touch -- -dash 'a space' 'ünïcode' \"$(printf 'new\\nline')\" && \
             mkdir -p $(for i in 1 2 3 4 5 6; do printf 'a%0100d/' $i; done)\n",
    );
    tree.at("x/file").has_content("data\n");
    assert_eq!(tree.at("x/hard").linked_to.as_deref(), Some("x/file"));
    tree.at("x/soft").links_to("file").is_owned(0o777, 1, 2);
    tree.at("x/dangling").links_to("/nowhere");
    assert_eq!(tree.at("x/fifo").kind, Kind::Fifo);
    tree.at("x/sticky").is_owned(0o1777, 0, 0);
    tree.at("x/setuid").is_owned(0o6755, 33, 10);
    tree.at("x/none").is_owned(0o000, 0, 0).has_content("m\n");
    tree.at("x/locked").is_owned(0o000, 0, 0);
    tree.at("x/locked/in").has_content("");
    tree.at("x/empty").is_owned(0o755, 65534, 65534);
    for name in ["x/-dash", "x/a space", "x/ünïcode", "x/new\nline"] {
        tree.at(name).has_content("");
    }
    assert!(
        tree.names().iter().any(|name| name.len() > 600),
        "the long path is lost"
    );
}

#[test]
fn what_a_later_step_takes_away_or_replaces_is_gone() {
    let tree = tree_of(
        "RUN mkdir -p /d/sub /e /f && touch /d/sub/1 /d/2 /e/old /plain /f/g && ln -s d /link\n\
         RUN rm -r /d/sub && rm -r /e && mkdir /e && touch /e/new && rm /plain && \
             mkdir /plain && rm /link && mkdir /link && rm -r /f && touch /f && rm /bin/yes\n\
         RUN touch /d/sub\n",
    );
    tree.at("d/2").has_content("");
    tree.at("d/sub").has_content("");
    assert!(tree.get("e/old").is_none() && tree.get("e/new").is_some());
    tree.at("plain").is_directory();
    tree.at("link").is_directory();
    tree.at("f").has_content("");
    assert!(tree.get("bin/yes").is_none());
}

#[test]
fn files_below_are_changed_and_moved() {
    let tree = tree_of(
        "RUN mkdir /dir && echo one > /dir/a && ln /dir/a /dir/b && echo x > /other\n\
         RUN mv /dir /moved && echo two >> /moved/a && chmod 600 /other && mv /other /dir2\n",
    );
    assert!(tree.get("dir").is_none() && tree.get("other").is_none());
    tree.at("moved/a").has_content("one\ntwo\n");
    tree.at("moved/b").has_content("one\ntwo\n");
    tree.at("dir2").has_content("x\n").is_owned(0o600, 0, 0);
}

#[test]
fn a_command_that_changes_nothing_still_makes_a_layer() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN true\nRUN : again\n"));
    assert_eq!(home.build_layout(&context, &[]).layers().len(), 3);
}

#[test]
fn a_hundred_steps_are_no_burden() {
    let home = TestHome::sub();
    let context = home.context("context");
    let steps: String = (0..100)
        .map(|n| format!("RUN echo {n} > /n{n}\n"))
        .collect();
    context.dockerfile(&bases::busybox().dockerfile(&steps));
    let tree = home.build_tree(&context, &[]);
    tree.at("n0").has_content("0\n");
    tree.at("n99").has_content("99\n");
}
