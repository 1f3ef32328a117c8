//! The history of an image.

use ashlar_model::config::{DateTime, HistoryEntry, ImageConfig};

/// What Docker's tools know entries of the Dockerfile language by.
pub(super) const COMMENT: &str = "buildkit.dockerfile.v0";
/// The same for layers that an image's own history does not mention.
const SYNTHESISED: &str = "buildkit.exporter.image.v0";

/// Adds an entry. Its time is filled in when its layer is known.
pub(super) fn add(config: &mut ImageConfig, created_by: String, layer: bool) {
    config.history.push(HistoryEntry {
        created_by,
        comment: COMMENT.to_owned(),
        empty_layer: !layer,
        ..HistoryEntry::default()
    });
}

/// Makes the history fit the layers: entries for layers that have none, and times: a layer's own
/// for its entry, and for entries without a layer that of the layer before, or of the first new
/// one. No new entry is older than those before it: many steps change nothing, and share one empty
/// layer that may have been made long ago. The image was made when its last entry was.
///
/// `layer_times` are the times of all layers, bottom first; `None` where a base image says nothing.
/// So two builds of the same layers give the same configuration, whenever they run.
///
/// With an `epoch` (`SOURCE_DATE_EPOCH`) the image was not made after it. New entries have it
/// already; those of a base keep their times.
/// Source: BuildKit, `exporter/containerimage/writer.go`, `normalizeLayersAndHistory`.
pub fn complete_history(
    config: &mut ImageConfig,
    layer_times: &[Option<DateTime>],
    epoch: Option<DateTime>,
) {
    let history = &mut config.history;
    let with_layer = history.iter().filter(|entry| !entry.empty_layer).count();
    if with_layer > layer_times.len() {
        // A base image whose history promises more layers than it has: it is of no use.
        let mut excess = with_layer - layer_times.len();
        history.retain(|entry| {
            let drop = excess > 0 && !entry.empty_layer;
            excess -= usize::from(drop);
            !drop
        });
    }
    for _ in with_layer..layer_times.len() {
        // Missing ones are those of a base image without history: they come first.
        history.insert(
            0,
            HistoryEntry {
                comment: SYNTHESISED.to_owned(),
                ..HistoryEntry::default()
            },
        );
    }

    let mut times = layer_times.iter();
    let mut latest = None;
    for entry in history.iter_mut() {
        let has_layer = !entry.empty_layer;
        let time = has_layer.then(|| times.next().copied().flatten()).flatten();
        if entry.created.is_none() && time.is_some() {
            entry.created = time.max(latest);
        }
        latest = latest.max(entry.created);
    }
    let first_gap = history.iter().position(|entry| entry.created.is_none());
    if let Some(gap) = first_gap {
        let after = history[gap..].iter().find_map(|entry| entry.created);
        let before = history[..gap].iter().rev().find_map(|entry| entry.created);
        let mut current = after.or(before);
        for entry in &mut history[gap..] {
            match entry.created {
                Some(time) => current = Some(time),
                None => entry.created = current,
            }
        }
    }
    let created = history.last().and_then(|entry| entry.created);
    config.created = match (created, epoch) {
        (Some(created), Some(epoch)) => Some(created.min(epoch)),
        (created, epoch) => created.or(epoch),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(entries: &[(&str, bool)]) -> ImageConfig {
        let mut config = ImageConfig::default();
        for (text, layer) in entries {
            add(&mut config, (*text).to_owned(), *layer);
        }
        config
    }

    fn seconds(config: &ImageConfig) -> Vec<Option<i64>> {
        let time = |entry: &HistoryEntry| entry.created.map(|time| time.timestamp().seconds);
        config.history.iter().map(time).collect()
    }

    fn at(seconds: i64) -> Option<DateTime> {
        Some(DateTime::new(seconds, 0))
    }

    #[test]
    fn times_come_from_layers() {
        let mut image = config(&[
            ("ENV", false),
            ("RUN", true),
            ("CMD", false),
            ("COPY", true),
        ]);
        complete_history(&mut image, &[at(10), at(20)], None);
        assert_eq!(seconds(&image), [Some(10), Some(10), Some(10), Some(20)]);
        assert_eq!(image.created, at(20));
    }

    #[test]
    fn a_layer_from_earlier_makes_no_image_older_than_what_it_stands_on() {
        let mut image = config(&[
            ("base", true),
            ("RUN", true),
            ("WORKDIR", true),
            ("CMD", false),
            ("COPY", true),
        ]);
        image.history[0].created = at(5);
        complete_history(&mut image, &[None, at(20), at(10), at(30)], None);
        assert_eq!(
            seconds(&image),
            [Some(5), Some(20), Some(20), Some(30), Some(30)]
        );
        let mut image = config(&[("base", true), ("WORKDIR", true)]);
        image.history[0].created = at(40);
        complete_history(&mut image, &[None, at(10)], None);
        assert_eq!(seconds(&image), [Some(40), Some(40)]);
        assert_eq!(image.created, at(40));
    }

    #[test]
    fn metadata_on_a_base_has_the_bases_time() {
        let mut image = config(&[("base", true), ("CMD", false)]);
        image.history[0].created = at(5);
        complete_history(&mut image, &[None], None);
        assert_eq!(seconds(&image), [Some(5), Some(5)]);
        assert_eq!(image.created, at(5));
    }

    #[test]
    fn layers_without_history_get_an_entry() {
        let mut image = config(&[("RUN", true)]);
        complete_history(&mut image, &[None, at(7)], None);
        assert_eq!(image.history.len(), 2);
        assert_eq!(image.history[0].comment, SYNTHESISED);
        assert_eq!(image.history[1].created_by, "RUN");
        assert_eq!(seconds(&image), [Some(7), Some(7)]);
    }

    #[test]
    fn an_epoch_bounds_the_images_time_but_not_the_bases() {
        let mut image = config(&[("base", true)]);
        image.history[0].created = at(50);
        complete_history(&mut image, &[None], at(7));
        assert_eq!((seconds(&image), image.created), (vec![Some(50)], at(7)));
        let mut image = config(&[("RUN", true)]);
        image.history[0].created = at(7);
        complete_history(&mut image, &[at(50)], at(7));
        assert_eq!((seconds(&image), image.created), (vec![Some(7)], at(7)));
    }

    #[test]
    fn nothing_known_is_nothing_said() {
        let mut image = config(&[("CMD", false)]);
        complete_history(&mut image, &[], None);
        assert_eq!(image.created, None);
    }
}
