//! COPY and ADD rule by rule: each test has the name of the rule that it shows. (How sources and
//! destinations are found is shown in full by the unit tests of `select` and `copy/plan`.)

use std::os::unix::net::UnixListener;

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::{Kind, Tree};

fn files(home: &TestHome, dockerfile: &str) -> Context {
    let context = home.context("context");
    context
        .dockerfile(dockerfile)
        .file("a.txt", "a")
        .file("b.txt", "b")
        .mode("b.txt", 0o4750)
        .file("dir/one", "one")
        .file("dir/inner/deep", "deep")
        .mode("dir/inner", 0o2711)
        .symlink("dir/link", "/one")
        .file("star*name", "star");
    context
}

fn tree_of(dockerfile: &str) -> Tree {
    let home = TestHome::sub();
    let context = files(&home, dockerfile);
    home.build_tree(&context, &[])
}

#[track_caller]
fn refused(dockerfile: &str, words: &str) {
    let home = TestHome::sub();
    let context = files(&home, dockerfile);
    home.build(&context, &[]).exit_code(1).stderr_has(words);
}

#[test]
fn a_source_is_rooted_at_the_context() {
    let tree = tree_of(
        "FROM scratch\nCOPY /a.txt /1\nCOPY ../../a.txt /2\nCOPY dir/../a.txt /3\n\
         COPY ./dir/./ /4/\nCOPY dir/. /5\nCOPY a.txt/ /6\n",
    );
    for file in ["1", "2", "3", "6"] {
        tree.at(file).has_content("a");
    }
    tree.at("4/one").has_content("one");
    tree.at("5/one").has_content("one");
}

#[test]
fn wildcards_match_within_one_name() {
    let tree = tree_of(
        "FROM scratch\nCOPY *.t?t /1/\nCOPY [!a].txt [^a].txt /2/\nCOPY */one /3/\n\
         COPY dir* /4/\nCOPY star\\\\*nam[e] /5/\nCOPY [\"s*\\\\*name\", \"/6/\"]\n",
    );
    tree.at("1/a.txt").has_content("a");
    tree.at("1/b.txt").has_content("b");
    tree.at("2/b.txt").has_content("b");
    tree.at("3/one").has_content("one");
    // A directory that is matched gives its contents.
    tree.at("4/one").has_content("one");
    tree.at("5/star*name").has_content("star");
    tree.at("6/star*name").has_content("star");
}

#[test]
fn a_wildcard_may_match_nothing_and_a_plain_name_may_not() {
    let tree = tree_of("FROM scratch\nCOPY none* /none/\nCOPY a.txt none* /some/\n");
    assert!(tree.get("none").is_none());
    tree.at("some/a.txt").has_content("a");
    refused("FROM scratch\nCOPY none /x\n", "\"/none\": not found");
    refused(
        "FROM scratch\nCOPY a.txt dir/none /x/\n",
        "\"/dir/none\": not found",
    );
    refused("FROM scratch\nCOPY a.txt[ /x\n", "syntax error in pattern");
}

#[test]
fn sockets_of_the_context_are_empty_files_and_pipes_are_pipes() {
    let home = TestHome::sub();
    let context = files(&home, "FROM scratch\nCOPY special /to\n");
    context.directory("special");
    let _socket = UnixListener::bind(context.path().join("special/socket")).unwrap();
    home.command("mkfifo")
        .arg(context.path().join("special/pipe"))
        .run()
        .success();
    let tree = home.build_tree(&context, &[]);
    tree.at("to/socket").has_content("");
    assert_eq!(tree.at("to/pipe").kind, Kind::Fifo);
}

#[test]
fn links_below_a_copied_directory_stay_links() {
    tree_of("FROM scratch\nCOPY dir /to\n")
        .at("to/link")
        .links_to("/one");
}

#[test]
fn destinations_are_relative_to_the_working_directory() {
    let tree = tree_of(
        "FROM scratch\nWORKDIR /w\nCOPY a.txt .\nCOPY a.txt ./\nCOPY a.txt sub/name\n\
         COPY a.txt ../up\nCOPY a.txt /top\nCOPY [\"a.txt\", \"\"]\nCOPY dir x/.\n",
    );
    for place in ["w/a.txt", "w/sub/name", "up", "top"] {
        tree.at(place).has_content("a");
    }
    tree.at("w/x/one").has_content("one");
}

#[test]
fn several_sources_onto_a_plain_name_leave_the_last() {
    let tree = tree_of("FROM scratch\nCOPY a.txt b.txt /one\n");
    tree.at("one").has_content("b");
}

#[test]
fn a_file_is_neither_put_on_a_directory_nor_the_other_way_round() {
    refused(
        "FROM scratch\nCOPY a.txt /d/one/x\nCOPY dir/one /d/\n",
        "cannot replace to directory /d/one with file",
    );
    refused(
        "FROM scratch\nCOPY a.txt /f\nCOPY dir /f\n",
        "cannot copy to non-directory: /f",
    );
    refused(
        "FROM scratch\nCOPY a.txt /f\nCOPY a.txt /f/x\n",
        "mkdir /f: not a directory",
    );
}

#[test]
fn a_destination_that_is_a_link_is_written_through_and_links_below_it_are_replaced() {
    let made = "RUN mkdir -p /real /d && ln -s real /way && ln -s /real/file /to-file && \
                ln -s real /d/one && ln -s real /d/inner\n";
    let rest = format!("{made}COPY a.txt /way/\nCOPY a.txt /to-file\nCOPY dir/one /d/\n");
    let tree = tree_of(&bases::busybox().dockerfile(&rest));
    tree.at("way").links_to("real");
    tree.at("real/a.txt").has_content("a");
    tree.at("to-file").links_to("/real/file");
    tree.at("real/file").has_content("a");
    tree.at("d/one").has_content("one");
    refused(
        &bases::busybox().dockerfile(&format!("{made}COPY dir /d/\n")),
        "cannot copy to non-directory: /d/inner",
    );
}

#[test]
fn the_destination_of_a_directory_takes_its_time_and_nothing_else() {
    let home = TestHome::sub();
    let context = files(
        &home,
        &bases::busybox().dockerfile(
            "RUN mkdir -m 700 /old && chown 5:6 /old\nCOPY dir /old\nCOPY dir /new\n\
             RUN stat -c %Y /old /new > /times\n",
        ),
    );
    context.mode("dir", 0o770).modified("dir", 1_000_000_000);
    let tree = home.build_tree(&context, &[]);
    tree.at("old").is_owned(0o700, 5, 6);
    tree.at("new").is_owned(0o755, 0, 0);
    tree.at("times").has_content("1000000000\n1000000000\n");
    for place in ["old", "new"] {
        tree.at(&format!("{place}/inner")).is_owned(0o2711, 0, 0);
    }
}

#[test]
fn times_of_files_are_kept() {
    let home = TestHome::sub();
    let context = files(
        &home,
        &bases::busybox()
            .dockerfile("COPY a.txt dir /to/\nRUN stat -c '%Y' /to/a.txt /to/inner > /times\n"),
    );
    context
        .modified("a.txt", 1_111_111_111)
        .modified("dir/inner", 1_222_222_222);
    let tree = home.build_tree(&context, &[]);
    tree.at("times").has_content("1111111111\n1222222222\n");
}

#[test]
fn directories_on_the_way_take_chown_and_chmod_without_special_bits() {
    let tree = tree_of(
        "FROM scratch\nCOPY --chown=5:6 --chmod=1770 a.txt /p/q/file\nCOPY a.txt /plain/q/file\n",
    );
    tree.at("p").is_owned(0o770, 5, 6);
    tree.at("p/q").is_owned(0o770, 5, 6);
    tree.at("p/q/file").is_owned(0o1770, 5, 6);
    tree.at("plain/q").is_owned(0o755, 0, 0);
}

#[test]
fn chown_takes_numbers_and_names_of_the_destination() {
    let rest = "RUN echo 'other:x:70:71::/:/' >> /etc/passwd && echo 'club:x:72:' >> /etc/group\n\
                COPY --chown=7 a.txt /1\nCOPY --chown=7:8 a.txt /2\nCOPY --chown=root a.txt /3\n\
                COPY --chown=other a.txt /4\nCOPY --chown=other:club a.txt /5\n\
                COPY --chown=9:club a.txt /6\nCOPY --chown=other:5 a.txt /7\n\
                ENV WHO=other\nCOPY --chown=$WHO:${GRP:-club} a.txt /8\nCOPY --chown=root:9 a.txt /9\n";
    let tree = tree_of(&bases::busybox().dockerfile(rest));
    for (file, (uid, gid)) in [
        ("1", (7, 7)),
        ("2", (7, 8)),
        ("3", (0, 0)),
        ("4", (70, 71)),
        ("5", (70, 72)),
        ("6", (9, 72)),
        ("7", (70, 5)),
        ("8", (70, 72)),
        ("9", (0, 9)),
    ] {
        tree.at(file).is_owned(0o644, uid, gid);
    }
}

#[test]
fn chown_of_an_unknown_name_is_root_with_a_warning() {
    let home = TestHome::sub();
    let context = files(
        &home,
        &bases::busybox().dockerfile("COPY --chown=nobody-knows:club a.txt /a\n"),
    );
    home.build(&context, &[])
        .success()
        .stderr_has("`nobody-knows` is not in /etc/passwd")
        .stderr_has("`club` is not in /etc/group");
    home.build_tree(&context, &[]).at("a").is_owned(0o644, 0, 0);
}

#[test]
fn chown_of_a_name_fails_on_scratch_and_is_root_without_account_files() {
    refused(
        "FROM scratch\nCOPY --chown=app a.txt /a\n",
        "invalid user index: -1",
    );
    tree_of("FROM scratch\nCOPY b.txt /b\nCOPY --chown=app a.txt /a\n")
        .at("a")
        .is_owned(0o644, 0, 0);
}

#[test]
fn copy_from_keeps_the_sources_owner_and_the_context_has_none() {
    let tree = tree_of(
        "FROM scratch AS made\nCOPY --chown=5:6 dir /d\n\
         FROM scratch\nCOPY --from=made /d /kept\nCOPY --from=made --chown=7 /d /given\nCOPY dir /context\n",
    );
    tree.at("kept/one").is_owned(0o644, 5, 6);
    tree.at("given/one").is_owned(0o644, 7, 7);
    tree.at("context/one").is_owned(0o644, 0, 0);
}

#[test]
fn chmod_is_octal_or_symbolic_and_spares_links() {
    let tree = tree_of(
        "FROM scratch\nCOPY --chmod=u=rwX,go=rX dir b.txt /1/\nCOPY --chmod=7777 a.txt /2\n\
         ARG mode=g=u,o-r\nCOPY --chmod=$mode b.txt a.txt /3/\nCOPY --chmod= a.txt /4\n",
    );
    tree.at("1/one").is_owned(0o644, 0, 0);
    tree.at("1/inner").is_owned(0o755, 0, 0);
    tree.at("1/b.txt").is_owned(0o755, 0, 0);
    tree.at("1/link").links_to("/one");
    tree.at("2").is_owned(0o7777, 0, 0);
    tree.at("3/a.txt").is_owned(0o660, 0, 0);
    tree.at("3/b.txt").is_owned(0o4770, 0, 0);
    tree.at("4").is_owned(0o644, 0, 0);
}

#[test]
fn a_bad_chmod_is_refused_before_anything_runs() {
    let home = TestHome::sub();
    let context = files(
        &home,
        &bases::busybox().dockerfile("RUN echo ran\nCOPY --chmod=64a a.txt /a\n"),
    );
    let output = home.build(&context, &[]);
    output
        .exit_code(1)
        .stderr_has(
            "invalid chmod parameter: '64a'. it should be octal string and between 0 and 07777",
        )
        .stderr_has("Dockerfile:3")
        .stderr_lacks("RUN echo ran\n#");
    refused(
        "FROM scratch\nCOPY --chmod=10000 a.txt /a\n",
        "invalid chmod parameter: '10000'",
    );
    refused(
        "FROM scratch\nCOPY --chmod=u+q a.txt /a\n",
        "invalid syntax",
    );
}

#[test]
fn copy_takes_no_url() {
    refused(
        "FROM scratch\nCOPY https://example.com/x /x\n",
        "source can't be a URL for COPY",
    );
}

#[test]
fn copy_from_scratch_works_and_finds_nothing() {
    let tree = tree_of("FROM scratch\nCOPY --from=scratch / /empty/\n");
    tree.at("empty").is_directory();
    refused(
        "FROM scratch\nCOPY --from=scratch /x /\n",
        "\"/x\": not found",
    );
}

#[test]
fn heredocs_of_every_form_are_files() {
    let tree = tree_of(
        "FROM scratch\nARG who=you\nCOPY <<plain <<-tabs 4<<number <<'quoted' <<pa\"rt\" /to/\n\
         $who \\$who\nplain\n\t\ttabbed $who\n\ttabs\nn\nnumber\n$who\nquoted\n\"$who\"\npart\n\
         COPY --chown=5:6 --chmod=600 <<EOF a.txt /mixed/\nx\nEOF\nADD <<EOF /one\nEOF\n",
    );
    tree.at("to/plain")
        .has_content("you $who\n")
        .is_owned(0o644, 0, 0);
    tree.at("to/tabs").has_content("tabbed you\n");
    tree.at("to/number").has_content("n\n");
    tree.at("to/quoted").has_content("$who\n");
    tree.at("to/part").has_content("\"$who\"\n");
    tree.at("mixed/EOF")
        .has_content("x\n")
        .is_owned(0o600, 5, 6);
    tree.at("mixed/a.txt").is_owned(0o600, 5, 6);
    tree.at("one").has_content("");
}

#[test]
fn a_copied_directorys_own_mode_is_no_reason_to_copy_again() {
    let home = TestHome::sub();
    let context = files(&home, "FROM scratch\nCOPY dir /x\nCOPY dir/ /y\n");
    home.build(&context, &[]).success();
    context.mode("dir", 0o700).modified("dir", 1);
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    context.mode("dir/one", 0o600);
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&["COPY dir /x", "COPY dir/ /y"]);
}
