//! `cargo verify`: everything that CI runs, a step after the other, each also to be had by its name.

use std::{fs, process::Command, time::Instant};

use crate::{machine, mutants};

/// A step: its name and what it does.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])),
    ("test", || cargo(&["test", "--workspace", "--locked"])),
    ("mutants", mutants::run),
    ("doc", doc),
    ("budgets", budgets),
    ("clients", clients),
];

/// Runs all steps, or those that are named.
pub(crate) fn run(names: &[String]) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        let steps = STEPS.iter().map(|(step, _)| *step).collect::<Vec<_>>().join(", ");
        return Err(format!("verify has no step `{name}`; its steps: {steps}"));
    }
    machine::install(machine::BUILD)?;
    for (name, step) in STEPS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        let start = Instant::now();
        eprintln!("verify: {name}");
        step().map_err(|why| format!("step `{name}` failed: {why}"))?;
        eprintln!("verify: {name} passed in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    machine::run(Command::new(machine::cargo()).args(arguments).current_dir(machine::root()))
}

fn doc() -> Result<(), String> {
    let mut command = Command::new(machine::cargo());
    command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings");
    machine::run(command.current_dir(machine::root()))
}

/// Instructions per message, counted by callgrind.
fn budgets() -> Result<(), String> {
    machine::install(machine::BUDGETS)?;
    cargo(&["run", "-q", "--release", "--locked", "-p", "perf", "--", "budgets"])
}

/// The server against clients that nobody here wrote: a browser, curl, Python's websockets.
fn clients() -> Result<(), String> {
    machine::install(machine::CLIENTS)?;
    cargo(&["build", "--release", "--locked", "-p", "ringshard", "--bin", "ringshard"])?;
    let folder = machine::target().join("clients");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    if !folder.join("node_modules/playwright-core").is_dir() {
        fs::write(folder.join("package.json"), "{\"private\": true}\n").map_err(|error| error.to_string())?;
        let install = ["install", "--no-audit", "--no-fund", "--silent", PLAYWRIGHT];
        machine::run(Command::new("npm").args(install).current_dir(&folder))?;
    }
    let python = folder.join("venv/bin/python");
    if !folder.join("venv/ready").is_file() {
        machine::run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&folder))?;
        machine::run(Command::new(&python).args(["-m", "pip", "install", "-q", WEBSOCKETS]).current_dir(&folder))?;
        fs::write(folder.join("venv/ready"), "").map_err(|error| error.to_string())?;
    }
    let script = machine::root().join("apps/server/tests/clients/run.py");
    machine::run(
        Command::new(&python)
            .arg(script)
            .env("RINGSHARD", machine::target().join("release/ringshard"))
            .env("CLIENTS", &folder)
            .current_dir(&folder),
    )
}

// One that runs on the Node.js 18 of Debian 12.
const PLAYWRIGHT: &str = "playwright-core@1.56.1";
const WEBSOCKETS: &str = "websockets==17.4";
