//! `ringshard probe`: whether this machine can run the server, and if not, what exactly is in the way.

use std::{fmt::Write, process::ExitCode};

use engine::{Finding, Probe, Verdict};

use crate::command;

/// Looks and prints what was found; exit code 1 when something blocks.
#[must_use]
pub fn run() -> ExitCode {
    let probe = engine::probe();
    let printed = command::print(&report(&probe));
    if probe.verdict() == Verdict::Blocked { ExitCode::FAILURE } else { printed }
}

/// A line per finding, and one that sums up.
fn report(probe: &Probe) -> String {
    let mut out: String = probe.findings.iter().map(line).collect();
    let blockers: Vec<&str> = probe.blockers().map(|finding| finding.name).collect();
    let sum = match (probe.verdict(), blockers.join(", ")) {
        (Verdict::Ok, _) => "this machine can run ringshard".to_owned(),
        (Verdict::Degraded, _) => "this machine can run ringshard, but not at its best".to_owned(),
        (Verdict::Blocked, names) => format!("this machine cannot run ringshard because of: {names}"),
    };
    let _ = writeln!(out, "{sum}");
    out
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok      ",
        Verdict::Degraded => "degraded",
        Verdict::Blocked => "BLOCKED ",
    };
    let remedy = finding.remedy.as_ref().map_or(String::new(), |remedy| format!("; {remedy}"));
    format!("{verdict}  {}: {}{remedy}\n", finding.name, finding.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &'static str, verdict: Verdict, remedy: Option<&str>) -> Finding {
        Finding { name, verdict, found: "5.4".into(), remedy: remedy.map(str::to_owned) }
    }

    #[test]
    fn the_blocker_is_named_with_its_remedy() {
        let blocked = finding("kernel", Verdict::Blocked, Some("run Linux 5.19 or newer"));
        let text = report(&Probe { findings: vec![finding("cores", Verdict::Ok, None), blocked] });
        let expected = "ok        cores: 5.4\nBLOCKED   kernel: 5.4; run Linux 5.19 or newer\n\
                        this machine cannot run ringshard because of: kernel\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_only_slows_down_does_not_block() {
        let text = report(&Probe { findings: vec![finding("locked memory", Verdict::Degraded, Some("raise it"))] });
        assert!(text.ends_with("can run ringshard, but not at its best\n"), "{text}");
    }
}
