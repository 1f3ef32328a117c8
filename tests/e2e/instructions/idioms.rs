//! How Dockerfiles are written: the idioms of official images and of much-copied guides.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::Tree;

/// The tree that a Dockerfile makes with some options, where `BASE` stands for busybox.
fn tree_of(dockerfile: &str, options: &[&str]) -> Tree {
    let home = TestHome::sub();
    let context = home.context("context");
    for name in ["entrypoint.sh", "10-listen.sh", "20-tune.sh"] {
        context.file(name, format!("#!/bin/sh\n# {name}\n"));
    }
    context.dockerfile(&dockerfile.replace("BASE", &bases::busybox().reference()));
    home.build_tree(&context, options)
}

#[test]
fn a_chain_has_comments_blank_lines_and_the_shells_own_variables() {
    let tree = tree_of(
        r#"FROM BASE
ENV TOOL_VERSION   1.2.3rc1
RUN set -eux; \
	\
# a comment in the first column
	arch="$(echo linux-amd64)"; arch="${arch##*-}"; \
	# an indented one, with a \
	case "$arch" in \

		amd64|arm64) \
# ; and one with a semicolon
			url="https://example.com/${TOOL_VERSION%%[a-z]*}-$arch.tar"; \
			;; \
		*) \
			exit 1; \
			;; \
	esac; \
	_note() { \
		printf '%s\n' "$@"; \
	}; \
	for word in $url one two; do \
		_note "$word"; \
	done > /noted; \
	echo 'a b c' | awk '{ so = $(NF-1); printf "*%s\n", so }' >> /noted; \
	! grep -q absent /noted; \
	find /noted -type f -exec sh -c 'for f; do echo "seen $f"; done' -- '{}' + >> /noted; \
	[ -z "${undefined:-}" ] || echo undefined >> /noted
"#,
        &[],
    );
    let noted = "https://example.com/1.2.3-amd64.tar\none\ntwo\n*b\nseen /noted\n";
    tree.at("noted").has_content(noted);
}

#[test]
fn a_stage_is_chosen_by_platform_and_variant() {
    let dockerfile = r"ARG VARIANT=small
ARG TOOL_DEBUG
FROM BASE AS base-small
RUN echo small > /base
FROM BASE AS base-large
RUN echo large > /base
FROM base-${VARIANT} AS tool-linux
RUN echo tool > /tool
FROM tool-linux AS tool-linux-debug
ARG TOOL_DEBUG
ARG FLAGS=${TOOL_DEBUG:+'all=-N -l'}
RUN echo debug $FLAGS > /tool
FROM tool-$TARGETOS${TOOL_DEBUG:+-debug}
";
    let plain = tree_of(dockerfile, &[]);
    plain.at("base").has_content("small\n");
    plain.at("tool").has_content("tool\n");
    let options = [
        "--build-arg",
        "VARIANT=large",
        "--build-arg",
        "TOOL_DEBUG=1",
    ];
    let debug = tree_of(dockerfile, &options);
    debug.at("base").has_content("large\n");
    debug.at("tool").has_content("debug all=-N -l\n");
}

#[test]
fn an_arg_among_stages_changes_nothing_for_the_next_from() {
    let tree = tree_of(
        "ARG NAME=global\n\
         FROM BASE AS global\nRUN echo global > /which\n\
         FROM BASE AS other\nRUN echo other > /which\n\
         ARG NAME=other\n\
         FROM ${NAME}\n",
        &[],
    );
    tree.at("which").has_content("global\n");
}

#[test]
fn configuration_comes_by_heredoc() {
    let tree = tree_of(
        r#"FROM BASE
ARG PORT=8080
COPY <<'EOF' /etc/server/default.conf
server {
    proxy_set_header Host $host;
    return 200 "$request_uri\n";
}
EOF
COPY --chmod=755 <<EOF /entrypoint.sh
#!/bin/sh
exec server \\
  --port ${PORT} \\
  --debug \${DEBUG_PORT:-5000} \\
  -- "\$@"
EOF
COPY <<-one <<-two /etc/parts/
	1
	one
		2
	two
RUN <<-EOT
	set -e
	if true; then
	    echo "$PORT" > /port
	fi
EOT
RUN cat <<file1 > /both && cat <<file2 >> /both
first
file1
second
file2
"#,
        &[],
    );
    let server =
        "server {\n    proxy_set_header Host $host;\n    return 200 \"$request_uri\\n\";\n}\n";
    tree.at("etc/server/default.conf").has_content(server);
    let entrypoint = "#!/bin/sh\nexec server \\\n  --port 8080 \\\n  --debug ${DEBUG_PORT:-5000} \\\n  \
                      -- \"$@\"\n";
    tree.at("entrypoint.sh")
        .has_content(entrypoint)
        .is_owned(0o755, 0, 0);
    tree.at("etc/parts/one").has_content("1\n");
    tree.at("etc/parts/two").has_content("2\n");
    tree.at("port").has_content("8080\n");
    tree.at("both").has_content("first\nsecond\n");
}

#[test]
fn scripts_are_copied_and_logs_linked() {
    let tree = tree_of(
        "FROM BASE\n\
         RUN mkdir -p /var/log/server /docker-entrypoint.d \\\n\
         # forward request and error logs to the collector\n    \
             && ln -sf /dev/stdout /var/log/server/access.log \\\n    \
             && ln -sf /dev/stderr /var/log/server/error.log\n\
         COPY entrypoint.sh /\n\
         COPY --chown=app:www-data 10-listen.sh \\\n     \
              # and the last one\n     \
              20-tune.sh \\\n     \
              /docker-entrypoint.d/\n\
         RUN ln -sT entrypoint.sh /run.sh && chmod +x /*.sh\n",
        &[],
    );
    tree.at("var/log/server/access.log").links_to("/dev/stdout");
    tree.at("docker-entrypoint.d/10-listen.sh")
        .is_owned(0o644, 1000, 33);
    tree.at("docker-entrypoint.d/20-tune.sh")
        .has_content("#!/bin/sh\n# 20-tune.sh\n");
    tree.at("run.sh").links_to("entrypoint.sh");
    tree.at("entrypoint.sh").is_owned(0o755, 0, 0);
}

#[test]
fn a_shell_with_pipefail_stops_at_a_broken_pipe() {
    let home = TestHome::sub();
    let context = home.context("context");
    let text =
        |shell: &str| bases::busybox().dockerfile(&format!("{shell}RUN false | cat > /passed\n"));
    context.dockerfile(&text(""));
    home.build(&context, &[]).success();
    context.dockerfile(&text(
        "SHELL [\"/bin/ash\", \"-eo\", \"pipefail\", \"-c\"]\n",
    ));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("RUN false | cat");
}

#[test]
fn an_entrypoint_steps_down_from_root() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(&bases::busybox().dockerfile(
            "ENV DATA=/var/lib/quarry\n\
             RUN mkdir -p \"$DATA\" && chown app:app \"$DATA\" && chmod 1777 \"$DATA\"\n\
             VOLUME /var/lib/quarry\n\
             COPY --chmod=755 docker-entrypoint.sh /usr/local/bin/\n\
             ENTRYPOINT [\"docker-entrypoint.sh\"]\n\
             STOPSIGNAL SIGINT\nEXPOSE 5432\nCMD [\"quarry\"]\n",
        ))
        .file(
            "docker-entrypoint.sh",
            "#!/bin/sh\nset -e\n\
             # the first argument is an option: the server's\n\
             if [ \"${1#-}\" != \"$1\" ]; then\n\tset -- quarry \"$@\"\nfi\n\
             if [ \"$1\" = quarry ] && [ \"$(id -u)\" = 0 ]; then\n\
             \tfind \"$DATA\" \\! -user app -exec chown app '{}' +\n\
             \texec su -s /bin/sh -c 'exec \"$0\" \"$@\"' -- app \"$0\" \"$@\"\nfi\n\
             if [ \"$1\" = quarry ]; then\n\
             \techo \"$@\" > \"$DATA/started\"\n\
             \techo \"$(id -un): $(cat \"$DATA/started\")\"\n\texit\nfi\n\
             exec \"$@\"\n",
        );
    home.build(&context, &["-t", "quarry:1"]).success();
    let run = |arguments: &[&str]| {
        let run = home.ashlar(["run", "--rm"]).args(arguments).run();
        run.success().stdout().into_owned()
    };
    assert_eq!(run(&["quarry:1"]), "app: quarry\n");
    assert_eq!(run(&["quarry:1", "--fast"]), "app: quarry --fast\n");
    assert_eq!(run(&["-u", "app", "quarry:1"]), "app: quarry\n");
    assert_eq!(run(&["quarry:1", "id", "-un"]), "root\n");
}

#[test]
fn what_a_run_changes_below_a_volume_is_kept() {
    let tree = tree_of(
        "FROM BASE\nVOLUME /data\nRUN mkdir -p /data && echo early > /data/early\n\
         USER app\nWORKDIR /data/app\nRUN echo late > late\n",
        &[],
    );
    tree.at("data/early").has_content("early\n");
    tree.at("data/app/late").is_owned(0o644, 1000, 1000);
}
