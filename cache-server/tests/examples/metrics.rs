//! Metrics: all that is shown and alerted on is on the page of a server.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ashlar_cache_server::metrics::request::Counted;
use ashlar_cache_server::metrics::{CountLayer, Metrics, Now};
use ashlar_cache_server::stores::{HolderUsage, StoreState, Usage};
use ashlar_store::counters::Counters;
use ashlar_store::{Fault, FaultKind};
use axum::http::{Request, Response};
use tonic::body::Body;
use tower::{Layer as _, Service as _};

use super::files::{document, list, root, string, text};

/// The page of a server that has done everything.
async fn page() -> String {
    let counters = Arc::new(Counters::default());
    for engine in [&counters.redis, &counters.objects, &counters.peers] {
        let away = async { Err::<(), _>(Fault::new(FaultKind::Unavailable, "away")) };
        engine.run("get", away).await.expect_err("away");
    }
    let metrics = Metrics::new(counters);
    let service = tower::service_fn(|_: Request<Counted<Body>>| async {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let request = Request::get("/ashlar.cache.v1.Results/Probe").body(Body::empty());
    let mut counted = CountLayer(metrics.clone()).layer(service);
    let answer = counted.call(request.expect("a request")).await;
    drop(answer.expect("an answer"));
    let now = Now {
        usage: Some(Usage::default()),
        leases: Some(1),
        uploads: 1,
        ready: true,
        stores: vec![StoreState::of("redis", true, std::future::ready(Ok(()))).await],
        held: vec![HolderUsage {
            namespace: "acme".to_owned(),
            bytes: 1,
            limit_bytes: 2,
        }],
        refused_blobs: vec![("acme".into(), 1)],
        certificate_ends: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
        jwks_ages: vec![("https://issuer".to_owned(), Duration::from_secs(1))],
        queue: Some(Default::default()),
    };
    metrics.page(&now).expect("a page")
}

/// The names under which Prometheus knows what is on a page.
fn names(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines() {
        let Some(line) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let (name, kind) = line.split_once(' ').expect(line);
        let endings: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        names.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    names
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("ashlar_cache_") {
        let rest = &text[at..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        named.insert(rest[..end].to_owned());
    }
    named
}

#[tokio::test]
async fn what_is_shown_and_alerted_on_is_measured() {
    let there = names(&page().await);
    let shown = text("grafana-dashboard.json");
    let alerts = text("kubernetes/alerts.yaml");
    let scaler = text("kubernetes/horizontalpodautoscaler.yaml");
    let docs = fs::read_to_string(root().join("docs/farm.md")).expect("a page");
    for (file, text) in [
        ("dashboard", shown),
        ("alerts", alerts),
        ("scaler", scaler),
        ("docs", docs),
    ] {
        let named = named(&text);
        assert!(!named.is_empty(), "{file}");
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(
            missing.is_empty(),
            "{file}: {missing:?} are none of {there:#?}"
        );
    }
}

#[tokio::test]
async fn the_page_is_what_prometheus_reads() {
    let page = page().await;
    assert!(page.ends_with("# EOF\n"), "{page}");
    let mut families = BTreeSet::new();
    let mut current = String::new();
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let (word, rest) = rest.split_once(' ').expect(line);
            let name = rest.split(' ').next().expect(line);
            assert!(["HELP", "TYPE", "UNIT"].contains(&word), "{line}");
            if word == "HELP" {
                assert!(families.insert(name.to_owned()), "{name} stands twice");
            }
            name.clone_into(&mut current);
            continue;
        }
        let (labelled, value) = line.rsplit_once(' ').expect(line);
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = labelled.split_once('{').unwrap_or((labelled, "}"));
        assert!(name.starts_with(&current), "{line} is not of {current}");
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        let mut seen = BTreeSet::new();
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
                "{line}"
            );
            assert!(!value.trim_end_matches('"').contains('"'), "{line}");
            assert!(seen.insert(name), "{line}");
        }
    }
    assert!(families.len() > 30, "{families:?}");
}

#[test]
fn every_alert_says_what_to_do() {
    let rules = document("compose/rules.yaml");
    for rule in list(&rules["groups"][0]["rules"]) {
        let name = string(&rule["alert"]);
        assert!(name.starts_with("AshlarCache"), "{name}");
        assert!(!string(&rule["expr"]).is_empty(), "{name}");
        let severity = string(&rule["labels"]["severity"]);
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        assert!(
            string(&rule["annotations"]["description"]).len() > 20,
            "{name}"
        );
    }
}
