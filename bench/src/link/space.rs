//! Two network namespaces and the two TUN devices that are all the network they have.
//!
//! The devices are made here and moved there with `ip`; their descriptors stay valid, so that the emulator needs to
//! enter no namespace. They are plain: without IFF_VNET_HDR the kernel cuts what GSO joined before it reaches the
//! emulator, and loss is loss of single packets on the wire.

use std::{
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    path::Path,
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use thiserror::Error;
use tun_rs::{DeviceBuilder, SyncDevice};

/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The client's addresses; what has the second one passes the longer way, if the link has one.
pub const CLIENT: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];
/// What all namespaces and devices of ours begin with.
const PREFIX: &str = "rsl";
/// Packets that may wait in a device until the emulator takes them: far more than any burst; a drop here voids the run.
const QUEUE_PACKETS: u32 = 16_384;
const MTU: u16 = 1_500;

/// Why there is no link.
#[derive(Debug, Error)]
pub enum LinkError {
    /// This machine or user cannot have one.
    #[error("no link on this machine: {0}")]
    Unsupported(String),
    /// A program failed.
    #[error("{command}: {message}")]
    Program {
        /// Which.
        command: String,
        /// What it said.
        message: String,
    },
    /// The kernel failed.
    #[error("{doing}: {error}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl LinkError {
    /// For `map_err`: what was tried when the kernel failed.
    pub fn kernel(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Kernel { doing, error }
    }
}

/// A network namespace, removed when dropped.
#[derive(Debug)]
pub struct Space {
    name: String,
    device: String,
}

/// Both ends: the server's and the client's.
#[derive(Debug)]
pub struct Spaces {
    /// Where the server runs.
    pub server: Space,
    /// Where the client runs.
    pub client: Space,
}

/// The emulator's ends of both devices.
pub struct Ports {
    /// To the server.
    pub server: SyncDevice,
    /// To the client.
    pub client: SyncDevice,
}

/// Why there can be no link here, if so.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        Some("making network namespaces needs root".to_owned())
    } else if !Path::new("/dev/net/tun").exists() {
        Some("/dev/net/tun is missing".to_owned())
    } else if Command::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        Some("`ip` is missing: apt-get install iproute2".to_owned())
    } else {
        None
    }
}

impl Spaces {
    /// Two new namespaces that reach each other through the ports only.
    pub fn create() -> Result<(Self, Ports), LinkError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(why) = obstacle() {
            return Err(LinkError::Unsupported(why));
        }
        sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("{PREFIX}{}-{number}{end}", process::id());
        let (server, server_port) = Space::create(name("s"), &[SERVER])?;
        let (client, client_port) = Space::create(name("c"), &CLIENT)?;
        Ok((Self { server, client }, Ports { server: server_port, client: client_port }))
    }
}

impl Space {
    fn create(name: String, addresses: &[Ipv4Addr]) -> Result<(Self, SyncDevice), LinkError> {
        let making = LinkError::kernel("making a TUN device");
        let device = DeviceBuilder::new().name(&name).mtu(MTU).offload(false).enable(false).build_sync();
        let device = device.map_err(making)?;
        device.set_nonblocking(true).map_err(LinkError::kernel("a TUN device that does not block"))?;
        ip(&["netns", "add", &name])?;
        // From here on it is removed whatever fails.
        let space = Self { device: name.clone(), name };
        ip(&["link", "set", &space.device, "netns", &space.name])?;
        let mut batch = format!("link set lo up\nlink set {} up mtu {MTU} txqueuelen {QUEUE_PACKETS}\n", space.device);
        for address in addresses {
            batch += &format!("addr add {address}/16 dev {}\n", space.device);
        }
        space.set("net/ipv6/conf/all/disable_ipv6", "1")?;
        space.batch(&batch)?;
        Ok((space, device))
    }

    /// The beginning of a command that runs a program in here, on one core. `ip` and `taskset` become the program.
    #[must_use]
    pub fn command(&self, cpu: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "taskset", "-c", &cpu.to_string()]).stdin(Stdio::null());
        command
    }

    /// Sets a kernel parameter of this namespace, such as `net/ipv4/tcp_mtu_probing`, if the kernel has it.
    pub fn set(&self, key: &str, value: &str) -> Result<(), LinkError> {
        let script = format!("f=/proc/sys/{key}; [ ! -e $f ] || echo {value} > $f");
        run(Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", &script]))
    }

    /// Packets that the device dropped because the emulator did not take them.
    pub fn dropped(&self) -> Result<u64, LinkError> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name, "cat"])
            .arg(format!("/sys/class/net/{}/statistics/tx_dropped", self.device));
        let output = command.output().map_err(LinkError::kernel("reading a device's counters"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0))
    }

    fn batch(&self, lines: &str) -> Result<(), LinkError> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(LinkError::kernel("ip -batch"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes()).map_err(LinkError::kernel("ip -batch"))?;
        }
        let output = child.wait_with_output().map_err(LinkError::kernel("ip -batch"))?;
        success(&command, &output)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // A namespace that cannot be removed now is swept by a later run.
        drop(ip(&["netns", "del", &self.name]));
    }
}

/// Removes what runs that were killed left behind.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(ip(&["netns", "del", &name]));
        }
    }
}

fn ip(args: &[&str]) -> Result<(), LinkError> {
    run(Command::new("ip").args(args))
}

fn run(command: &mut Command) -> Result<(), LinkError> {
    let output = command.stdin(Stdio::null()).output().map_err(LinkError::kernel("starting `ip`"))?;
    success(command, &output)
}

fn success(command: &Command, output: &process::Output) -> Result<(), LinkError> {
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LinkError::Program { command: format!("{command:?}"), message })
}
