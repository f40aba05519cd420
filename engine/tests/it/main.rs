//! The engine on a real kernel: sockets on loopback, real threads, real files.

mod world;
mod tcp;
mod connect;
mod cores;
mod disk;
mod mailbox;
mod runtime;
mod udp;
