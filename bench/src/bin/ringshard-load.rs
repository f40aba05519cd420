//! `ringshard-load`: load generators for every transport, and side-by-side comparison with other servers.

use std::{error::Error, fs, path::Path, process::ExitCode};

use bench::{
    compare,
    connection::Scenario,
    durable,
    link::matrix,
    options::{Action, Command, Options},
    run, storm,
};
use clap::Parser;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Command::parse().action {
        Action::Echo(options) => scenario(Scenario::Echo, options),
        Action::Fanout(options) => scenario(Scenario::Fanout, options),
        Action::Durable(plan) => durable::durable(&plan).map_err(Into::into).and_then(|outcome| {
            eprintln!("{}", outcome.table());
            write_json(plan.json.as_deref(), &outcome).map(|()| !outcome.is_void())
        }),
        Action::Storm(plan) => storm::storm(&plan).map_err(Into::into).and_then(|outcome| {
            eprintln!("{}", outcome.summary());
            write_json(plan.json.as_deref(), &outcome).map(|()| outcome.is_good())
        }),
        Action::Idle(options) => scenario(Scenario::Idle, options),
        Action::Compare(plan) => compare::compare(&plan).map_err(Into::into).and_then(|comparison| {
            eprintln!("{}", comparison.table());
            write_json(plan.json.as_deref(), &comparison).map(|()| true)
        }),
        Action::Link(options) => matrix::one(&options).map_err(Into::into),
        Action::LinkMatrix(options) => matrix::matrix(&options).map_err(Into::into),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("ringshard-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it and prints it; false if the run does not count.
fn scenario(scenario: Scenario, options: Options) -> Result<bool, Box<dyn Error>> {
    let json = options.json.clone();
    let result = run::run(scenario, options)?.result();
    eprintln!("{}", result.summary());
    write_json(json.as_deref(), &result)?;
    Ok(!result.void)
}

fn write_json(path: Option<&Path>, value: &impl Serialize) -> Result<(), Box<dyn Error>> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(value)?;
    if path == Path::new("-") {
        println!("{text}");
    } else {
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
