//! The engine on a real kernel: sockets on loopback, real threads, real files.

mod connect;
mod cores;
mod disk;
mod mailbox;
mod reuse;
mod runtime;
mod tcp;
mod udp;
mod world;
