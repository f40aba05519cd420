//! The command `ringshard-tune`: says what this machine is and what a shard would want of it. It changes nothing.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum, value_parser};
use serde::Serialize;
use tuning::{Catalogue, CpuList, Error, Profile, Root, SECS_MAX, Topology};

/// Reads this machine's tuning; changes nothing.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// CPUs, cores, NUMA nodes, network queues and interrupts, and where shards would sit
    Topology {
        /// A folder that stands for the machine
        #[arg(long, default_value = "/")]
        root: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Holds the machine's settings against a profile: exit 0 as wanted, 1 drift, 2 error
    Check {
        /// What the machine is for
        #[arg(long, value_enum, default_value = "latency")]
        profile: ProfileName,
        /// A folder that stands for the machine
        #[arg(long, default_value = "/")]
        root: PathBuf,
        /// How to answer
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// A setting in full: what each profile wants, why, at what risk, who says so
    Explain {
        /// The setting, such as net.core.somaxconn
        id: String,
    },
    /// Spins on CPUs and reports for how long they were taken away
    Jitter {
        /// How long
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..=SECS_MAX))]
        secs: u64,
        /// Which CPUs, such as 0-3,8 (default: all that this process may use)
        #[arg(long)]
        cpus: Option<CpuList>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileName {
    Latency,
    Throughput,
    Dense,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::Latency => Self::Latency,
            ProfileName::Throughput => Self::Throughput,
            ProfileName::Dense => Self::Dense,
        }
    }
}

/// Not as wanted.
const DRIFT: u8 = 1;
/// No answer; clap exits with the same on a wrong argument.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringshard-tune: {error}");
            ExitCode::from(FAILURE)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Topology { root, json } => {
            let topology = Topology::read(&Root::open(&root)?);
            print(&if json { to_json(&topology)? } else { topology.to_text() })?;
        }
        Command::Check { profile, root, format } => return check(profile.into(), &root, format),
        Command::Explain { id } => print(&tuning::explain(Catalogue::embedded()?.find(&id)?))?,
        Command::Jitter { secs, cpus, json } => {
            let root = Root::open(Path::new("/"))?;
            let usable = || engine::Cores::detect().cpus.iter().map(|cpu| cpu.id).collect();
            let jitter = tuning::jitter(&root, secs, &cpus.unwrap_or_else(usable))?;
            print(&if json { to_json(&jitter)? } else { jitter.to_text() })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(profile: Profile, root: &Path, format: Format) -> Result<ExitCode, Error> {
    let report = tuning::check(&Root::open(root)?, &Catalogue::embedded()?, profile);
    print(&match format {
        Format::Table => report.to_text(),
        Format::Json => to_json(&report)?,
    })?;
    Ok(if report.drift == 0 { ExitCode::SUCCESS } else { ExitCode::from(DRIFT) })
}

fn to_json(answer: &impl Serialize) -> Result<String, Error> {
    Ok(serde_json::to_string_pretty(answer)? + "\n")
}

// A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<(), Error> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}
