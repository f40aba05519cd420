//! The binary `ringshard`.

use std::{env, process::ExitCode};

use clap::Parser;
use ringshard::{
    command,
    flags::{Command, Flags, JournalCommand},
    inspect, probe, serve, token,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Flags::parse().command {
        Command::Serve(flags) => match serve::run(&flags.sources(env::vars_os())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => command::fail(&error),
        },
        Command::Config { check: Some(path), .. } => command::check(&path),
        Command::Config { check: None, flags } => command::config(&flags),
        Command::Token(flags) => match token::run(&flags) {
            Ok(token) => command::print(&format!("{token}\n")),
            Err(error) => command::fail(&error),
        },
        Command::Journal(JournalCommand::Inspect { data, records, topic, running }) => {
            inspect::inspect((&data, running), records, topic.as_deref())
        }
        Command::Journal(JournalCommand::Verify { data, running }) => inspect::verify((&data, running)),
        Command::Probe => probe::run(),
    }
}
