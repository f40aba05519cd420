//! `cargo verify`: everything that CI runs, a step after the other, each also to be had by its name.

use std::{fs, path::Path, process::Command, time::Instant};

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

/// What takes longer, and runs only by its name.
const LONG: &[Step] = &[("crashes", crashes), ("power", power)];

/// Runs all steps, or those that are named.
pub(crate) fn run(names: &[String]) -> Result<(), String> {
    let all = || STEPS.iter().chain(LONG);
    if let Some(name) = names.iter().find(|name| all().all(|(step, _)| step != name)) {
        let steps = all().map(|(step, _)| *step).collect::<Vec<_>>().join(", ");
        return Err(format!("verify has no step `{name}`; its steps: {steps}"));
    }
    machine::install(machine::BUILD)?;
    let wanted = |name: &str| names.iter().any(|wanted| wanted == name);
    let steps = STEPS.iter().filter(|(name, _)| names.is_empty() || wanted(name));
    for (name, step) in steps.chain(LONG.iter().filter(|(name, _)| wanted(name))) {
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

/// The server, killed two hundred times in the middle of its work.
fn crashes() -> Result<(), String> {
    let test = ["test", "--locked", "-p", "ringshard", "--test", "it", "on_disk_survives_crashes", "--", "--nocapture"];
    machine::run(Command::new(machine::cargo()).args(test).env("RINGSHARD_CRASHES", "200").current_dir(machine::root()))
}

/// Ten thousand power losses in simulated lives with a journal.
fn power() -> Result<(), String> {
    let test = ["test", "--locked", "-p", "topic", "--test", "it", "power", "--", "--nocapture"];
    let mut command = Command::new(machine::cargo());
    machine::run(command.args(test).env("RINGSHARD_POWER_LOSSES", "10000").current_dir(machine::root()))
}

/// Instructions per message, counted by callgrind.
fn budgets() -> Result<(), String> {
    machine::install(machine::BUDGETS)?;
    cargo(&["run", "-q", "--release", "--locked", "-p", "perf", "--", "budgets"])
}

/// The server against clients that nobody here wrote: browsers, curl, aioquic, Python's websockets.
fn clients() -> Result<(), String> {
    machine::install(machine::CLIENTS)?;
    let what = ["--bin", "ringshard", "--example", "quantum_chat"];
    cargo(&[&["build", "--release", "--locked", "-p", "ringshard"][..], &what].concat())?;
    let folder = machine::target().join("clients");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    once(&folder.join("node_modules/ready"), NPM, || {
        fs::write(folder.join("package.json"), "{\"private\": true}\n").map_err(|error| error.to_string())?;
        let install = ["install", "--no-audit", "--no-fund", "--silent"];
        machine::run(Command::new("npm").args(install).args(NPM).current_dir(&folder))
    })?;
    let python = folder.join("venv/bin/python");
    once(&folder.join("venv/ready"), PIP, || {
        machine::run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&folder))?;
        machine::run(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(PIP).current_dir(&folder))
    })?;
    let script = machine::root().join("apps/server/tests/clients/run.py");
    machine::run(
        Command::new(&python)
            .arg(script)
            .env("RINGSHARD", machine::target().join("release/ringshard"))
            .env("QUANTUM_CHAT", machine::target().join("release/examples/quantum_chat"))
            .env("CLIENTS", &folder)
            .current_dir(&folder),
    )
}

/// Installs packages, unless the marker says that these very ones are there.
fn once(marker: &Path, packages: &[&str], install: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let wanted = packages.join("\n");
    if fs::read_to_string(marker).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    install()?;
    fs::write(marker, wanted).map_err(|error| format!("cannot write {}: {error}", marker.display()))
}

// Ones that run on the Node.js 18 of Debian 12. Playwright drives Chromium; only Puppeteer drives a Firefox as it comes.
const NPM: &[&str] = &["playwright-core@1.56.1", "puppeteer-core@24.43.1"];
const PIP: &[&str] = &["websockets==17.4", "aioquic==1.7.2", "curl_cffi==0.17.0"];
