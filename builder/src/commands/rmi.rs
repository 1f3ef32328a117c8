//! `ashlar rmi`.

use std::io::Write as _;

use ashlar_model::reference::Reference;

use super::lookup::{Found, find, no_such_image};
use super::output::print;
use crate::cli::rmi::RmiArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;

/// Runs the command. All names are found before the first is taken away, so that a mistake in one
/// of them changes nothing.
pub(super) fn run(args: &RmiArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let mut names: Vec<Reference> = Vec::new();
    for text in &args.images {
        match find(&home, text)? {
            Some(Found::ByName(image)) => names.push(image.reference),
            Some(Found::ById(images)) if images.len() > 1 && !args.force => {
                let all: Vec<String> = images.iter().map(|i| i.reference.familiar()).collect();
                return Err(CliError::failed(format!(
                    "image `{text}` has {} names: {}",
                    all.len(),
                    all.join(", ")
                ))
                .hint("give the names to take away, or --force to take all away"));
            }
            Some(Found::ById(images)) => {
                names.extend(images.into_iter().map(|image| image.reference));
            }
            None if args.force => {}
            None => return Err(no_such_image(text)),
        }
    }
    let mut removed = Vec::with_capacity(names.len());
    for name in names {
        if home.remove_image(&name)? {
            removed.push(name);
        }
    }
    print(|out| {
        removed
            .iter()
            .try_for_each(|name| writeln!(out, "Untagged: {}", name.familiar()))
    })
}
