//! `ashlar history`.
//!
//! With `--format json`, one object on each line, newest first: `Created` (RFC 3339), `CreatedBy`,
//! `Size` (bytes, unpacked; 0 for what made no layer), `Comment`, `EmptyLayer`.

use ashlar_model::config::{DateTime, HistoryEntry};
use ashlar_model::size::HumanSize;
use ashlar_store::home::Home;
use ashlar_store::home::images::ImageRecord;
use serde::Serialize;

use super::lookup::{self, config_of, layer_size, short_id};
use super::output::{json_lines, print};
use crate::cli::Format;
use crate::cli::history::HistoryArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::age::age;
use crate::human::table::Table;
use crate::settings::Settings;

/// Columns of an instruction that is cut short, as in Docker.
const INSTRUCTION_COLUMNS: usize = 45;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<DateTime>,
    created_by: String,
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    empty_layer: bool,
}

/// Runs the command.
pub(super) fn run(args: &HistoryArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let image = lookup::image(&home, &args.image)?;
    let rows = rows(&home, &image)?;
    if args.format == Format::Json {
        return print(|out| json_lines(out, &rows));
    }
    let now = settings.clock().now();
    let mut table = Table::new(["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for (index, row) in rows.iter().enumerate() {
        let id = match index {
            0 if args.no_trunc => image.config.digest.to_string(),
            0 => short_id(&image.config.digest),
            _ => "<missing>".to_owned(),
        };
        table.row([
            id,
            row.created
                .map_or_else(|| "N/A".to_owned(), |then| age(then.timestamp(), now)),
            shown_instruction(&row.created_by, args.no_trunc),
            HumanSize(row.size).to_string(),
            row.comment.clone(),
        ]);
    }
    print(|out| table.print(out))
}

/// On one line, and cut short unless it is wanted whole.
fn shown_instruction(instruction: &str, whole: bool) -> String {
    let line = instruction.split_whitespace().collect::<Vec<_>>().join(" ");
    if whole || line.chars().count() <= INSTRUCTION_COLUMNS {
        return line;
    }
    let mut short: String = line.chars().take(INSTRUCTION_COLUMNS - 1).collect();
    short.push('…');
    short
}

/// Newest first. Entries that made a layer take the image's layers in their order; layers that no
/// entry speaks of get a row of their own.
fn rows(home: &Home, image: &ImageRecord) -> Result<Vec<Row>, CliError> {
    let history = config_of(home, image)?.history;
    let mut layers = image.layers.iter();
    let mut rows = Vec::with_capacity(history.len());
    for entry in history {
        let layer = if entry.empty_layer {
            None
        } else {
            layers.next()
        };
        let size = match layer {
            Some(layer) => layer_size(home, layer)?,
            None => 0,
        };
        rows.push(row(entry, size));
    }
    for layer in layers {
        rows.push(row(HistoryEntry::default(), layer_size(home, layer)?));
    }
    rows.reverse();
    Ok(rows)
}

fn row(entry: HistoryEntry, size: u64) -> Row {
    Row {
        created: entry.created,
        created_by: entry.created_by,
        size,
        comment: entry.comment,
        empty_layer: entry.empty_layer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_shown_on_one_short_line() {
        assert_eq!(shown_instruction("RUN  a \n b", false), "RUN a b");
        let long = shown_instruction(&"é".repeat(100), false);
        assert_eq!(long.chars().count(), INSTRUCTION_COLUMNS);
        assert!(long.ends_with('…'));
        assert_eq!(shown_instruction(&"x".repeat(100), true).len(), 100);
    }
}
