//! Everything about the whole server: its commands, its configuration, its house rules.

mod command;
mod config;
mod tidy;
mod world;
