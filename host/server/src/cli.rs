//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app;
use crate::bundles::pull;
use crate::config::{ServeOptions, WorkerOptions};

/// Serves embedding models whose every particular step is a sandboxed WebAssembly component.
#[derive(Parser)]
#[command(name = "tenon", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models over HTTP. This is also what happens without a command.
    Serve(Box<ServeOptions>),
    /// Fetch a model, and print its folder.
    Pull {
        /// NAME or ORGANISATION/NAME on the hub.
        id: String,
    },
    /// Load a bundle or a model's folder as `serve` would, and say what was found.
    Check {
        /// A manifest or a folder.
        bundle: PathBuf,
    },
    /// Hold a device for the server that starts this.
    #[command(hide = true)]
    Worker(WorkerOptions),
}

/// The default command, for a command line without one.
#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    options: ServeOptions,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Some(Command::Serve(options)) => app::serve(&options),
        Some(Command::Pull { id }) => pull::pull(&id).map(|dir| println!("{}", dir.display())),
        Some(Command::Check { bundle }) => app::check(&bundle),
        Some(Command::Worker(options)) => app::worker(&options),
        None => app::serve(&Serve::parse_from(["tenon"]).options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
