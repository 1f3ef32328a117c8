//! What came of segments, there and back.

use std::error::Error as _;

use ashlar_engine::schedule::{Failure, Fate, Made, StepFailure};
use ashlar_engine::segment::{SegmentError, SegmentMade};
use ashlar_model::digest::DiffId;
use ashlar_model::executor::{ExitStatus, StepError};
use ashlar_model::layer::LayerRecord;

use super::*;

fn planned() -> (Planned, Encoded) {
    let of = everything();
    let encoded = encoded(&of);
    let order = Order::read(&encoded.bytes).unwrap();
    (order.plan(&of.contexts(&order), "here").unwrap(), encoded)
}

fn told(made: &Made) -> Result<SegmentMade, SegmentError> {
    let (planned, encoded) = planned();
    let bytes = SegmentOutcome::of(made, &planned).encode().unwrap();
    SegmentOutcome::decode(&bytes)
        .unwrap()
        .into_result(&encoded.nodes)
}

fn failed(error: StepError) -> SegmentError {
    let (planned, _) = planned();
    let step = StepFailure {
        node: planned.steps.first().copied(),
        name: "step".into(),
        range: None,
        error,
        last_output: (0..30).map(|number| number.to_string()).collect(),
    };
    told(&Made {
        layers: Err(Failure::Step(std::sync::Arc::new(step))),
        fates: None,
    })
    .unwrap_err()
}

#[test]
fn what_was_made_is_told() {
    let of = everything();
    let (planned, _) = planned();
    let mut record = LayerRecord::made_by_step(LayerId::from_bytes([1; 16]));
    record.diff_id = Some(DiffId::of(b"tar"));
    record.tar_size = Some(7);
    let mut fates = vec![Fate::Found; planned.plan.graph.len()];
    fates[planned.target.index()] = Fate::Ran;
    let made = told(&Made {
        layers: Ok(vec![record]),
        fates: Some(fates),
    })
    .unwrap();
    assert_eq!(made.layers, [(DiffId::of(b"tar"), 7)]);
    assert_eq!(made.fates.len(), of.segment().steps.len());
    assert_eq!(made.fates.last(), Some(&(of.target, Fate::Ran)));
    assert_eq!(made.fates[0].1, Fate::Found);
}

#[test]
fn errors_of_steps_are_told_in_full() {
    let of = everything();
    let SegmentError::Step {
        node,
        error,
        last_output,
    } = failed(StepError::Failed {
        command: "make".into(),
        status: ExitStatus::Signal(9),
    })
    else {
        panic!();
    };
    assert_eq!(node, of.segment().steps[0]);
    assert!(
        matches!(error, StepError::Failed { command, status: ExitStatus::Signal(9) } if command == "make")
    );
    assert_eq!((last_output.len(), last_output[0].as_str()), (20, "10"));

    let SegmentError::Step { error, .. } = failed(StepError::Environment {
        message: "no room".into(),
        hint: Some("make some".into()),
        source: Some(Box::new(std::io::Error::other("disk full"))),
    }) else {
        panic!();
    };
    assert_eq!(
        (error.to_string().as_str(), error.hint()),
        ("no room", Some("make some"))
    );
    assert_eq!(error.source().unwrap().to_string(), "disk full");

    let layers = vec![LayerId::from_bytes([2; 16])];
    let SegmentError::Step { error, .. } = failed(StepError::LayersLost {
        layers: layers.clone(),
    }) else {
        panic!();
    };
    assert!(matches!(error, StepError::LayersLost { layers: lost } if lost == layers));

    let SegmentError::Step { error, .. } = failed(StepError::Input {
        message: "x".repeat(100_000),
        hint: None,
    }) else {
        panic!();
    };
    assert!(error.to_string().len() < 20_000);
}

#[test]
fn what_is_no_steps_failure_is_the_farms() {
    let made = |failure| Made {
        layers: Err(failure),
        fates: None,
    };
    let error = told(&made(Failure::Internal("died".into()))).unwrap_err();
    assert!(matches!(&error, SegmentError::Farm { message, .. } if message.contains("died")));
    let error = told(&made(Failure::Cancelled)).unwrap_err();
    assert!(matches!(error, SegmentError::Cancelled));
    // What is said of no step is said of the whole.
    let failure = Failure::Step(std::sync::Arc::new(StepFailure {
        node: None,
        name: "preparing layers".into(),
        range: None,
        error: StepError::Cancelled,
        last_output: Vec::new(),
    }));
    let error = told(&made(failure)).unwrap_err();
    assert!(matches!(error, SegmentError::Step { node, .. } if node == everything().target));
}
