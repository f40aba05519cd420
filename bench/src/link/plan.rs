//! What one run on a link is: who talks, what is said, and when it counts. Read from the same flags by every program.

use std::{net::SocketAddr, str::FromStr};

/// Bytes of one message.
pub const MESSAGE_BYTES: usize = 200;
/// Messages per second of a canvas.
const CANVAS_RATE: u64 = 500;
/// Datagrams per second with which a link tests itself.
const PROBE_RATE: u64 = 1_000;
/// Messages per second of a game, each way.
const GAME_RATE: u64 = 60;

/// Which end of a connection a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Listens.
    Server,
    /// Connects.
    Client,
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// 500 independent messages per second to the client.
    Canvas,
    /// The same on one ordered stream.
    Ordered,
    /// 60 independent messages per second, both ways.
    Game,
    /// As many bytes as fit, to the client.
    Bulk,
    /// Bulk and game at once; on one connection where the transport can keep them apart.
    Mixed,
    /// 1,000 plain datagrams per second to the client, with which a link tests itself.
    Probe,
}

/// The whole plan of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which end this is.
    pub side: Side,
    /// Where to listen, or whom to connect to.
    pub addr: SocketAddr,
    /// The client's own addresses, used in turn; port 0. Empty: the kernel's choice.
    pub bind: Vec<SocketAddr>,
    /// The kind of transport: a congestion controller or a preset, as the program understands it.
    pub variant: String,
    /// What is said on each connection.
    pub workload: Workload,
    /// Connections.
    pub connections: u32,
    /// Messages that are planned, and bytes that arrive, from here on count (CLOCK_MONOTONIC).
    pub from_ns: u64,
    /// Up to here.
    pub to_ns: u64,
    /// When the program ends and reports.
    pub end_ns: u64,
}

impl Workload {
    /// All of them with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("canvas", Self::Canvas),
        ("ordered", Self::Ordered),
        ("game", Self::Game),
        ("bulk", Self::Bulk),
        ("mixed", Self::Mixed),
        ("probe", Self::Probe),
    ];

    /// Messages per second that this side sends on each connection.
    #[must_use]
    pub fn rate(self, side: Side) -> Option<u64> {
        match (self, side) {
            (Self::Canvas | Self::Ordered, Side::Server) => Some(CANVAS_RATE),
            (Self::Game | Self::Mixed, _) => Some(GAME_RATE),
            (Self::Probe, Side::Server) => Some(PROBE_RATE),
            _ => None,
        }
    }

    /// Whether there are messages at all.
    #[must_use]
    pub fn has_messages(self) -> bool {
        self != Self::Bulk
    }

    /// Whether there are bulk bytes, to the client.
    #[must_use]
    pub fn has_bulk(self) -> bool {
        matches!(self, Self::Bulk | Self::Mixed)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, workload)| *workload == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known.map(|(_, workload)| *workload).ok_or_else(|| format!("no workload is called `{text}`"))
    }
}

impl Plan {
    /// Reads `server|client ADDR --workload NAME --variant NAME --connections N --from-ns N --to-ns N --end-ns N`, and
    /// `--bind IP,IP`.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let side = match args.next().as_deref() {
            Some("server") => Side::Server,
            Some("client") => Side::Client,
            _ => return Err("write server ADDR or client ADDR first".to_owned()),
        };
        let addr = parse("the address", args.next())?;
        let mut plan = Self {
            side,
            addr,
            bind: Vec::new(),
            variant: String::new(),
            workload: Workload::Canvas,
            connections: 1,
            from_ns: 0,
            to_ns: 0,
            end_ns: 0,
        };
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--workload" => plan.workload = parse(&flag, args.next())?,
                "--variant" => plan.variant = parse(&flag, args.next())?,
                "--connections" => plan.connections = parse(&flag, args.next())?,
                "--from-ns" => plan.from_ns = parse(&flag, args.next())?,
                "--to-ns" => plan.to_ns = parse(&flag, args.next())?,
                "--end-ns" => plan.end_ns = parse(&flag, args.next())?,
                "--bind" => {
                    let list: String = parse(&flag, args.next())?;
                    let addr = |ip: &str| Ok(SocketAddr::new(parse(&flag, Some(ip.to_owned()))?, 0));
                    plan.bind = list.split(',').map(addr).collect::<Result<_, String>>()?;
                }
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        if plan.from_ns < plan.to_ns && plan.to_ns <= plan.end_ns {
            Ok(plan)
        } else {
            Err("--from-ns, --to-ns and --end-ns must follow each other".to_owned())
        }
    }

    /// The flags that [`Plan::read`] reads.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let side = if self.side == Side::Server { "server" } else { "client" };
        let mut args = vec![side.to_owned(), self.addr.to_string()];
        let flags = [
            ("--workload", self.workload.name().to_owned()),
            ("--variant", self.variant.clone()),
            ("--connections", self.connections.to_string()),
            ("--from-ns", self.from_ns.to_string()),
            ("--to-ns", self.to_ns.to_string()),
            ("--end-ns", self.end_ns.to_string()),
        ];
        args.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        if !self.bind.is_empty() {
            let list: Vec<_> = self.bind.iter().map(|addr| addr.ip().to_string()).collect();
            args.extend(["--bind".to_owned(), list.join(",")]);
        }
        args
    }

    /// The local address of a client's connection.
    #[must_use]
    pub fn local(&self, connection: u32) -> SocketAddr {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        if self.bind.is_empty() { any } else { self.bind[connection as usize % self.bind.len()] }
    }
}

fn parse<T: FromStr>(flag: &str, text: Option<String>) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("{flag} needs a value"))?;
    text.parse().map_err(|_| format!("{flag} cannot be `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_they_are_read() {
        let plan = Plan {
            side: Side::Client,
            addr: "10.0.0.1:7".parse().expect("an address"),
            bind: vec!["10.0.0.2:0".parse().expect("an address"), "10.0.0.3:0".parse().expect("an address")],
            variant: "bbr".to_owned(),
            workload: Workload::Mixed,
            connections: 4,
            from_ns: 5,
            to_ns: 6,
            end_ns: 7,
        };
        assert_eq!(Plan::read(plan.to_args().into_iter()), Ok(plan.clone()));
        assert_eq!((plan.local(1).ip(), plan.local(2).ip()), (plan.bind[1].ip(), plan.bind[0].ip()));
        assert!(Plan::read(["server", "x"].map(str::to_owned).into_iter()).is_err());
        assert!(Plan::read(std::iter::empty()).is_err());
    }

    #[test]
    fn who_sends_what_is_fixed_by_the_workload() {
        assert_eq!(Workload::Canvas.rate(Side::Server), Some(500));
        assert_eq!(Workload::Canvas.rate(Side::Client), None);
        assert_eq!(Workload::Mixed.rate(Side::Client), Some(60));
        assert_eq!(Workload::Bulk.rate(Side::Server), None);
        assert!(Workload::Mixed.has_bulk() && !Workload::Bulk.has_messages());
    }
}
