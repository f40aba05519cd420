//! What must hold for any bytes that a peer sends: shared by the fuzz targets and the replay of their corpora.

#![allow(dead_code, reason = "a target runs one of them, the replay all")]

#[path = "check/datagram.rs"]
mod datagram;
#[path = "check/h3.rs"]
mod h3;

/// What a target runs on its input.
pub(crate) type Check = fn(&[u8]);

/// All targets: the name of each is that of its corpus.
pub(crate) const TARGETS: &[(&str, Check)] = &[
    ("datagram", datagram::datagram),
    ("frames", h3::frames),
    ("qpack", h3::qpack),
    ("capsules", h3::capsules),
    ("streams", h3::streams),
];

/// Runs the target of that name.
///
/// # Panics
/// When what must hold does not, or there is no such target.
pub(crate) fn run(name: &str, data: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    check(data);
}
