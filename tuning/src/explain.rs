//! One setting in full: what it is, what each profile wants, why, at what risk, and who says so.

use std::fmt::Write;

use crate::{Profile, Scope, Setting};

/// The whole entry of a setting as text.
#[must_use]
pub fn explain(setting: &Setting) -> String {
    let mut text = format!("{}\n  file        /{}\n", setting.id, setting.file());
    let scope = match setting.scope {
        Scope::Namespace => "this network namespace",
        Scope::Host => "the whole machine",
        Scope::Device => "one device",
    };
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<12}{value}");
    };
    line("touches", scope);
    for profile in Profile::ALL {
        let wanted = setting.wanted(profile).map_or_else(|| "leaves it alone".to_owned(), ToString::to_string);
        line(profile.name(), &wanted);
    }
    line("why", &setting.why);
    line("risk", &setting.risk);
    line("evidence", &setting.evidence);
    line("absent", &setting.absent);
    text
}
