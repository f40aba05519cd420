//! The chores: `cargo serve` builds and runs the server, `cargo verify` is everything that CI runs.

mod machine;
mod mutants;
mod verify;

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let chore = arguments.next();
    // `cargo serve -- --shards 2` and `cargo serve --shards 2` mean the same.
    let rest: Vec<String> = arguments.skip_while(|argument| argument == "--").collect();
    let outcome = match chore.as_deref() {
        Some("serve") => serve(&rest),
        Some("verify") => verify::run(&rest),
        Some(other) => Err(format!("there is no chore `{other}`; {CHORES}")),
        None => Err(CHORES.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the server in release and becomes it, so that signals reach the server and nothing else.
fn serve(arguments: &[String]) -> Result<(), String> {
    machine::install(machine::BUILD)?;
    let cargo = machine::cargo();
    machine::run(Command::new(&cargo).args(["build", "--release", "-p", "ringshard", "--bin", "ringshard"]))?;
    let server = machine::target().join("release/ringshard");
    let error = Command::new(&server).arg("serve").args(arguments).exec();
    Err(format!("cannot start {}: {error}", server.display()))
}

const CHORES: &str = "chores: serve [flags of `ringshard serve`], verify [step ...]";
