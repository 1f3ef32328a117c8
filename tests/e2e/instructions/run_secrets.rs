//! `RUN --mount=type=secret` and `type=ssh`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::skip::skip;
use ashlar_test_support::user::TestUser;

use super::busybox_of;

fn context(home: &TestHome, run: &str) -> Context {
    let context = home.context("context");
    let start = busybox_of(home, &context);
    context.dockerfile(&format!("{start}{run}"));
    context
}

#[test]
fn a_secret_is_a_file_with_an_owner() {
    let home = TestHome::sub();
    let context = context(
        &home,
        "USER app\nRUN --mount=type=secret,id=a --mount=type=secret,id=b,uid=1000,gid=33,mode=0440 \
         --mount=type=secret,id=b,target=/x/y,mode=0555 \
         { stat -c '%n %a %u:%g %s' /run/secrets/* /x/y; cat /run/secrets/a; wc -c < /run/secrets/b; \
         touch /run/secrets/b; } > /tmp/out 2>&1; true\n",
    );
    let file = home.path("a");
    home.file(&file, "value of a");
    let option = format!("id=a,src={}", file.display());
    let told = home.build_text(
        &context,
        "/tmp/out",
        &["--secret", &option, "--secret", "id=b,src=/proc/self/comm"],
    );
    assert_eq!(
        told,
        "/run/secrets/a 400 0:0 10\n/run/secrets/b 440 1000:33 7\n/x/y 555 0:0 7\n\
         cat: can't open '/run/secrets/a': Permission denied\n7\n\
         touch: /run/secrets/b: Read-only file system\n"
    );
}

#[test]
fn a_secret_is_a_variable() {
    for user in [TestUser::Sub, TestUser::One] {
        let home = TestHome::new(user);
        let context = context(
            &home,
            "ENV B=plain\nRUN --mount=type=secret,id=a,env=A --mount=type=secret,id=b,env=B,target=/b \
             { echo -n \"$A/$B/\"; cat /b; ls -A /run; } | rev > /out\n",
        );
        let output = format!("type=local,dest={}", home.path("out").display());
        home.build_command(&context, &["-o", &output])
            .args([
                "--secret",
                "id=a,env=OF_A",
                "--secret",
                "type=env,id=b,env=OF_B",
            ])
            .env("OF_A", "first")
            .env("OF_B", "second")
            .run()
            .success();
        let told = fs::read_to_string(home.path("out/out")).unwrap();
        assert_eq!(told, "dnoces/dnoces/tsrif");
    }
}

#[test]
fn a_secret_that_is_not_given_is_missed_only_where_it_is_required() {
    let home = TestHome::sub();
    let optional = context(
        &home,
        "RUN --mount=type=secret,id=a --mount=type=secret,id=a,env=A \
         [ ! -e /run/secrets/a ] && [ -z ${A+set} ]\n",
    );
    home.build(&optional, &[]).success();
    let required = context(&home, "RUN --mount=type=secret,id=a,required true\n");
    home.build(&required, &[])
        .exit_code(1)
        .stderr_has("secret a: not found")
        .stderr_has("--secret id=a,src=FILE")
        .stderr_has("Dockerfile:2");
    let ssh = context(&home, "RUN --mount=type=ssh,required=true true\n");
    home.build(&ssh, &[])
        .exit_code(1)
        .stderr_has("no SSH key \"default\" forwarded from the client")
        .stderr_has("--ssh default");
    let optional = context(&home, "RUN --mount=type=ssh [ ! -e $SSH_AUTH_SOCK ]\n");
    home.build(&optional, &[]).success();
    home.assert_clean();
}

#[test]
fn mistakes_of_the_command_line_are_told_before_anything_runs() {
    let home = TestHome::sub();
    let context = context(&home, "RUN true\n");
    let big = home.path("big");
    home.file(&big, vec![b'x'; 500 * 1024 + 1]);
    let too_big = format!("id=a,src={}", big.display());
    for (option, value, code, told) in [
        ("--secret", "id=a,src=/none", 1, "/none"),
        (
            "--secret",
            too_big.as_str(),
            1,
            "secret a too big. max size 500KB",
        ),
        ("--secret", "src=/none", 2, "no id"),
        ("--ssh", "default", 1, "SSH_AUTH_SOCK is not set"),
        ("--ssh", "default=/etc/hostname", 1, "private key files"),
        ("--allow", "everything", 2, "security.insecure"),
    ] {
        let output = home.build(&context, &[option, value]);
        output
            .exit_code(code)
            .stderr_has(told)
            .stderr_lacks("RUN true");
    }
}

#[test]
fn another_value_does_not_run_the_step_again() {
    let home = TestHome::sub();
    let context = context(&home, "RUN --mount=type=secret,id=a,env=A true\n");
    let build = |value: &str| {
        home.build_command(&context, &["--secret", "id=a,env=A"])
            .env("A", value)
            .run()
    };
    let first = build("one-value");
    first.success();
    build("another-value").success().progress().assert_ran(&[]);
}

/// Whether bytes hold a text.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn values_of_secrets_are_found_nowhere() {
    let home = TestHome::sub();
    let token = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let token = token.trim();
    let key = format!("-----BEGIN KEY-----\nfirst{token}\nsecond{token}\n-----END KEY-----\n");
    let file = home.path("key");
    home.file(&file, &key);
    let of_key = format!("id=key,src={}", file.display());
    let context = context(
        &home,
        "ARG N=0\nRUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=key \
         echo \"it is $TOKEN!\"; cat /run/secrets/key >&2; tail -c 60 /run/secrets/key; \
         printf %s $TOKEN | cut -c1-9; for i in $(seq 2000); do echo \"$i $TOKEN\"; done; \
         [ $N != 2 ]\n",
    );
    let mut said = Vec::new();
    for (number, progress) in [(0, "plain"), (1, "json"), (2, "plain"), (3, "tty")] {
        let out = home.path(&format!("out{number}"));
        let metadata = home.path(&format!("metadata{number}"));
        let target = match number {
            0 => [
                "-o".to_owned(),
                format!("type=oci,tar=false,dest={}", out.display()),
            ],
            1 => ["-o".to_owned(), format!("type=tar,dest={}", out.display())],
            _ => ["-t".to_owned(), "secret:1".to_owned()],
        };
        let finished = home
            .ashlar(["build", "--progress", progress])
            .args(&target)
            .args(["--metadata-file".as_ref(), metadata.as_os_str()])
            .args(["--secret", "id=token,env=TOKEN", "--secret", &of_key])
            .args(["--build-arg", &format!("N={number}")])
            .env("TOKEN", token)
            .arg(context.path())
            .run();
        finished.exit_code(if number == 2 { 1 } else { 0 });
        said.push(finished.stderr().into_owned());
        said.push(finished.stdout().into_owned());
    }
    assert!(said[0].contains("it is ***!"), "{}", said[0]);
    assert!(said[0].contains("2000 ***"));
    // The first letters alone are no secret.
    assert!(said[0].contains(&token[..9]));
    for command in ["history", "inspect"] {
        let output = home.ashlar([command, "secret:1"]).run();
        output.success();
        said.push(output.stdout().into_owned());
    }
    for text in &said {
        assert!(!text.contains(token), "{text}");
    }
    // Not in the store, neither in outputs nor anywhere else but in the file that it came from.
    let mut pending = vec![home.root().to_owned()];
    let mut looked_at = 0;
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if metadata.is_file() && path != file {
            looked_at += 1;
            let bytes = fs::read(&path).unwrap();
            assert!(!holds(&bytes, token), "{} has it", path.display());
        }
    }
    assert!(looked_at > 20, "{looked_at}");
    home.assert_clean();
}

/// Answers everyone who asks for identities with an answer that says there are none, and sends
/// everything else back.
pub(crate) fn agent(socket: &std::path::Path, user: TestUser) {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).unwrap();
    user.own(socket);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut request = [0; 5];
            while client.read_exact(&mut request).is_ok() {
                let answer: &[u8] = match request {
                    [0, 0, 0, 1, 11] => &[0, 0, 0, 5, 12, 0, 0, 0, 0],
                    _ => &[0, 0, 0, 1, 99],
                };
                client.write_all(answer).unwrap();
            }
        }
    });
}

/// Says in hexadecimal digits what an agent answers to two questions: which identities there are,
/// and to remove them all.
pub(crate) const ASK: &str = r#"use IO::Socket::UNIX; $s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die "no: $!\n"; for (11, 19) { print $s pack("NC", 1, $_); $s->flush; read $s, $l, 4; read $s, $b, unpack("N", $l); print unpack("H*", $b), "\n"; }"#;

#[test]
fn an_agent_answers_every_user_of_a_step_and_takes_no_orders() {
    let test =
        "instructions::run_secrets::an_agent_answers_every_user_of_a_step_and_takes_no_orders";
    let Some(base) = bases::debian() else {
        skip(test, "there is no Debian base, whose perl can ask an agent");
        return;
    };
    let home = TestHome::sub();
    let socket = home.path("agent");
    agent(&socket, home.user());
    let context = home.context("context");
    context
        .dockerfile(&base.dockerfile(
            "COPY ask /ask\nRUN --mount=type=ssh perl /ask > /root.out && stat -c '%a %u:%g %F' $SSH_AUTH_SOCK >> /root.out\n\
             RUN --mount=type=ssh,id=named,target=/x/sock,mode=0600,uid=1 \
             setpriv --reuid 1 --clear-groups perl /ask > /user.out; \
             setpriv --reuid 2 --clear-groups perl /ask 2>> /user.out || true\n",
        ))
        .file("ask", ASK);
    let named = format!("named={}", socket.display());
    let out = home.path("out");
    let output = format!("type=local,dest={}", out.display());
    home.build_command(
        &context,
        &["--ssh", "default", "--ssh", &named, "-o", &output],
    )
    .env("SSH_AUTH_SOCK", &socket)
    .timeout(std::time::Duration::from_secs(300))
    .run()
    .success();
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("root.out"), "0c00000000\n05\n600 0:0 socket\n");
    assert_eq!(read("user.out"), "0c00000000\n05\nno: Permission denied\n");
    assert!(!out.join("x").exists() && !out.join("run/buildkit").exists());
    home.assert_clean();
}
