//! Whole builds and deliveries, there and back.

use ashlar_engine::driver::{Built, Prepared};
use ashlar_image::export::{EpochChoice, ImageOptions, LayerOptions, TimeOptions};
use ashlar_image::manifest::ManifestFormat;
use ashlar_model::config::{HistoryEntry, ImageConfig};
use ashlar_model::media_type::Compression;
use ashlar_model::platform::Platform;

use super::*;

fn prepared(of: &Everything) -> Prepared {
    let mut config = ImageConfig {
        os: "linux".into(),
        architecture: "arm".into(),
        ..ImageConfig::default()
    };
    config.config.cmd = Some(vec!["/bin/sh".into()]);
    config.history = vec![HistoryEntry::default(); 3];
    Prepared {
        plan: of.plan.clone(),
        target: of.target,
        config,
        inherited_history: 2,
        platform: Platform::new("linux", "arm", Some("v7")),
        epoch: Some(-1),
        vertices: 9,
    }
}

fn pushes() -> Vec<Push> {
    let push = |insecure, format, level, epoch| Push {
        insecure,
        options: ImageOptions {
            names: vec!["registry.example.com/a/b:c".parse().unwrap()],
            format,
            layers: LayerOptions {
                compression: Compression::Zstd,
                level,
                force: insecure,
            },
            times: TimeOptions {
                rewrite: !insecure,
                epoch,
            },
        },
    };
    vec![
        push(true, ManifestFormat::Oci, None, EpochChoice::OfBuild),
        push(false, ManifestFormat::Docker, Some(-3), EpochChoice::At(7)),
        push(false, ManifestFormat::Oci, Some(19), EpochChoice::None),
    ]
}

#[test]
fn a_whole_build_is_planned_as_the_client_has_planned_it() {
    let of = everything();
    let prepared = prepared(&of);
    let encoded = BuildOrder::encode(&prepared, true, &pushes(), (&of.home, &of.names)).unwrap();
    let order = BuildOrder::read(&encoded.bytes).unwrap();
    assert_eq!(order.fresh(), Fresh::All);
    assert_eq!(order.pushes(), pushes());
    assert_eq!(order.isolation(), "here");
    assert_eq!((order.contexts().len(), order.layers().len()), (1, 2));
    assert_eq!(order.documents().len(), 2);
    let segment = encode(&of.segment(), &of.home, &of.names).unwrap();
    let contexts = of.contexts(&Order::read(&segment.bytes).unwrap());
    let read = order.plan(&contexts, "here").unwrap();
    assert_eq!(read.config, prepared.config);
    assert_eq!(
        (read.inherited_history, read.epoch, &read.platform),
        (2, Some(-1), &prepared.platform)
    );
    let key =
        |prepared: &Prepared, node: ashlar_engine::graph::NodeId| prepared.plan.keys[node.index()];
    assert_eq!(key(&read, read.target), key(&prepared, prepared.target));

    // It is no order of another kind.
    assert!(matches!(
        DeliveryOrder::read(&encoded.bytes),
        Err(OrderError::Kind(_))
    ));
    assert!(matches!(
        Order::read(&encoded.bytes),
        Err(OrderError::Kind(_))
    ));
}

#[test]
fn a_delivery_is_of_one_image() {
    let of = everything();
    let prepared = prepared(&of);
    let built = Built {
        config: ImageConfig {
            author: "done".into(),
            ..prepared.config.clone()
        },
        layers: Vec::new(),
        platform: prepared.platform.clone(),
        epoch: None,
        inherited_history: 0,
        vertices: 0,
        prepared: Some(prepared),
    };
    let encoded = DeliveryOrder::encode(&built, &pushes(), &of.home, &of.names);
    let order = DeliveryOrder::read(&encoded.unwrap().unwrap().bytes).unwrap();
    assert_eq!(order.config(), &built.config);
    assert_eq!(order.pushes(), pushes());
    let other = Built {
        prepared: None,
        ..built
    };
    assert!(DeliveryOrder::encode(&other, &[], &of.home, &of.names).is_none());
}

#[test]
fn an_image_goes_somewhere_or_is_refused() {
    let of = everything();
    let mut prepared = prepared(&of);
    let mut nameless = pushes();
    nameless[0].options.names.clear();
    let read = |prepared: &Prepared, pushes: &[Push]| {
        let encoded = BuildOrder::encode(prepared, false, pushes, (&of.home, &of.names));
        BuildOrder::read(&encoded.unwrap().bytes)
    };
    assert!(matches!(
        read(&prepared, &nameless),
        Err(OrderError::Wrong(_))
    ));
    read(&prepared, &[]).unwrap();
    prepared.inherited_history = 4;
    assert!(matches!(read(&prepared, &[]), Err(OrderError::Wrong(_))));
}
