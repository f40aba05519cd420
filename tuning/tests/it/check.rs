//! Checks of the two machines against files that a person has read: set `BLESS=1` to write them anew, then read them.

use std::{env, fs, path::Path};

use tuning::{Catalogue, Finding, Profile, Report, Status, check};

use crate::machine::Machine;

/// Compares with `tests/it/golden/NAME`.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if env::var_os("BLESS").is_some() {
        fs::write(&path, text).expect("written");
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "{name} is not as known:\n{text}");
}

fn report(machine: &Machine, profile: Profile) -> Report {
    check(&machine.root(), &Catalogue::embedded().expect("the catalogue"), profile)
}

fn finding(report: &Report, id: &str) -> Finding {
    report.findings.iter().find(|finding| finding.id == id).expect("a finding").clone()
}

#[test]
fn a_small_vm_is_checked() {
    let machine = Machine::small_vm();
    golden("vm.latency.txt", &report(&machine, Profile::Latency).to_text());
    golden("vm.dense.txt", &report(&machine, Profile::Dense).to_text());
    let json = serde_json::to_string_pretty(&report(&machine, Profile::Latency)).expect("JSON") + "\n";
    golden("vm.latency.json", &json);
}

#[test]
fn a_box_with_two_sockets_is_checked() {
    let machine = Machine::two_socket();
    golden("two_socket.latency.txt", &report(&machine, Profile::Latency).to_text());
    golden("two_socket.throughput.txt", &report(&machine, Profile::Throughput).to_text());
}

#[test]
fn a_larger_value_than_wanted_is_left_alone() {
    let machine = Machine::small_vm();
    machine.put("proc/sys/net/core/somaxconn", "1000000");
    assert_eq!(finding(&report(&machine, Profile::Latency), "net.core.somaxconn").status, Status::Ok);
}

#[test]
fn every_setting_that_a_profile_wants_is_found_once_per_value_and_the_sums_add_up() {
    let catalogue = Catalogue::embedded().expect("the catalogue");
    for machine in [Machine::small_vm(), Machine::two_socket()] {
        for profile in Profile::ALL {
            let report = report(&machine, profile);
            assert_eq!(report.ok + report.drift + report.unsupported, report.findings.len());
            for setting in catalogue.settings() {
                let found = report.findings.iter().any(|finding| finding.id == setting.id);
                assert_eq!(found, setting.wanted(profile).is_some(), "{} in {profile:?}", setting.id);
            }
        }
    }
}

#[test]
fn what_is_set_as_wanted_is_no_drift_any_more() {
    let machine = Machine::small_vm();
    let catalogue = Catalogue::embedded().expect("the catalogue");
    for finding in report(&machine, Profile::Latency).findings {
        let setting = catalogue.find(&finding.id).expect("a setting");
        let value = match finding.wanted.op() {
            tuning::Op::In => finding.wanted.values().first().expect("a value").clone(),
            _ => finding.wanted.values().join("\t"),
        };
        if finding.status == Status::Drift {
            let place = finding.places.first().cloned().unwrap_or_default();
            machine.put(&setting.file().replace('*', &place), &value);
        }
    }
    let report = report(&machine, Profile::Latency);
    assert_eq!(report.drift, 0, "{}", report.to_text());
}

#[test]
fn a_value_that_is_empty_a_folder_or_outside_is_a_finding_and_no_failure() {
    let machine = Machine::small_vm();
    machine.put("proc/sys/net/core/somaxconn", "");
    fs::remove_file(machine.path().join("proc/sys/net/core/rmem_max")).expect("removed");
    machine.put("proc/sys/net/core/rmem_max/inner", "1");
    fs::remove_file(machine.path().join("proc/sys/net/core/wmem_max")).expect("removed");
    machine.link("/etc/hostname", "proc/sys/net/core/wmem_max");
    let report = report(&machine, Profile::Latency);
    for (id, reason) in [
        ("net.core.somaxconn", "has 0 values where 1 are known"),
        ("net.core.rmem_max", "cannot be read: is a directory"),
        ("net.core.wmem_max", "cannot be read: leads out of the root"),
    ] {
        assert_eq!(finding(&report, id).status, Status::Unsupported(reason.to_owned()), "{id}");
    }
}

#[test]
fn a_machine_without_any_setting_has_only_unsupported_ones_or_what_absence_stands_for() {
    let machine = Machine::small_vm();
    for folder in ["proc/sys", "sys"] {
        fs::remove_dir_all(machine.path().join(folder)).expect("removed");
        fs::create_dir(machine.path().join(folder)).expect("made");
    }
    let report = report(&machine, Profile::Latency);
    assert_eq!(report.drift, 0, "{}", report.to_text());
    assert_eq!(finding(&report, "kernel.io_uring_disabled").status, Status::Ok);
    assert!(matches!(finding(&report, "net.core.somaxconn").status, Status::Unsupported(_)));
}
