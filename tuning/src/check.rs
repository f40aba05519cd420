//! A machine held against a profile: what it has, what is wanted, and where the two differ.

use serde::Serialize;

use crate::{Catalogue, Op, Profile, Reading, Root, Setting, Table, Wanted, read};

/// How a setting stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "status", content = "reason", rename_all = "lowercase")]
pub enum Status {
    /// As wanted, or better where better exists.
    Ok,
    /// Not as wanted.
    Drift,
    /// This machine has no such setting, or not the wanted value; with the reason.
    Unsupported(String),
}

/// One setting on one machine; devices that have the same value share a finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The setting.
    pub id: String,
    /// The devices, where the setting is one of many.
    pub places: Vec<String>,
    /// How it stands.
    #[serde(flatten)]
    pub status: Status,
    /// What the machine has.
    pub current: Option<String>,
    /// What the profile wants.
    pub wanted: Wanted,
    /// Why.
    pub why: String,
    /// What a change would cost or endanger.
    pub risk: String,
}

/// All findings for a profile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The profile.
    pub profile: Profile,
    /// How many findings are as wanted.
    pub ok: usize,
    /// How many are not.
    pub drift: usize,
    /// How many cannot be.
    pub unsupported: usize,
    /// In the order of the catalogue.
    pub findings: Vec<Finding>,
}

/// Holds the machine below `root` against a profile. Reads only.
#[must_use]
pub fn check(root: &Root, catalogue: &Catalogue, profile: Profile) -> Report {
    let wishes = catalogue.settings().iter().filter_map(|setting| Some((setting, setting.wanted(profile)?)));
    let findings: Vec<Finding> = wishes.flat_map(|(setting, wanted)| find(root, setting, wanted)).collect();
    let count = |holds: fn(&Status) -> bool| findings.iter().filter(|finding| holds(&finding.status)).count();
    Report {
        profile,
        ok: count(|status| *status == Status::Ok),
        drift: count(|status| *status == Status::Drift),
        unsupported: count(|status| matches!(status, Status::Unsupported(_))),
        findings,
    }
}

fn find(root: &Root, setting: &Setting, wanted: &Wanted) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for reading in read(root, setting) {
        let status = judge(&reading, wanted);
        let current = reading.value.ok();
        let place = Some(reading.place).filter(|place| !place.is_empty());
        match findings.iter_mut().find(|finding| finding.status == status && finding.current == current) {
            Some(finding) => finding.places.extend(place),
            None => findings.push(Finding {
                id: setting.id.clone(),
                places: place.into_iter().collect(),
                status,
                current,
                wanted: wanted.clone(),
                why: setting.why.clone(),
                risk: setting.risk.clone(),
            }),
        }
    }
    findings
}

fn judge(reading: &Reading, wanted: &Wanted) -> Status {
    let met = reading.value.as_ref().map_err(Clone::clone).and_then(|current| wanted.is_met_by(current));
    match met {
        Ok(true) => Status::Ok,
        Ok(false) => match &reading.offered {
            Some(offered) if is_a_choice(wanted) && !wanted.values().iter().any(|value| offered.contains(value)) => {
                Status::Unsupported(format!("the kernel offers only {}", offered.join(", ")))
            }
            _ => Status::Drift,
        },
        Err(reason) => Status::Unsupported(reason),
    }
}

fn is_a_choice(wanted: &Wanted) -> bool {
    match wanted.op() {
        Op::Equal | Op::In => true,
        Op::AtLeast | Op::AtMost => false,
    }
}

impl Report {
    /// For people: a line each, reasons below what is not as wanted, and the sum.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut table = Table::new(["STATUS", "SETTING", "CURRENT", "WANTED"]);
        for finding in &self.findings {
            let (status, note) = match &finding.status {
                Status::Ok => ("ok", None),
                Status::Drift => ("drift", Some(&finding.why)),
                Status::Unsupported(reason) => ("unsupported", Some(reason)),
            };
            let current = finding.current.clone().unwrap_or_else(|| "-".to_owned());
            table.row([status.to_owned(), named(finding), current, finding.wanted.to_string()]);
            if let Some(note) = note {
                table.note(note);
            }
        }
        let Self { ok, drift, unsupported, .. } = self;
        format!("{table}\nprofile {}: {ok} ok, {drift} drift, {unsupported} unsupported\n", self.profile.name())
    }
}

/// Devices named one by one in a table; the JSON has them all.
const PLACES_SHOWN: usize = 3;

fn named(finding: &Finding) -> String {
    let (shown, more) = finding.places.split_at(finding.places.len().min(PLACES_SHOWN));
    match (shown, more) {
        ([], _) => finding.id.clone(),
        (shown, []) => format!("{} ({})", finding.id, shown.join(" ")),
        (shown, more) => format!("{} ({} +{})", finding.id, shown.join(" "), more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(value: Result<&str, &str>, offered: Option<&[&str]>, wanted: &str) -> Status {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let reading = Reading {
            place: String::new(),
            value: value.map(str::to_owned).map_err(str::to_owned),
            offered: offered.map(owned),
        };
        judge(&reading, &wanted.parse().expect("a wish"))
    }

    #[test]
    fn what_the_kernel_does_not_offer_is_no_drift() {
        let reason = "the kernel offers only reno, cubic".to_owned();
        assert_eq!(judged(Ok("cubic"), Some(&["reno", "cubic"]), "= bbr"), Status::Unsupported(reason));
        assert_eq!(judged(Ok("cubic"), Some(&["bbr", "cubic"]), "= bbr"), Status::Drift);
        assert_eq!(judged(Ok("cubic"), None, "= bbr"), Status::Drift);
        assert_eq!(judged(Ok("bbr"), Some(&["cubic"]), "= bbr"), Status::Ok);
    }

    #[test]
    fn what_cannot_be_read_or_compared_is_unsupported() {
        assert_eq!(judged(Err("gone"), None, "= 1"), Status::Unsupported("gone".to_owned()));
        assert_eq!(judged(Ok("x"), None, ">= 1"), Status::Unsupported("`x` is not a number".to_owned()));
    }
}
