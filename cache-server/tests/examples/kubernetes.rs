//! Manifests and compose file: ports, probes, names and times agree.

use std::collections::BTreeMap;

use yaml_rust2::Yaml;

use super::files::{document, documents, list, string, text};
use super::settings::seconds;

/// The first document of a kind.
fn of_kind(file: &str, kind: &str) -> Yaml {
    let mut found = documents(file).into_iter();
    let found = found.find(|document| document["kind"].as_str() == Some(kind));
    found.unwrap_or_else(|| panic!("{file}: no {kind}"))
}

pub(crate) fn deployment() -> Yaml {
    of_kind("kubernetes/deployment.yaml", "Deployment")
}

fn pod() -> Yaml {
    deployment()["spec"]["template"]["spec"].clone()
}

/// The ports of the container by name.
fn ports() -> BTreeMap<String, i64> {
    let container = pod()["containers"][0].clone();
    let ports = list(&container["ports"]).iter().map(|port| {
        let number = port["containerPort"].as_i64().expect("a number");
        (string(&port["name"]).to_owned(), number)
    });
    ports.collect()
}

/// The settings of the ConfigMap.
fn settings() -> toml::Table {
    let map = document("kubernetes/configmap.yaml");
    string(&map["data"]["cache.toml"]).parse().expect("TOML")
}

/// The port of an address.
fn port(address: &str) -> i64 {
    let port = address.rsplit(':').next().expect("a port");
    port.parse().unwrap_or_else(|_| panic!("{address}"))
}

fn setting(settings: &toml::Table, name: &str) -> String {
    settings[name].as_str().expect(name).to_owned()
}

#[test]
fn the_container_has_the_ports_that_the_settings_name() {
    let settings = settings();
    let ports = ports();
    for (name, setting_name) in [
        ("grpc", "listen"),
        ("http", "http"),
        ("peers", "peer_listen"),
        ("workers", "worker_listen"),
    ] {
        assert_eq!(ports[name], port(&setting(&settings, setting_name)));
    }
    assert_eq!(ports.len(), 4);
    let peers = settings["peer"].as_array().expect("peers");
    let service = documents("kubernetes/service.yaml")
        .into_iter()
        .find(|one| {
            let name = format!("{}:{}", string(&one["metadata"]["name"]), ports["peers"]);
            peers
                .iter()
                .any(|peer| peer.as_str() == Some(name.as_str()))
        });
    let service = service.expect("a Service for peers");
    assert_eq!(service["spec"]["clusterIP"].as_str(), Some("None"));
    assert_eq!(
        service["spec"]["publishNotReadyAddresses"].as_bool(),
        Some(true)
    );
}

#[test]
fn services_policies_and_monitors_name_ports_that_there_are() {
    let ports = ports();
    for service in documents("kubernetes/service.yaml") {
        for one in list(&service["spec"]["ports"]) {
            let name = string(&one["targetPort"]);
            assert_eq!(Some(ports[name]), one["port"].as_i64(), "{one:?}");
        }
    }
    let policy = document("kubernetes/networkpolicy.yaml");
    for from in list(&policy["spec"]["ingress"]) {
        for one in list(&from["ports"]) {
            assert!(ports.contains_key(string(&one["port"])), "{one:?}");
        }
    }
    let out = list(&policy["spec"]["egress"]).iter();
    let out: Vec<_> = out
        .flat_map(|to| list(&to["ports"]))
        .filter_map(|one| one["port"].as_i64())
        .collect();
    let settings = settings();
    for needed in [ports["peers"], 443, port(&setting(&settings, "trace"))] {
        assert!(out.contains(&needed), "{needed}: {out:?}");
    }
    let monitor = document("kubernetes/servicemonitor.yaml");
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"].as_str(), Some("http"));
    assert_eq!(endpoint["path"].as_str(), Some("/metrics"));
}

#[test]
fn probes_ask_pages_that_there_are() {
    let container = pod()["containers"][0].clone();
    let asked = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"].as_str(), Some("http"), "{probe}");
        string(&get["path"]).to_owned()
    });
    // Liveness does not depend on Redis: no restart brings it back.
    assert_eq!(asked, ["/healthz", "/readyz", "/healthz"]);
}

#[test]
fn everything_selects_the_pods() {
    let labels = deployment()["spec"]["template"]["metadata"]["labels"].clone();
    assert!(labels["app.kubernetes.io/name"].as_str().is_some());
    let deployment = deployment();
    let mut selectors = vec![deployment["spec"]["selector"]["matchLabels"].clone()];
    for service in documents("kubernetes/service.yaml") {
        selectors.push(service["spec"]["selector"].clone());
    }
    let budget = document("kubernetes/poddisruptionbudget.yaml");
    selectors.push(budget["spec"]["selector"]["matchLabels"].clone());
    let policy = document("kubernetes/networkpolicy.yaml");
    selectors.push(policy["spec"]["podSelector"]["matchLabels"].clone());
    for spread in list(&pod()["topologySpreadConstraints"]) {
        selectors.push(spread["labelSelector"]["matchLabels"].clone());
    }
    assert_eq!(selectors.len(), 9);
    assert!(
        selectors.iter().all(|selector| *selector == labels),
        "{selectors:?}"
    );
    let scaler = document("kubernetes/horizontalpodautoscaler.yaml");
    let target = &scaler["spec"]["scaleTargetRef"];
    assert_eq!(target["name"], deployment["metadata"]["name"]);
    assert_eq!(target["kind"], deployment["kind"]);
}

#[test]
fn requests_may_end_before_the_server_does() {
    let pod = pod();
    let wait = &pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
    let wait = wait.as_i64().expect("seconds");
    let all = pod["terminationGracePeriodSeconds"]
        .as_i64()
        .expect("seconds");
    let grace = seconds(&setting(&settings(), "grace"));
    assert!(all > wait + i64::try_from(grace).expect("a number"));

    let compose = text("compose.yaml");
    let stop = compose
        .lines()
        .find_map(|line| line.trim().strip_prefix("stop_grace_period: "));
    let settings: toml::Table = text("cache.toml").parse().expect("TOML");
    assert!(seconds(stop.expect("a time")) > seconds(&setting(&settings, "grace")));
}

#[test]
fn the_pod_needs_no_rights() {
    let pod = pod();
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(pod["automountServiceAccountToken"].as_bool(), Some(false));
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(container["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(container["capabilities"]["drop"][0].as_str(), Some("ALL"));
}

#[test]
fn what_is_mounted_is_there() {
    let pod = pod();
    let volumes = list(&pod["volumes"]).iter().map(|one| string(&one["name"]));
    let volumes: Vec<_> = volumes.collect();
    let mounts = list(&pod["containers"][0]["volumeMounts"]);
    let mut used: Vec<_> = mounts.iter().map(|one| string(&one["name"])).collect();
    used.sort_unstable();
    let mut declared = volumes.clone();
    declared.sort_unstable();
    assert_eq!(used, declared);
    let paths: Vec<_> = mounts.iter().map(|one| string(&one["mountPath"])).collect();
    let settings = settings();
    for name in [
        "root",
        "redis_password_file",
        "peer_token_file",
        "worker_token_file",
        "tls_cert",
        "tls_key",
    ] {
        let file = setting(&settings, name);
        assert!(
            paths.iter().any(|path| file.starts_with(path)),
            "{file}: {paths:?}"
        );
        // A file that stands where changes would not be seen.
        assert!(mounts.iter().all(|mount| mount["subPath"].is_badvalue()));
    }
    let secret = documents("kubernetes/secret.example.yaml").remove(0);
    for name in [
        "redis_password_file",
        "peer_token_file",
        "worker_token_file",
    ] {
        let file = setting(&settings, name);
        let key = file.rsplit('/').next().expect("a name");
        assert!(secret["stringData"][key].as_str().is_some(), "{key}");
    }
}

#[test]
fn workers_find_the_servers_and_end_in_time() {
    let worker = of_kind("kubernetes/worker.yaml", "Deployment");
    let pod = &worker["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let arguments = list(&container["args"]).iter().map(string);
    let flags: BTreeMap<_, _> = arguments.filter_map(|one| one.split_once('=')).collect();
    let services = documents("kubernetes/service.yaml");
    let service = services
        .iter()
        .find(|one| list(&one["spec"]["ports"])[0]["name"].as_str() == Some("workers"));
    let service = service.expect("a Service for workers");
    let name = string(&service["metadata"]["name"]);
    assert_eq!(
        flags["--farm"],
        format!("grpcs://{name}:{}", ports()["workers"])
    );
    let listens = list(&container["ports"])[0]["containerPort"].as_i64();
    assert_eq!(listens, Some(port(flags["--http"])));
    let all = pod["terminationGracePeriodSeconds"].as_i64();
    let grace = i64::try_from(seconds(flags["--grace"])).expect("a number");
    assert!(all.expect("seconds") > grace);
    let policy = of_kind("kubernetes/worker.yaml", "NetworkPolicy");
    let out = &list(&policy["spec"]["egress"])[0]["ports"][0]["port"];
    assert_eq!(out.as_i64(), Some(ports()["workers"]));
    let labels = &worker["spec"]["template"]["metadata"]["labels"];
    for selector in [&worker["spec"]["selector"], &policy["spec"]["podSelector"]] {
        assert_eq!(&selector["matchLabels"], labels);
    }
    let secrets = documents("kubernetes/secret.example.yaml");
    let secret = secrets
        .iter()
        .find(|one| one["metadata"]["name"].as_str() == Some("ashlar-worker"));
    let secret = secret.expect("a Secret for workers");
    for flag in ["--token-file", "--farm-key"] {
        let key = flags[flag].rsplit('/').next().expect("a name");
        assert!(secret["stringData"][key].as_str().is_some(), "{key}");
    }
}

#[test]
fn the_balancer_and_prometheus_find_the_servers() {
    let settings: toml::Table = text("cache.toml").parse().expect("TOML");
    let (grpc, http) = (
        port(&setting(&settings, "listen")),
        port(&setting(&settings, "http")),
    );
    let compose = document("compose.yaml");
    let servers = ["cache-1", "cache-2", "cache-3"];
    for server in servers {
        assert!(!compose["services"][server].is_badvalue());
    }
    let envoy = document("compose/envoy.yaml");
    let cluster = &envoy["static_resources"]["clusters"][0];
    let endpoints = list(&cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]);
    let found = endpoints.iter().map(|one| {
        let one = &one["endpoint"];
        let address = &one["address"]["socket_address"];
        assert_eq!(address["port_value"].as_i64(), Some(grpc));
        assert_eq!(
            one["health_check_config"]["port_value"].as_i64(),
            Some(http)
        );
        string(&address["address"])
    });
    assert_eq!(found.collect::<Vec<_>>(), servers);
    let check = &cluster["health_checks"][0]["http_health_check"];
    assert_eq!(check["path"].as_str(), Some("/readyz"));

    let prometheus = document("compose/prometheus.yaml");
    let targets = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    let targets: Vec<_> = list(targets).iter().map(string).collect();
    assert_eq!(targets, servers.map(|server| format!("{server}:{http}")));
}

#[test]
fn every_secret_and_file_of_the_compose_file_is_made_or_there() {
    let compose = document("compose.yaml");
    let script = text("secrets.sh");
    for (name, secret) in compose["secrets"].as_hash().expect("secrets") {
        let file = string(&secret["file"]);
        assert!(script.contains(string(name)), "{file}");
    }
    for (_, config) in compose["configs"].as_hash().expect("configs") {
        let file = string(&config["file"]);
        assert!(super::files::path(file).exists(), "{file}");
    }
}
