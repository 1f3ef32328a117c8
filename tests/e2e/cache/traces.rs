//! Traces: one tree of spans from the build to the server's disk, without anything that is nobody's
//! business.

use std::net::TcpListener;

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::collector::{Collector, Span};
use ashlar_test_support::registry::free_port;
use ashlar_test_support::user::TestUser;

use super::{Machine, no_warning, warnings};

/// Stands in everything that must not be seen.
const HIDDEN: &str = "hidden-from-all";

/// A server that traces, and takes results from those who have a token.
fn server(collector: &str) -> CacheServer {
    let server = CacheServer::prepare();
    let tokens = server.file("tokens", format!("{HIDDEN}-token\n"));
    server
        .with(["--trace", collector])
        .with(["--write-token-file".as_ref(), tokens.as_os_str()])
        .started()
}

/// A machine with a build that is full of secrets.
fn machine(user: TestUser, server: &CacheServer) -> Machine {
    let mut machine = Machine::new(user, "context", &["none"]);
    let (token, secret) = (machine.home.path("token"), machine.home.path("secret"));
    machine.home.file(&token, format!("{HIDDEN}-token\n"));
    machine.home.file(&secret, format!("{HIDDEN}-secret"));
    machine.cache = vec![
        "--cache".to_owned(),
        format!("{},token-file={}", server.url(), token.display()),
        "--secret".to_owned(),
        format!("id={HIDDEN}-id,src={}", secret.display()),
        "--build-arg".to_owned(),
        format!("ARGUMENT={HIDDEN}-argument"),
    ];
    machine
        .context
        .dockerfile(&bases::busybox().dockerfile(&format!(
            "ARG ARGUMENT\nENV VARIABLE={HIDDEN}-variable\nCOPY {HIDDEN}-file /copied\n\
             RUN --mount=type=secret,id={HIDDEN}-id wc -c /run/secrets/* && \
             echo {HIDDEN}-command $ARGUMENT > /{HIDDEN}-made\n"
        )))
        .file(&format!("{HIDDEN}-file"), "text\n");
    machine
}

/// Builds into a layout, with a trace, and gives its spans and those of the server, which are one
/// tree.
fn traced(
    machine: &Machine,
    collector: &Collector,
    is_whole: impl Fn(&[Span]) -> bool,
) -> Vec<Span> {
    let (_, output) = machine.layout(&["--trace", &collector.url()]);
    no_warning(&output);
    let whole = |spans: &[Span]| is_tree(spans) && is_whole(spans);
    collector.wait_for("one tree of spans", whole)
}

/// Whether all parents of spans are there, and one has none. A server sends its spans when it likes.
fn is_tree(spans: &[Span]) -> bool {
    let is_there = |id: &[u8]| spans.iter().any(|span| span.id == id);
    let roots = spans.iter().filter(|span| span.parent.is_empty());
    let parents = spans.iter().filter(|span| !span.parent.is_empty());
    roots.count() == 1 && parents.clone().all(|span| is_there(&span.parent))
}

/// Whether it is the builder's side of a call.
fn is_call(span: &Span) -> bool {
    span.service == "ashlar" && span.name.contains('/')
}

fn named<'a>(spans: &'a [Span], name: &'a str) -> impl Iterator<Item = &'a Span> {
    spans.iter().filter(move |span| span.name == name)
}

#[track_caller]
fn one<'a>(spans: &'a [Span], service: &str, name: &'a str) -> &'a Span {
    let found = named(spans, name).find(|span| span.service == service);
    found.unwrap_or_else(|| panic!("no span {name} of {service} in {spans:#?}"))
}

#[track_caller]
fn parent<'a>(spans: &'a [Span], of: &Span) -> &'a Span {
    let parent = spans.iter().find(|span| span.id == of.parent);
    parent.unwrap_or_else(|| panic!("{of:#?} has no parent"))
}

const PROBE: &str = "ashlar.cache.v1.Results/Probe";
const COMMIT: &str = "ashlar.cache.v1.Results/Commit";

#[test]
fn a_build_is_one_trace_down_to_the_servers_disk() {
    let collector = Collector::start();
    let server = server(&collector.url());
    let first = machine(TestUser::Sub, &server);
    // The server sends its spans when it likes: one for each of the builder's calls.
    let answered = |spans: &[Span]| {
        let mut calls = spans.iter().filter(|span| is_call(span));
        calls.all(|call| spans.iter().any(|span| span.parent == call.id))
    };
    let spans = traced(&first, &collector, answered);

    let build = one(&spans, "ashlar", "build");
    assert!(build.parent.is_empty());
    assert_eq!(build.attribute("outcome"), "built");
    assert!(spans.iter().all(|span| span.trace == build.trace));

    for kind in ["COPY", "RUN"] {
        let step = one(&spans, "ashlar", kind);
        assert_eq!(step.parent, build.id, "{step:#?}");
        assert_eq!(step.attribute("outcome"), "run");
        assert_eq!(step.attribute("key").len(), 64);
    }
    let executed: Vec<_> = named(&spans, "execute")
        .map(|span| parent(&spans, span).name.as_str())
        .collect();
    assert_eq!(executed, ["COPY", "RUN"]);

    let lookup = one(&spans, "ashlar", "lookup");
    assert_eq!(lookup.parent, build.id);
    let call = one(&spans, "ashlar", PROBE);
    assert_eq!(call.parent, lookup.id);
    let request = one(&spans, "ashlar-cache", PROBE);
    assert_eq!(request.parent, call.id);
    assert_eq!(request.attribute("rpc.grpc.status_code"), "0");
    assert_ne!(request.attribute("received_bytes"), "0");
    let disk = named(&spans, "disk get").find(|span| span.parent == request.id);
    assert_ne!(disk.expect("a look at the disk").attribute("missing"), "");

    // Whatever the server did, a call of the builder asked for.
    for request in spans.iter().filter(|span| span.name.contains('/')) {
        if request.service == "ashlar-cache" {
            let call = parent(&spans, request);
            assert_eq!(
                (call.service.as_str(), &call.name),
                ("ashlar", &request.name)
            );
        }
    }
    for what in ["upload", "commit", "lease wait"] {
        one(&spans, "ashlar", what);
    }
    assert_eq!(parent(&spans, one(&spans, "ashlar", COMMIT)).name, "commit");
    assert!(named(&spans, "disk write").count() > 0, "{spans:#?}");
    nothing_hidden(&spans);
}

#[test]
fn a_build_that_finds_all_says_so() {
    let collector = Collector::start();
    let server = server("http://127.0.0.1:1");
    machine(TestUser::Sub, &server).output(&[]).success();
    let second = machine(TestUser::Other, &server);
    let spans = traced(&second, &collector, |spans| !spans.is_empty());
    assert_eq!(one(&spans, "ashlar", "lookup").attribute("found"), "2");
    assert_eq!(one(&spans, "ashlar", "RUN").attribute("outcome"), "hit");
    assert!(named(&spans, "fetch").count() > 0, "{spans:#?}");
    assert_eq!(named(&spans, "execute").count(), 0, "{spans:#?}");
    nothing_hidden(&spans);
}

#[test]
fn a_build_is_part_of_the_trace_that_its_environment_names() {
    let collector = Collector::start();
    let machine = Machine::new(TestUser::Sub, "context", &["none"]);
    let text = bases::busybox().dockerfile("RUN true\n");
    machine.context.dockerfile(&text);
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let command = machine.command(&[]).env("ASHLAR_TRACE", "env");
    let command = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    let command = command.env("TRACEPARENT", format!("00-{trace}-{span}-01"));
    no_warning(&command.run()).success();
    let spans = collector.spans();
    let build = one(&spans, "ashlar", "build");
    let hex = |id: &[u8]| {
        id.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(&build.trace), trace);
    assert_eq!(hex(&build.parent), span);
    // The build's own spans are there when it ends.
    one(&spans, "ashlar", "RUN");
}

#[test]
fn a_collector_that_is_not_there_costs_one_warning_and_nothing_else() {
    // One that refuses, and one that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    for port in [free_port(), port] {
        let address = format!("http://127.0.0.1:{port}");
        let mut server = server(&address);
        let machine = machine(TestUser::Sub, &server);
        let output = machine.output(&["--trace", &address]);
        let warnings = warnings(&output);
        assert_eq!(warnings.len(), 1, "{output}");
        assert!(warnings[0].contains("traces cannot be sent"), "{output}");
        let output = machine.build(&[]);
        let spared = output.ran();
        assert!(spared.is_empty(), "{spared:?}");
        let end = server.terminate();
        end.success();
        assert_eq!(
            end.stderr().matches("traces cannot be sent").count(),
            1,
            "{end}"
        );
    }
}

#[test]
fn a_collector_that_is_none_is_refused() {
    let machine = Machine::new(TestUser::Sub, "context", &["none"]);
    let text = bases::busybox().dockerfile("RUN true\n");
    machine.context.dockerfile(&text);
    let output = machine.command(&["--trace", "collector:4317"]).run();
    output.exit_code(2).stderr_has("http://HOST:PORT");
    let output = machine.command(&["--trace", "env"]).run();
    output
        .exit_code(2)
        .stderr_has("OTEL_EXPORTER_OTLP_ENDPOINT");
}

#[track_caller]
fn nothing_hidden(spans: &[Span]) {
    assert!(spans.len() > 5, "{spans:#?}");
    for span in spans {
        assert!(!span.text.contains(HIDDEN), "{span:#?}");
        assert!(!span.text.contains("busybox"), "{span:#?}");
    }
}
