//! Everything about the whole server: its commands, its configuration, its house rules.

mod command;
mod compat;
mod config;
mod hostile;
mod messenger;
mod presence;
mod process;
mod quantum;
mod quic;
mod restart;
mod tidy;
mod tokens;
mod world;
