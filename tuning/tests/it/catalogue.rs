//! The catalogue in the binary is whole, and a broken one is refused with the reason.

use std::collections::BTreeSet;

use tuning::{Catalogue, Error, Kind, Profile, explain};

const ENTRY: &str = r#"
[[setting]]
id = "net.core.somaxconn"
kind = "sysctl"
scope = "namespace"
all = ">= 65535"
absent = "gone"
why = "because"
risk = "none"
evidence = "measured"
"#;

fn refusal(text: &str) -> String {
    match Catalogue::parse(&[("test.toml", text)]) {
        Err(error @ Error::Catalogue { .. }) => error.to_string(),
        other => panic!("accepted: {other:?}"),
    }
}

#[test]
fn every_entry_is_whole_and_has_an_id_of_its_own() {
    let catalogue = Catalogue::embedded().expect("the catalogue");
    let mut ids = BTreeSet::new();
    let mut files = BTreeSet::new();
    for setting in catalogue.settings() {
        assert!(ids.insert(&setting.id), "{} is there twice", setting.id);
        assert!(files.insert(setting.file()), "{} has another's file", setting.id);
        for text in [&setting.why, &setting.risk, &setting.evidence, &setting.absent] {
            assert!(text.len() >= 10 && !text.contains('\n'), "{}: `{text}`", setting.id);
        }
        assert!(Profile::ALL.iter().any(|profile| setting.wanted(*profile).is_some()), "{}", setting.id);
    }
    assert!(ids.len() > 30);
}

#[test]
fn every_file_of_the_folder_is_in_the_binary() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let mut entries = 0;
    for file in std::fs::read_dir(folder).expect("the catalogue").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("a file");
        entries += text.lines().filter(|line| *line == "[[setting]]").count();
    }
    assert_eq!(entries, Catalogue::embedded().expect("the catalogue").settings().len());
}

#[test]
fn an_entry_becomes_a_setting() {
    let catalogue = Catalogue::parse(&[("test.toml", &format!("{ENTRY}dense = \"= 7\"\n"))]).expect("a catalogue");
    let [setting] = catalogue.settings() else { panic!("one setting") };
    assert_eq!((setting.kind, setting.file().as_str()), (Kind::Sysctl, "proc/sys/net/core/somaxconn"));
    let shown = |profile| setting.wanted(profile).map(ToString::to_string);
    assert_eq!(shown(Profile::Latency).as_deref(), Some(">= 65535"));
    assert_eq!(shown(Profile::Dense).as_deref(), Some("= 7"), "a profile's own line comes first");
}

#[test]
fn broken_entries_are_refused_with_the_reason() {
    let sysfs = |path: &str| ENTRY.replace("\"sysctl\"", &format!("\"sysfs\"\npath = \"{path}\""));
    for (text, reason) in [
        (ENTRY.repeat(2), "is there twice"),
        (ENTRY.replace("because", " "), "must say something"),
        (ENTRY.replace("risk = \"none\"", ""), "missing field `risk`"),
        (ENTRY.replace(">= 65535", "> 65535"), "does not begin with"),
        (ENTRY.replace(">= 65535", ">= many"), "is not a number"),
        (ENTRY.replace("all = \">= 65535\"", ""), "no profile wants"),
        (ENTRY.replace("sysctl", "registry"), "unknown variant"),
        (ENTRY.replace("\"sysctl\"", "\"sysfs\""), "a sysfs setting has a path"),
        (format!("{ENTRY}path = \"sys/x\"\n"), "a sysfs setting has a path"),
        (format!("{ENTRY}beside = \"sys/*/x\"\n"), "only where the path has one"),
        (format!("{ENTRY}colour = \"red\"\n"), "unknown field"),
        (sysfs("/sys/x"), "a path is relative"),
        (sysfs("sys/../x"), "a path is relative"),
        (sysfs("sys/*/*/x"), "at most one `*`"),
        ("nonsense".to_owned(), "test.toml"),
    ] {
        let refused = refusal(&text);
        assert!(refused.contains(reason), "wanted `{reason}`, got: {refused}");
    }
}

#[test]
fn a_setting_is_explained_with_everything_known_and_a_wrong_name_finds_the_nearest() {
    let catalogue = Catalogue::embedded().expect("the catalogue");
    let text = explain(catalogue.find("net.ipv4.tcp_notsent_lowat").expect("there"));
    for part in ["/proc/sys/net/ipv4/tcp_notsent_lowat", "<= 16384", "<= 131072", "why ", "risk ", "evidence "] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let text = explain(catalogue.find("nic.gro_flush_timeout").expect("there"));
    assert!(text.contains("leaves it alone"), "{text}");
    let error = catalogue.find("net.core.somaxcon").expect_err("misspelled").to_string();
    assert!(error.ends_with("did you mean `net.core.somaxconn`?"), "{error}");
    let error = catalogue.find("0").expect_err("nothing like it").to_string();
    assert_eq!(error, "no setting is called `0`");
}
