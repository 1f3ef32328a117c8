//! A repository of libraries and services, its Dockerfile, and what may be expected of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ashlar_test_support::context::Context;

/// A unit and the libraries that it is made from.
type Unit = (&'static str, &'static [&'static str]);

/// Libraries. Most of them reach `core` on more than one way.
const LIBRARIES: [Unit; 10] = [
    ("core", &[]),
    ("text", &["core"]),
    ("time", &["core"]),
    ("log", &["core", "text", "time"]),
    ("net", &["core"]),
    ("json", &["text"]),
    ("http", &["net", "json", "log"]),
    ("auth", &["http", "time"]),
    ("store", &["json", "log"]),
    ("queue", &["net", "store"]),
];

/// Services.
const SERVICES: [Unit; 12] = [
    ("web", &["http", "auth"]),
    ("api", &["http", "auth", "store"]),
    ("worker", &["queue", "store"]),
    ("cron", &["time", "queue"]),
    ("mailer", &["queue", "text"]),
    ("search", &["store", "http"]),
    ("billing", &["store", "auth", "queue"]),
    ("admin", &["auth", "store"]),
    ("gateway", &["http", "net"]),
    ("metrics", &["log", "http"]),
    ("export", &["json", "store"]),
    ("chat", &["net", "auth", "log"]),
];

/// What all stages start from. `make-unit` stands for a compiler: what a unit and its dependencies say,
/// without comments, becomes one file. `make-program` makes a program of it.
const HEAD: &str = r#"# syntax=docker/dockerfile:1
ARG BUSYBOX=busybox:1

FROM ${BUSYBOX} AS base
WORKDIR /work

FROM base AS tools
COPY --chmod=755 <<'EOF' /usr/local/bin/make-unit
#!/bin/sh
set -eu
mkdir -p /out
cat $(find /src /deps -type f 2>/dev/null) | grep -v '^#' | sort -u > "/out/$1"
EOF
COPY --chmod=755 <<'EOF' /usr/local/bin/make-program
#!/bin/sh
set -eu
make-unit "$1"
{
	printf '#!/bin/sh\n'
	sed 's/.*/echo "&"/' "/out/$1"
} > /tmp/linked
chmod 755 /tmp/linked
mv /tmp/linked "/out/$1"
EOF
"#;

/// The names of the services.
pub(super) fn services() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(name, _)| *name)
}

/// Writes the whole repository.
pub(super) fn write(context: &Context) {
    context.dockerfile(&dockerfile());
    for (name, _) in LIBRARIES {
        context.file(&source_of("libs", name), source(name));
    }
    for (name, _) in SERVICES {
        context.file(&source_of("services", name), source(name));
    }
}

/// The file of a library or service.
pub(super) fn source_of(kind: &str, name: &str) -> String {
    format!("{kind}/{name}/{name}.txt")
}

/// What a library or service says for itself.
pub(super) fn source(name: &str) -> String {
    format!("# This is {name}.\n{name} says hello\n")
}

/// What a service prints: all that is linked into it, sorted.
pub(super) fn output(service: &str) -> String {
    let mut units = transitive(direct(&SERVICES, service));
    units.insert(service);
    let lines: BTreeSet<String> = units
        .iter()
        .map(|unit| format!("{unit} says hello\n"))
        .collect();
    lines.into_iter().collect()
}

/// How many stages the Dockerfile has.
pub(super) fn stage_count() -> usize {
    let is_stage = |line: &&str| line.starts_with("FROM ");
    dockerfile().lines().filter(is_stage).count()
}

/// The stages with steps of their own that the image of a service needs.
pub(super) fn stages_for(service: &str) -> BTreeSet<String> {
    let libraries = transitive(direct(&SERVICES, service));
    let mut stages: BTreeSet<String> = libraries.iter().map(|lib| format!("lib-{lib}")).collect();
    stages.extend(["base", "tools", service].map(str::to_owned));
    stages.insert(format!("build-{service}"));
    stages
}

/// What identifies a step of a library or service: all instructions of its stage up to it. Stages
/// that begin alike share these steps.
pub(super) fn chain(stage: &str, instruction: &str) -> String {
    let steps = &stages()[stage];
    let known = steps.iter().position(|step| step == instruction);
    let index = known.unwrap_or_else(|| panic!("{stage} has no step {instruction:?}"));
    steps[..=index].join("\n")
}

/// The chains of the steps that run again for libraries and services when a library changes.
pub(super) fn chains_changed_by(library: &str) -> BTreeSet<String> {
    let uses = |(_, direct): &&Unit| transitive(direct).contains(library);
    let mut changed = BTreeSet::from([format!("lib-{library}")]);
    for (name, _) in LIBRARIES.iter().filter(uses) {
        changed.insert(format!("lib-{name}"));
    }
    for (name, _) in SERVICES.iter().filter(uses) {
        changed.extend([format!("build-{name}"), (*name).to_owned()]);
    }
    // The first COPY from a stage that changed, and all that stands on it; or the whole stage, if
    // it copies what changed from the context.
    let takes_changed = |step: &String| {
        let rest = step.strip_prefix("COPY --from=");
        let from = rest.and_then(|rest| rest.split(' ').next());
        from.is_some_and(|from| changed.contains(from))
    };
    let stages = stages();
    let mut chains = BTreeSet::new();
    for stage in &changed {
        let steps = &stages[stage];
        let first = steps.iter().position(takes_changed).unwrap_or(0);
        chains.extend(steps[first..].iter().map(|step| chain(stage, step)));
    }
    chains
}

fn direct(units: &[Unit], name: &str) -> &'static [&'static str] {
    let unit = units.iter().find(|(own, _)| *own == name);
    let (_, direct) = unit.unwrap_or_else(|| panic!("there is no {name}"));
    direct
}

/// Some libraries and all that they are made from.
fn transitive(libraries: &[&'static str]) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut open = libraries.to_vec();
    while let Some(library) = open.pop() {
        if found.insert(library) {
            open.extend(direct(&LIBRARIES, library));
        }
    }
    found
}

/// The steps of the stages of libraries and services, by stage.
fn stages() -> BTreeMap<String, Vec<String>> {
    let copies = |direct: &[&str]| -> Vec<String> {
        let copy = |lib: &&str| format!("COPY --from=lib-{lib} /out/ /deps/");
        direct.iter().map(copy).collect()
    };
    let mut stages = BTreeMap::new();
    for (name, direct) in LIBRARIES {
        let mut steps = vec![format!("COPY libs/{name}/ /src/")];
        steps.extend(copies(direct));
        steps.push(format!("RUN make-unit {name}"));
        stages.insert(format!("lib-{name}"), steps);
    }
    for (name, direct) in SERVICES {
        let mut steps = copies(direct);
        steps.push(format!("COPY services/{name}/ /src/"));
        steps.push(format!("RUN make-program {name}"));
        stages.insert(format!("build-{name}"), steps);
        let image = format!("COPY --from=build-{name} /out/{name} /usr/local/bin/{name}");
        stages.insert(name.to_owned(), vec![image]);
    }
    stages
}

fn dockerfile() -> String {
    let stages = stages();
    let mut text = HEAD.to_owned();
    let mut stage = |from: &str, name: &str, rest: &str| {
        let steps = stages
            .get(name)
            .map_or(String::new(), |steps| steps.join("\n"));
        writeln!(text, "\nFROM {from} AS {name}\n{steps}\n{rest}")
            .expect("a string takes anything");
    };
    for (name, _) in LIBRARIES {
        let library = format!("lib-{name}");
        stage("tools", &library, "");
        let test = format!("RUN grep -q '^{name} says' /out/{name}");
        stage(&library, &format!("test-{name}"), &test);
    }
    for (name, _) in SERVICES {
        stage("tools", &format!("build-{name}"), "");
        let config = format!("LABEL org.example.service={name}\nUSER app\nCMD [\"{name}\"]");
        stage("base", name, &config);
    }
    let all = |kind: &str, units: &[Unit], to: &str| -> String {
        let copy = |(name, _): &Unit| format!("COPY --from={kind}-{name} /out/{name} {to}\n");
        units.iter().map(copy).collect()
    };
    stage("scratch", "tests", &all("test", &LIBRARIES, "/tested/"));
    stage("base", "aggregate", &all("build", &SERVICES, "/services/"));
    text
}
