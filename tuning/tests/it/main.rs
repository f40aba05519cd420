//! The command and its library on invented machines, and on the one that the tests run on.

mod catalogue;
mod check;
mod command;
mod machine;
mod topology;
