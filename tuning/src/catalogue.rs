//! The settings that matter to a shard, each with its reason: TOML files that are part of the binary.

use serde::{Deserialize, Serialize};

use crate::{Error, Wanted};

const FILES: &[(&str, &str)] = &[
    ("limit.toml", include_str!("../catalogue/limit.toml")),
    ("memory.toml", include_str!("../catalogue/memory.toml")),
    ("network.toml", include_str!("../catalogue/network.toml")),
    ("scheduler.toml", include_str!("../catalogue/scheduler.toml")),
];

/// What a machine is tuned for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The shortest time from a packet to its answer, at the price of idle power.
    Latency,
    /// The most bytes and messages per second.
    Throughput,
    /// The most connections: a million that mostly wait.
    Dense,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Latency, Self::Throughput, Self::Dense];

    /// As it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Dense => "dense",
        }
    }
}

/// How a setting's file is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Below `proc/sys`, at the id with slashes for dots.
    Sysctl,
    /// At `path`, in which one component may be or hold a `*`.
    Sysfs,
}

/// Whom a change would touch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The network namespace: a container has its own.
    Namespace,
    /// Everybody on the machine.
    Host,
    /// One device.
    Device,
}

/// One setting.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name, unique in the catalogue.
    pub id: String,
    /// How its file is found.
    pub kind: Kind,
    /// The file of a `sysfs` setting.
    pub path: Option<String>,
    /// A name that must be there for a `*` to count, as only real network interfaces have a `device`.
    pub beside: Option<String>,
    /// A file that lists what the kernel offers for this one.
    pub offered_by: Option<String>,
    /// Wanted by every profile that has no line of its own.
    pub all: Option<Wanted>,
    /// Wanted by the profile `latency`.
    pub latency: Option<Wanted>,
    /// Wanted by the profile `throughput`.
    pub throughput: Option<Wanted>,
    /// Wanted by the profile `dense`.
    pub dense: Option<Wanted>,
    /// The value that a missing file stands for, where a kernel without the file behaves as if it said this.
    pub absent_value: Option<String>,
    /// What a missing file means.
    pub absent: String,
    /// Whom a change would touch.
    pub scope: Scope,
    /// Why a shard wants it.
    pub why: String,
    /// What it costs or endangers.
    pub risk: String,
    /// Where the advice comes from, and whether it was measured.
    pub evidence: String,
}

impl Setting {
    /// What a profile wants; `None`: it does not care.
    #[must_use]
    pub fn wanted(&self, profile: Profile) -> Option<&Wanted> {
        let own = match profile {
            Profile::Latency => &self.latency,
            Profile::Throughput => &self.throughput,
            Profile::Dense => &self.dense,
        };
        own.as_ref().or(self.all.as_ref())
    }

    /// The file, relative to the machine's root, perhaps with a `*`.
    #[must_use]
    pub fn file(&self) -> String {
        match (self.kind, &self.path) {
            (Kind::Sysfs, Some(path)) => path.clone(),
            (Kind::Sysctl | Kind::Sysfs, _) => format!("proc/sys/{}", self.id.replace('.', "/")),
        }
    }

    // What is wrong with the entry, beyond what its types already say.
    fn fault(&self) -> Option<&'static str> {
        let texts = [&self.id, &self.why, &self.risk, &self.evidence, &self.absent];
        if texts.iter().any(|text| text.trim().is_empty()) {
            return Some("id, why, risk, evidence and absent must say something");
        }
        if (self.kind == Kind::Sysfs) != self.path.is_some() {
            return Some("a sysfs setting has a path, and a sysctl has none");
        }
        let file = self.file();
        if file.starts_with('/') || file.split('/').any(|part| part == "..") || file.matches('*').count() > 1 {
            return Some("a path is relative, without `..`, and has at most one `*`");
        }
        let starred = |name: &Option<String>| name.as_ref().is_some_and(|name| name.contains('*'));
        if !file.contains('*') && (starred(&self.beside) || starred(&self.offered_by)) {
            return Some("`beside` and `offered_by` have a `*` only where the path has one");
        }
        if Profile::ALL.iter().all(|profile| self.wanted(*profile).is_none()) {
            return Some("no profile wants anything of it");
        }
        None
    }
}

/// All settings, in the order of their files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Catalogue {
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    setting: Vec<Setting>,
}

impl Catalogue {
    /// The catalogue in the binary.
    ///
    /// # Errors
    /// Never in a binary whose tests have passed.
    pub fn embedded() -> Result<Self, Error> {
        Self::parse(FILES)
    }

    /// The catalogue of these files, each a name and its text.
    ///
    /// # Errors
    /// When an entry is not whole, wrong in itself, or has another's id.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, Error> {
        let mut settings: Vec<Setting> = Vec::new();
        for (file, text) in files {
            let wrong = |reason: String| Error::Catalogue { file: (*file).to_owned(), reason };
            let page: Page = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
            for setting in page.setting {
                if let Some(fault) = setting.fault() {
                    return Err(wrong(format!("`{}`: {fault}", setting.id)));
                }
                if settings.iter().any(|other| other.id == setting.id) {
                    return Err(wrong(format!("`{}` is there twice", setting.id)));
                }
                settings.push(setting);
            }
        }
        Ok(Self { settings })
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The setting of that id.
    ///
    /// # Errors
    /// When there is none; the error names the nearest.
    pub fn find(&self, id: &str) -> Result<&Setting, Error> {
        let likeness = |setting: &&Setting| strsim::jaro_winkler(&setting.id, id);
        self.settings.iter().find(|setting| setting.id == id).ok_or_else(|| Error::UnknownSetting {
            id: id.to_owned(),
            nearest: self
                .settings
                .iter()
                .filter(|setting| likeness(setting) > LIKENESS_MIN)
                .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
                .map(|setting| setting.id.clone()),
        })
    }
}

/// Below this two names have no more in common than any two (Jaro-Winkler; `somaxcon` and `net.core.somaxconn` have 0.6).
const LIKENESS_MIN: f64 = 0.55;
