//! `cargo perf`: instructions per message, counted by callgrind and held against `perf/budgets.toml`.

mod budget;
mod durable;
mod http3;
mod operation;
mod quantum;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Instruction budgets: exact, whatever else the machine is doing.
#[derive(Parser)]
#[command(name = "perf", version)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Count the instructions of every operation and fail when one is over its budget by more than 2 %.
    Budgets {
        /// Write what was counted as the new budgets; the commit that does so says why.
        #[arg(long)]
        update: bool,
        /// Only operations whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// List the operations.
    List,
    /// Run one operation COUNT times, as callgrind is told to.
    #[command(hide = true)]
    Run { name: String, count: u64 },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Budgets { update, only } => budget::check(update, &only),
        Chore::List => {
            operation::ALL.iter().for_each(|operation| println!("{}", operation.name));
            Ok(())
        }
        Chore::Run { name, count } => operation::run(&name, count),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("perf: {why}");
            ExitCode::FAILURE
        }
    }
}
