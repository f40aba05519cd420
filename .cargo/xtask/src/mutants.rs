//! `cargo verify mutants`: Quantum with each of its known faults (`protocols/quantum/src/mutant.rs`) must fail a test.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::machine;

/// What does not end by then was found too: nothing in these tests takes long without a fault.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the tests once with each fault, and says which of them found it.
pub(crate) fn run() -> Result<(), String> {
    let source = machine::root().join("protocols/quantum/src/mutant.rs");
    let source = fs::read_to_string(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    let names: Vec<&str> = source.lines().filter_map(name).collect();
    machine::run(&mut tests(&["--no-run"]))?;
    let mut missed = Vec::new();
    for mutant in &names {
        match found(mutant)? {
            tests if tests.is_empty() => missed.push(*mutant),
            tests => eprintln!("verify: mutant {mutant} is found by {}", tests.join(", ")),
        }
    }
    match (names.len(), missed.is_empty()) {
        (0, _) => Err("mutant.rs names none".to_owned()),
        (_, true) => Ok(()),
        _ => Err(format!("no test finds {}", missed.join(", "))),
    }
}

/// The name in a line such as `("no_parity", Mutant::NoParity),`.
fn name(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().strip_prefix("(\"")?.split_once('"')?;
    rest.starts_with(", Mutant::").then_some(name)
}

fn tests(arguments: &[&str]) -> Command {
    let mut command = Command::new(machine::cargo());
    command.args(["test", "-q", "-p", "quantum", "--locked", "--test", "it"]).args(arguments);
    command.current_dir(machine::root());
    command
}

/// The tests that fail with a fault.
fn found(mutant: &str) -> Result<Vec<String>, String> {
    let mut command = tests(&[]);
    command.env("QUANTUM_MUTANT", mutant).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let start = Instant::now();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().map_err(|error| error.to_string())?;
            return Ok(vec!["a test that did not end".to_owned()]);
        }
        thread::sleep(Duration::from_millis(100));
    }
    let bytes = reader.join().map_err(|_| "no output")?.map_err(|error| error.to_string())?;
    let output = String::from_utf8_lossy(&bytes);
    let headings = output.lines().filter_map(|line| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"));
    Ok(headings.map(str::to_owned).collect())
}
