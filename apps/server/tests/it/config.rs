//! The configuration: every key is documented, printed and read back; every mistake is named with its line.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use ringshard::config::{self, Config, KEYS, Origin, Sources, check_text, print};

fn errors(text: &str) -> Vec<String> {
    match check_text(Path::new("x.toml"), text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    let loaded = check_text(Path::new("x.toml"), "").expect("empty is fine");
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.origins.iter().all(|origin| *origin == Origin::Default));
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let text = "[server]\nshards = 3\ncpus = '0-3,6'\ndrain_secs = '2m'\nspin_us = 0\n[listen]\norigins = ['https://a.example']\n\
                [limits]\nhello_secs = '1500ms'\nframe_bytes = '128KiB'\n[auth]\ntoken_ttl = '90m'\n[log]\nformat = 'json'\n";
    let loaded = check_text(Path::new("x.toml"), text).expect("valid");
    assert_eq!(loaded.config.server.cpus.cpus(), [0, 1, 2, 3, 6]);
    assert_eq!(loaded.config.limits.hello_secs, Duration::from_millis(1500));
    let printed = print(&loaded);
    let again = check_text(Path::new("y.toml"), &printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.config, loaded.config);
}

#[test]
fn every_key_has_a_comment_a_default_and_a_variable_of_its_own() {
    let printed = print(&check_text(Path::new("x.toml"), "").expect("valid"));
    let variables: BTreeSet<String> = KEYS.iter().map(config::Key::variable).collect();
    assert_eq!(variables.len(), KEYS.len());
    let lines: Vec<&str> = printed.lines().collect();
    for key in KEYS {
        assert!(key.doc.join(" ").trim().ends_with('.'), "{} has no sentence", key.path());
        let set = format!("{} = ", key.name);
        let at = lines.iter().position(|line| line.trim_start_matches("# ").starts_with(&set)).expect("it is printed");
        assert!(
            lines[at - 1].starts_with('#') && lines[at - 1].contains("Default: "),
            "{}: {}",
            key.path(),
            lines[at - 1]
        );
    }
}

#[test]
fn flags_override_the_environment_overrides_the_file_overrides_defaults() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ringshard.toml");
    fs::write(&file, "[listen]\nplain = '127.0.0.1:1'\nsecure = '127.0.0.1:1'\nadmin = '127.0.0.1:1'\n")
        .expect("written");
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let sources = Sources {
        file: Some(file.clone()),
        environment: vec![
            variable("RINGSHARD_LISTEN_PLAIN", "127.0.0.1:2"),
            variable("RINGSHARD_LISTEN_SECURE", "127.0.0.1:2"),
            variable("RINGSHARD_LIMITS_QUEUE_HARD_BYTES", "512KiB"),
            variable("HOME", "/root"),
        ],
        flags: vec![("--plain", "listen.plain", "127.0.0.1:3".to_owned())],
    };
    let loaded = sources.load().expect("valid");
    let listen = &loaded.config.listen;
    assert_eq!([listen.plain.port(), listen.secure.port(), listen.admin.port()], [3, 2, 1]);
    assert_eq!(loaded.config.limits.queue_hard_bytes, 512 * 1024);
    assert!(print(&loaded).contains("Set by RINGSHARD_LISTEN_SECURE."));
    assert!(print(&loaded).contains(&format!("Set by {}:4.", file.display())));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    assert_eq!(errors("[server]\n\nshard = 2\n"), ["x.toml:3: server.shard: unknown key; did you mean server.shards?"]);
    assert_eq!(errors("[limits]\nshards = 2\n"), ["x.toml:2: limits.shards: unknown key; did you mean server.shards?"]);
    assert_eq!(errors("[listn]\nplain = 1\n"), ["x.toml:1: listn: unknown table; did you mean [listen]?"]);
    assert_eq!(errors("drain_secs = 1\n"), ["x.toml:1: drain_secs: unknown table; did you mean server.drain_secs?"]);
    assert_eq!(errors("[limits]\nqueue_sofft_bytes = 1\n").len(), 1);
}

#[test]
fn an_unknown_variable_is_named_but_not_those_that_kubernetes_makes() {
    let environment =
        |name: &str| Sources { environment: vec![(name.to_owned(), "1".to_owned())], ..Sources::default() };
    let error = environment("RINGSHARD_SERVER_SHARD").load().expect_err("unknown").to_string();
    assert_eq!(
        error,
        "RINGSHARD_SERVER_SHARD: RINGSHARD_SERVER_SHARD: unknown variable; did you mean RINGSHARD_SERVER_SHARDS?"
    );
    for name in
        ["RINGSHARD_PORT", "RINGSHARD_SERVICE_HOST", "RINGSHARD_SERVICE_PORT_PLAIN", "RINGSHARD_PORT_8080_TCP_ADDR"]
    {
        environment(name).load().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_bad_value_names_line_key_and_reason() {
    for (text, expected) in [
        ("[server]\nshards = 257\n", "x.toml:2: server.shards: must be from 0 to 256"),
        ("[server]\nshards = -1\n", "x.toml:2: server.shards: must be a whole number"),
        ("[server]\nshards = \"many\"\n", "x.toml:2: server.shards: must be a whole number"),
        ("[server]\npin = 1\n", "x.toml:2: server.pin: must be true or false"),
        ("[server]\ncpus = \"3-1\"\n", "x.toml:2: server.cpus: must be cores and ranges"),
        ("[server]\ncpus = \"0-99999999999\"\n", "x.toml:2: server.cpus: must be cores and ranges"),
        ("[server]\ndrain_secs = 1.5\n", "x.toml:2: server.drain_secs: must be a number in the unit"),
        ("[listen]\nplain = \"8080\"\n", "x.toml:2: listen.plain: must be an address and a port"),
        ("[listen]\norigins = [\"chat.example.com\"]\n", "x.toml:2: listen.origins: must be a list of origins"),
        ("[log]\nlevel = \"loud\"\n", "x.toml:2: log.level: must be \"error\", \"warn\""),
        ("[auth]\nsecret = \"short\"\n", "x.toml:2: auth.secret: must be a text of at least 32 bytes"),
        ("[limits]\n# \nframe_bytes = \"1TiB\"\n", "x.toml:3: limits.frame_bytes: must be a whole number"),
        ("server = 3\n", "x.toml:1: server: must be a table: write [server]"),
        ("[server\n", "x.toml:1: syntax: "),
        ("[server]\nshards = 1\nshards = 2\n", "x.toml:3: syntax: duplicate key"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
        assert!(errors[0].starts_with(expected), "{text:?}: {}", errors[0]);
    }
}

#[test]
fn relations_between_keys_are_checked_and_told_where_the_key_was_set() {
    for (text, expected) in [
        ("[limits]\nqueue_soft_bytes = '300KiB'\n", "x.toml:2: limits.queue_soft_bytes: must be below"),
        ("[limits]\nping_secs = 31\n", "x.toml:2: limits.ping_secs: must be below half"),
        ("[limits]\nmessages_burst = 5\n", "x.toml:2: limits.messages_burst: must not be below"),
        ("[tls]\ncertificate = 'a.pem'\n", "x.toml:2: tls.certificate: needs tls.key"),
        ("[tls]\nkey = 'a.pem'\n", "x.toml:2: tls.key: needs tls.certificate"),
        ("[limits]\nframe_bytes = '1MiB'\n", "default: limits.queue_hard_bytes: must be at least twice"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
        assert!(errors[0].starts_with(expected), "{text:?}: {}", errors[0]);
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    assert_eq!(errors("[server]\nshards = 999\npinn = true\n[log]\nlevel = 3\n").len(), 3);
}

#[test]
fn a_secret_is_never_shown() {
    let secret = "0123456789abcdef0123456789abcdef";
    let loaded = check_text(Path::new("x.toml"), &format!("[auth]\nsecret = '{secret}'\n")).expect("valid");
    assert_eq!(loaded.config.auth.secret.as_ref().expect("set").expose(), secret.as_bytes());
    assert!(!print(&loaded).contains(secret) && print(&loaded).contains("(set, not shown)"));
    assert!(!format!("{loaded:?}").contains(secret));
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("latin"), b"[server]\n# \xe9\n").expect("written");
    fs::write(path("large"), vec![b'#'; config::FILE_BYTES_MAX + 1]).expect("written");
    for (name, reason) in [
        ("none", "cannot be read: No such file"),
        ("latin", "is not UTF-8 from byte 11 on"),
        ("large", "is larger than"),
    ] {
        let error = config::check(&path(name)).expect_err("unreadable").to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(config::check(folder.path()).expect_err("a folder").to_string().contains("cannot be read"));
}

#[test]
fn no_text_of_the_corpus_breaks_the_reader() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).expect("the corpus is there").flatten() {
        config::fuzz(&fs::read(entry.path()).expect("readable"));
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} texts");
}
