//! The emulated link with real namespaces and devices. It needs root and TUN; without them it says so and passes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bench::link::{
    cell::{Cell, Programs},
    plan::Workload,
    row::Row,
    scenario, space, stack,
};

/// Runs the probe over a link; `None` where there can be none.
fn probe(scenario: &str, secs: f64, log: Option<PathBuf>) -> Option<Row> {
    if let Some(why) = space::obstacle() {
        eprintln!("skipped: {why}");
        return None;
    }
    let ours = Path::new(env!("CARGO_BIN_EXE_ringshard-probe")).parent().expect("a folder").to_owned();
    let cell = Cell {
        scenario: scenario::find(scenario).expect("a link"),
        stack: &stack::PROBE,
        workload: Workload::Probe,
        seed: 1,
        warmup: Duration::from_millis(100),
        window: Duration::from_secs_f64(secs),
        grace: Duration::from_millis(200),
        log,
    };
    let programs = Programs { peers: ours.clone(), ours };
    match cell.run(&programs) {
        Ok((row, _)) => Some(row),
        // A container may have root and no right to make namespaces.
        Err(error) if cfg!(not(target_os = "linux")) || !can_make_namespaces() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn can_make_namespaces() -> bool {
    let name = format!("rsl{}-9x", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).output().is_ok_and(|output| output.status.success());
    drop(Command::new("ip").args(["netns", "del", &name]).output());
    made && Path::new("/dev/net/tun").exists()
}

#[test]
fn a_clean_link_delays_and_loses_nothing_and_logs_every_packet() {
    let log = std::env::temp_dir().join(format!("ringshard-link-{}.csv", std::process::id()));
    let Some(row) = probe("L0", 0.5, Some(log.clone())) else { return };
    assert_eq!((row.planned, row.lost, row.doubled, row.damaged), (Some(500), Some(0), Some(0), 0), "{row}");
    // How exact it is depends on what else runs; that it is never early does not.
    assert!(row.way_p50_ms.is_some_and(|way| (20.0..40.0).contains(&way)), "{row}");
    let text = fs::read_to_string(&log).expect("a log");
    drop(fs::remove_file(&log));
    let arrived = text.lines().filter(|line| line.contains(",down,228,arrives,")).count();
    assert!(arrived >= 500, "{arrived} in the log");
}

#[test]
fn a_lossy_link_loses_its_part_from_the_same_seed() {
    let Some(row) = probe("L3", 0.5, None) else { return };
    let lost = row.lost.expect("a count");
    assert!((25..80).contains(&lost), "{row}");
    assert_eq!(row.doubled, Some(0));
}
