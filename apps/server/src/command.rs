//! The commands that are not the server: each prints what it found and ends.

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use crate::{
    config::{self, Loaded, Problems},
    flags::ConfigFlags,
};

/// The exit code for a configuration that is wrong; a wrong command line gives 2.
const FAILED: u8 = 1;

/// The configuration that flags, environment and file give together.
///
/// # Errors
/// All that is wrong with it.
pub fn load(flags: &ConfigFlags) -> Result<Loaded, Problems> {
    flags.sources(env::vars_os()).load()
}

/// `ringshard config`: prints the configuration in effect.
#[must_use]
pub fn config(flags: &ConfigFlags) -> ExitCode {
    match load(flags) {
        Ok(loaded) => print(&config::print(&loaded)),
        Err(problems) => fail(&problems),
    }
}

/// `ringshard config --check FILE`: prints `ok` or all that is wrong, on stdout because it is what was asked for.
#[must_use]
pub fn check(path: &Path) -> ExitCode {
    match config::check(path) {
        Ok(_) => print("ok\n"),
        Err(problems) => {
            let _ = print(&format!("{problems}\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// Says on stderr why a command failed, a line each.
pub fn fail(error: &dyn std::error::Error) -> ExitCode {
    let text = error.to_string();
    let lines: Vec<String> = text.lines().map(|line| format!("ringshard: {line}\n")).collect();
    // Nobody is left to hear that stderr is closed.
    let _ = io::stderr().write_all(lines.concat().as_bytes());
    ExitCode::from(FAILED)
}

/// Prints to stdout. A reader that left early, as `head` does, is no error.
#[must_use]
pub fn print(text: &str) -> ExitCode {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error),
        _ => ExitCode::SUCCESS,
    }
}
