//! The binary `federationd`.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use federation_daemon::cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                // A message for an operator may have its cause in it already.
                let cause = error.to_string();
                if !text.contains(&cause) {
                    text = format!("{text}: {cause}");
                }
                source = error.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}
