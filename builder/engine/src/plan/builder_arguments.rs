//! Build arguments that speak to the builder, not to the Dockerfile.
//!
//! | argument | meaning |
//! |---|---|
//! | `BUILDKIT_SANDBOX_HOSTNAME` | the host name that RUN sees |
//! | `BUILDKIT_CACHE_MOUNT_NS` | a namespace for the ids of cache mounts |
//! | `BUILDKIT_MULTI_PLATFORM` | an index even for one platform: refused |
//! | `BUILDKIT_INLINE_CACHE` | cache data inside the image: a warning, as there is none |
//! | `BUILDKIT_DISABLE_FILEOP` | gone from BuildKit, and refused as there |
//! | `BUILDKIT_SBOM_SCAN_CONTEXT`, `BUILDKIT_SBOM_SCAN_STAGE` | what a bill of materials covers; never in an environment |
//! | `BUILDKIT_BUILD_NAME` | a name for BuildKit's list of builds: means nothing here |
//!
//! `SOURCE_DATE_EPOCH` is in [`epoch`](super::epoch), `BUILDKIT_SYNTAX` in
//! [`syntax`](crate::dockerfile::syntax), `BUILDKIT_DOCKERFILE_CHECK` in
//! [`premises`](super::premises). All of them are ordinary arguments too, for a stage that
//! declares them. Source: BuildKit, `dockerui/config.go`.

use super::error::PlanError;
use super::options::PlanOptions;
use crate::event::{BuildEvent, EventSink};

/// The host name of a step where nobody says another (BuildKit's).
const HOSTNAME: &str = "buildkitsandbox";

/// Refuses what cannot be done.
pub(super) fn check(options: &PlanOptions, events: &dyn EventSink) -> Result<(), PlanError> {
    let given = |name: &str| options.build_args.get(name).map(String::as_str);
    if given("BUILDKIT_DISABLE_FILEOP").and_then(boolean) == Some(true) {
        return Err(PlanError::new(
            "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11",
        ));
    }
    if let Some(text) = given("BUILDKIT_MULTI_PLATFORM").filter(|text| !text.is_empty()) {
        match boolean(text) {
            Some(false) => {}
            Some(true) => {
                return Err(PlanError::unsupported("BUILDKIT_MULTI_PLATFORM=true"));
            }
            None => {
                return Err(PlanError::new(format!(
                    "invalid boolean value for multi-platform: {text}"
                )));
            }
        }
    }
    if given("BUILDKIT_INLINE_CACHE").and_then(boolean) == Some(true) {
        events.emit(BuildEvent::Warning {
            message: "BUILDKIT_INLINE_CACHE has no effect: images carry no cache data".into(),
        });
    }
    Ok(())
}

/// The host name that RUN sees.
pub(super) fn hostname(options: &PlanOptions) -> &str {
    match options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") {
        Some(name) if !name.is_empty() => name,
        _ => HOSTNAME,
    }
}

/// The namespace of ids of cache mounts; empty if there is none.
pub(super) fn cache_namespace(options: &PlanOptions) -> &str {
    let given = options.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
    given.map_or("", String::as_str)
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
