//! Choosing an image from an index by platform.

use std::cmp::Reverse;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::platform::Platform;

/// An index has no image for a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no image for {wanted}; there are: {}", list(available))]
pub struct ChoosePlatformError {
    /// The platform that was asked for.
    pub wanted: Platform,
    /// What the index has.
    pub available: Vec<Platform>,
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    names.join(", ")
}

/// The image for a platform: one made for exactly it, else one whose variant it can run, newest
/// variant first, else one that names no variant. Among equals the first wins, as the index is in
/// order of preference.
///
/// Attestation manifests (`unknown/unknown`) are never chosen. An entry without platform is taken
/// if there is nothing else: its configuration will tell.
pub fn choose<'a>(
    manifests: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, ChoosePlatformError> {
    let images = || {
        manifests
            .iter()
            .filter(|manifest| !is_attestation(manifest))
    };
    let best = images()
        .filter_map(|manifest| {
            let rank = rank(wanted, manifest.platform.as_ref()?)?;
            Some((rank, manifest))
        })
        // `min_by_key` gives the first of equals.
        .min_by_key(|(rank, _)| Reverse(*rank))
        .map(|(_, manifest)| manifest);
    if let Some(manifest) = best {
        return Ok(manifest);
    }
    let mut rest = images();
    if let (Some(only), None) = (rest.next(), rest.next())
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut available: Vec<Platform> = images().filter_map(|m| m.platform.clone()).collect();
    available.sort();
    available.dedup();
    Err(ChoosePlatformError {
        wanted: wanted.clone(),
        available,
    })
}

fn is_attestation(manifest: &Descriptor) -> bool {
    manifest
        .platform
        .as_ref()
        .is_some_and(|platform| platform.os == "unknown" && platform.arch == "unknown")
        || manifest
            .annotations
            .get("vnd.docker.reference.type")
            .is_some_and(|kind| kind == "attestation-manifest")
}

/// How well an image fits, higher is better; `None` if it does not run there.
fn rank(wanted: &Platform, image: &Platform) -> Option<u32> {
    let image = Platform::new(&image.os, &image.arch, image.variant.as_deref());
    if (&wanted.os, &wanted.arch) != (&image.os, &image.arch) {
        return None;
    }
    if wanted.variant == image.variant {
        return Some(u32::MAX);
    }
    match (level(wanted), level(&image)) {
        // A newer processor runs what was made for an older one, never the other way.
        (Some(wanted), Some(image)) => (image <= wanted).then_some(image + 1),
        _ => wanted.accepts(&image).then_some(0),
    }
}

/// The number of a variant; the usual one of an architecture where the platform names none.
fn level(platform: &Platform) -> Option<u32> {
    match (platform.arch.as_str(), platform.variant.as_deref()) {
        ("amd64", None) => Some(1),
        ("arm64", None) => Some(8),
        (_, Some(variant)) => variant.strip_prefix('v')?.parse().ok().filter(|n| *n < 100),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::media_type::OCI_MANIFEST;

    use super::super::describe;
    use super::*;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        platforms
            .iter()
            .map(|text| {
                let mut descriptor = describe(OCI_MANIFEST, text.as_bytes());
                descriptor.platform = match text.split('/').collect::<Vec<_>>()[..] {
                    [os, arch] => Some(Platform::new(os, arch, None)),
                    [os, arch, variant] => Some(Platform::new(os, arch, Some(variant))),
                    _ => None,
                };
                descriptor
            })
            .collect()
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Option<String> {
        let manifests = index(platforms);
        let descriptor = choose(&manifests, &wanted.parse().unwrap()).ok()?;
        let at = manifests.iter().position(|m| m == descriptor).unwrap();
        Some(platforms[at].to_owned())
    }

    #[test]
    fn the_exact_platform_wins() {
        let all = ["linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/amd64"];
        for wanted in all {
            assert_eq!(chosen(&all, wanted).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn older_variants_run_on_newer_processors_and_not_the_other_way() {
        let arm = ["linux/arm/v5", "linux/arm/v6"];
        assert_eq!(
            chosen(&arm, "linux/arm/v7").as_deref(),
            Some("linux/arm/v6")
        );
        assert_eq!(chosen(&["linux/arm/v7"], "linux/arm/v6"), None);
        assert_eq!(
            chosen(&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3").as_deref(),
            Some("linux/amd64/v2")
        );
        assert_eq!(chosen(&["linux/amd64/v2"], "linux/amd64"), None);
    }

    #[test]
    fn attestations_are_never_chosen() {
        assert_eq!(chosen(&["unknown/unknown"], "linux/amd64"), None);
        let error = choose(
            &index(&["unknown/unknown", "linux/s390x", "windows/amd64"]),
            &"linux/amd64".parse().unwrap(),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no image for linux/amd64; there are: linux/s390x, windows/amd64"
        );
    }

    #[test]
    fn a_lone_entry_without_platform_is_taken() {
        assert_eq!(chosen(&["?"], "linux/amd64").as_deref(), Some("?"));
        assert_eq!(chosen(&["?", "!"], "linux/amd64"), None);
        assert_eq!(chosen(&[], "linux/amd64"), None);
    }
}
