//! The command line: its commands, their flags, and the words of `--help`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::config::Sources;

/// Ringshard: one ring per core, nothing shared. Chat, topics and sessions over TCP, TLS, HTTP and WebSocket.
#[derive(Parser, Debug)]
#[command(name = "ringshard", version, max_term_width = 100)]
pub struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary does.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the server. stdout gets a line per listener, then `ready`; logs go to stderr. SIGTERM drains, a second one
    /// stops at once, SIGHUP reads certificates and the log level again.
    Serve(ConfigFlags),
    /// Print the effective configuration as TOML with a comment on every key, or check a file.
    Config {
        /// Check this file and nothing else: `ok`, or `FILE:LINE: key: reason` for all that is wrong and exit code 1.
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
        /// The same flags as of `serve`.
        #[command(flatten)]
        flags: ConfigFlags,
    },
    /// Print a token, signed with the secret of the configuration or of the data directory.
    Token(TokenFlags),
    /// Look into the journals of a data directory that no server uses.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Say whether this machine can run the server: kernel, io_uring, limits; names what blocks it.
    Probe,
}

/// What is done with journals.
#[derive(Subcommand, Debug)]
pub enum JournalCommand {
    /// Print what is in the journals: segments, topics with their offsets, facts; with --records every record, as JSON
    /// lines.
    Inspect {
        /// The data directory.
        #[arg(value_name = "DIR")]
        data: PathBuf,
        /// Print every record.
        #[arg(long)]
        records: bool,
        /// Print nothing but this topic.
        #[arg(long, value_name = "NAME")]
        topic: Option<String>,
        /// Look although a server uses the directory: what it writes meanwhile may be missing, and a file that it removes
        /// meanwhile is reported as missing.
        #[arg(long)]
        running: bool,
    },
    /// Check every byte: `ok` and what there is, or all that is wrong and exit code 1. Nothing is changed.
    Verify {
        /// The data directory.
        #[arg(value_name = "DIR")]
        data: PathBuf,
        /// Look although a server uses the directory: what it writes meanwhile may be missing, and a file that it removes
        /// meanwhile is reported as missing.
        #[arg(long)]
        running: bool,
    },
}

/// The flags that set a part of the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFlags {
    /// The configuration file, TOML. `ringshard config` prints one with all keys.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Shards, each one thread on one core; 0: one per physical core.
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// The directory for accounts, secret and self-made certificate.
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// The address of the plain listener: HTTP, WebSocket and framed TCP.
    #[arg(long, value_name = "ADDR")]
    pub plain: Option<String>,
    /// The address of the secure listener: the same with TLS, and UDP.
    #[arg(long, value_name = "ADDR")]
    pub secure: Option<String>,
    /// The address of the admin listener: health, metrics, shards.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// The flags of `ringshard token`.
#[derive(Args, Clone, Debug)]
pub struct TokenFlags {
    /// The user that the token is for.
    #[arg(long, value_name = "NAME")]
    pub sub: String,
    /// How long it is valid, as `1h` or `30m`; default: auth.token_ttl.
    #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
    pub ttl: Option<Duration>,
    /// A capability that the token carries; may be given more than once.
    #[arg(long = "cap", value_name = "CAP")]
    pub caps: Vec<String>,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
}

impl ConfigFlags {
    /// The sources of the configuration: these flags, the environment, the file.
    #[must_use]
    pub fn sources(&self, environment: impl Iterator<Item = (OsString, OsString)>) -> Sources {
        let flags = [
            ("--shards", "server.shards", &self.shards),
            ("--data", "server.data", &self.data),
            ("--plain", "listen.plain", &self.plain),
            ("--secure", "listen.secure", &self.secure),
            ("--admin", "listen.admin", &self.admin),
        ];
        Sources {
            file: self.config.clone(),
            environment: ours(environment),
            flags: flags.into_iter().filter_map(|(flag, path, value)| Some((flag, path, value.clone()?))).collect(),
        }
    }
}

impl TokenFlags {
    /// The sources of the configuration.
    #[must_use]
    pub fn sources(&self, environment: impl Iterator<Item = (OsString, OsString)>) -> Sources {
        let flags = ConfigFlags { config: self.config.clone(), data: self.data.clone(), ..ConfigFlags::default() };
        flags.sources(environment)
    }
}

/// The variables of the environment that are about us.
fn ours(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    environment
        .map(|(name, value)| (text(name), text(value)))
        .filter(|(name, _)| name.starts_with("RINGSHARD_"))
        .collect()
}
