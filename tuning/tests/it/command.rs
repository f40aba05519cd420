//! The binary itself: what it prints and how it exits.

use std::process::{Command, Output};

use serde_json::Value;

use crate::machine::Machine;

fn tune(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringshard-tune")).args(arguments).output().expect("it runs")
}

fn on(machine: &Machine, arguments: &[&str]) -> Output {
    let root = machine.path().to_str().expect("a path");
    tune(&[arguments, &["--root", root]].concat())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn check_exits_with_1_on_drift_and_0_without() {
    let machine = Machine::small_vm();
    let output = on(&machine, &["check", "--profile", "dense", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    assert_eq!(report["profile"], "dense");
    let drifted: Vec<&Value> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter(|finding| finding["status"] == "drift")
        .collect();
    assert_eq!(drifted.len() as u64, report["drift"].as_u64().expect("a number"));
    for folder in ["proc/sys", "sys/kernel", "sys/block", "sys/devices/system/clocksource"] {
        std::fs::remove_dir_all(machine.path().join(folder)).expect("removed");
    }
    let output = on(&machine, &["check", "--profile", "dense"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_cannot_be_answered_exits_with_2_and_says_why() {
    for (arguments, reason) in [
        (&["check", "--root", "/nowhere/at/all"][..], "/nowhere/at/all"),
        (&["check", "--root", "/etc"], "no machine's root"),
        (&["check", "--profile", "fast"], "latency"),
        (&["topology", "--root", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["explain", "net.core.somaxcon"], "did you mean `net.core.somaxconn`?"),
        (&["explain"], "<ID>"),
        (&["jitter", "--secs", "0"], "1..=3600"),
        (&["jitter", "--cpus", "3-1"], "is not a list of CPUs"),
        (&["jitter", "--secs", "1", "--cpus", "8000"], "CPU 8000 cannot be measured"),
        (&["apply"], "unrecognized subcommand"),
    ] {
        let output = tune(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn topology_and_explain_answer() {
    let machine = Machine::two_socket();
    let output = on(&machine, &["topology", "--json"]);
    assert_eq!((output.status.code(), json(&output)["shards"].as_u64()), (Some(0), Some(8)));
    let output = tune(&["explain", "kernel.io_uring_disabled"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("/proc/sys/kernel/io_uring_disabled"));
}

#[test]
fn this_machine_is_described_checked_and_left_as_it_is() {
    assert_eq!(tune(&["topology"]).status.code(), Some(0));
    let output = tune(&["check", "--format", "json"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(json(&output)["findings"].as_array().expect("findings").len() > 20);
}

#[test]
fn jitter_spins_and_counts() {
    let cpu = engine::Cores::detect().cpus[0].id;
    let output = tune(&["jitter", "--secs", "1", "--cpus", &cpu.to_string(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = json(&output);
    let row = &answer["cpus"][0];
    assert_eq!(row["cpu"].as_u64(), Some(cpu as u64));
    assert!(row["laps"].as_u64().expect("laps") > 1_000, "{row}");
    let decades = row["decades"].as_array().expect("decades").iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(row["gaps"].as_u64(), Some(decades));
    assert!(row["involuntary_switches"].is_u64() && row["steal_ms"].is_u64(), "{row}");
}
