//! `cargo verify mutants`: a crate with each of its known faults (its `src/mutant.rs`) must fail a test.

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

/// A crate with faults: its name, its folder, and the variable that chooses one.
struct Subject {
    package: &'static str,
    folder: &'static str,
    variable: &'static str,
}

const SUBJECTS: &[Subject] = &[
    Subject { package: "quantum", folder: "protocols/quantum", variable: "QUANTUM_MUTANT" },
    Subject { package: "topic", folder: "apps/topic", variable: "TOPIC_MUTANT" },
];

/// Runs the tests of each crate once with each of its faults, and says which of them found it.
pub(crate) fn run() -> Result<(), String> {
    let mut missed = Vec::new();
    for subject in SUBJECTS {
        missed.extend(run_all(subject)?);
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("no test finds {}", missed.join(", "))) }
}

/// The faults of a crate that no test finds.
fn run_all(subject: &Subject) -> Result<Vec<String>, String> {
    let path = machine::root().join(subject.folder).join("src/mutant.rs");
    let source = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let names: Vec<&str> = source.lines().filter_map(name).collect();
    if names.is_empty() {
        return Err(format!("{} names no mutant", path.display()));
    }
    machine::run(&mut tests(subject, &["--no-run"]))?;
    let mut missed = Vec::new();
    for mutant in names {
        let full = format!("{} {mutant}", subject.package);
        match found(subject, mutant)? {
            tests if tests.is_empty() => missed.push(full),
            tests => eprintln!("verify: mutant {full} is found by {}", tests.join(", ")),
        }
    }
    Ok(missed)
}

/// The name in a line such as `("no_parity", Mutant::NoParity),`.
fn name(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().strip_prefix("(\"")?.split_once('"')?;
    rest.starts_with(", Mutant::").then_some(name)
}

fn tests(subject: &Subject, arguments: &[&str]) -> Command {
    let mut command = Command::new(machine::cargo());
    command.args(["test", "-q", "-p", subject.package, "--locked", "--test", "it"]).args(arguments);
    command.current_dir(machine::root());
    command
}

/// The tests that fail with a fault.
fn found(subject: &Subject, mutant: &str) -> Result<Vec<String>, String> {
    let mut command = tests(subject, &[]);
    command.env(subject.variable, mutant).stdout(Stdio::piped()).stderr(Stdio::null());
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
