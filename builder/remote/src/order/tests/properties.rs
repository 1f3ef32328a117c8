//! No bytes whatever make a reader fail in a way of its own, or believe anything.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// Made once: a store takes longer than looking at some bytes.
static EVERYTHING: LazyLock<Everything> = LazyLock::new(everything);

/// Whatever can be read is planned, or refused.
fn look_at(of: &Everything, bytes: &[u8]) {
    if let Ok(order) = Order::read(bytes) {
        let (order_name, contexts) = (order.name().len(), of.contexts(&order));
        assert!(order_name <= 64 << 10);
        if let Ok(planned) = order.plan(&contexts, "here") {
            assert!(!planned.steps.is_empty());
        }
    }
    drop(BuildOrder::read(bytes));
    drop(DeliveryOrder::read(bytes));
    if let Ok(outcome) = SegmentOutcome::decode(bytes) {
        let nodes = of.segment().steps;
        drop(outcome.into_result(&nodes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes(kind in 0..6u8, body in prop::collection::vec(any::<u8>(), 0..400)) {
        let of = &EVERYTHING;
        let bytes = [b"ASHO".as_slice(), &[kind, 1, 0], &body].concat();
        look_at(of, &bytes);
        look_at(of, &body);
    }
}

#[test]
fn every_beginning_and_every_changed_byte() {
    let of = &EVERYTHING;
    let bytes = encoded(of).bytes;
    for end in 0..bytes.len() {
        assert!(Order::read(&bytes[..end]).is_err(), "{end}");
    }
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            look_at(of, &changed);
        }
    }
}
