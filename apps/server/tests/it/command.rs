//! The commands of the binary, as a person or a script meets them.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output},
};

/// The binary without the variables of whoever runs the tests.
fn ringshard(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringshard"));
    command.args(arguments).env_clear();
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn config_prints_what_config_check_accepts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, printed, _) = run(ringshard(&["config", "--plain", "127.0.0.1:0"]).env("RINGSHARD_LOG_LEVEL", "debug"));
    assert!(
        code == Some(0) && printed.contains("plain = \"127.0.0.1:0\"") && printed.contains("level = \"debug\""),
        "{printed}"
    );
    let file = write(folder.path(), "ringshard.toml", &printed);
    assert_eq!(run(&mut ringshard(&["config", "--check", &file])), (Some(0), "ok\n".into(), String::new()));
    let (_, again, _) = run(&mut ringshard(&["config", "--config", &file]));
    assert!(again.contains(&format!("Set by {file}:")) && again.contains("plain = \"127.0.0.1:0\""), "{again}");
}

#[test]
fn config_check_names_file_line_key_and_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        write(folder.path(), "bad.toml", "[server]\nshards = 1\n\n[limits]\nframe_byte = 1\nidle_secs = \"long\"\n");
    let (code, out, _) = run(&mut ringshard(&["config", "--check", &file]));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len()), (Some(1), 2), "{out}");
    assert_eq!(lines[0], format!("{file}:5: limits.frame_byte: unknown key; did you mean limits.frame_bytes?"));
    assert!(lines[1].starts_with(&format!("{file}:6: limits.idle_secs: must be a number")), "{out}");
}

#[test]
fn serve_refuses_a_wrong_configuration_before_it_touches_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (code, out, error) =
        run(&mut ringshard(&["serve", "--data", data.to_str().expect("text"), "--shards", "many"]));
    assert_eq!((code, out), (Some(1), String::new()));
    assert!(error.starts_with("ringshard: --shards: server.shards: must be a whole number"), "{error}");
    assert!(!data.exists());
    let (code, _, error) = run(&mut ringshard(&["serve", "--sharts", "2"]));
    assert!(code == Some(2) && error.contains("--shards"), "{error}");
}

#[test]
fn a_token_is_signed_with_the_secret_of_the_data_directory_or_of_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data = data.to_str().expect("text");
    let (code, token, error) =
        run(&mut ringshard(&["token", "--sub", "alice", "--ttl", "1h", "--cap", "admin", "--data", data]));
    assert_eq!((code, token.trim().split('.').count()), (Some(0), 3), "{token}{error}");
    let keys = session::Keys::new(&fs::read(Path::new(data).join("secret")).expect("made"));
    let claims = keys.verify(now(), token.trim()).expect("genuine");
    assert_eq!(claims.sub, "alice");
    assert!(keys.verify(now() + 3600 + 120, token.trim()).is_err(), "it ends after an hour");

    let secret = "0123456789abcdef0123456789abcdef";
    let (_, other, _) =
        run(ringshard(&["token", "--sub", "bob", "--data", "/nowhere"]).env("RINGSHARD_AUTH_SECRET", secret));
    assert_eq!(session::Keys::new(secret.as_bytes()).verify(now(), other.trim()).expect("genuine").sub, "bob");
    assert!(keys.verify(now(), other.trim()).is_err());
}

#[test]
fn a_token_for_nobody_or_for_a_strange_time_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("text");
    let (code, _, error) = run(&mut ringshard(&["token", "--sub", "", "--data", data]));
    assert!(code == Some(1) && error.contains("--sub \"\": "), "{error}");
    let (code, _, error) = run(&mut ringshard(&["token", "--sub", "a", "--cap", "two words", "--data", data]));
    assert!(code == Some(1) && error.contains("--cap \"two words\": "), "{error}");
    let (code, _, error) = run(&mut ringshard(&["token", "--sub", "a", "--ttl", "soon", "--data", data]));
    assert!(code == Some(2) && error.contains("must be as 90s, 30m, 1h or 2d"), "{error}");
}

#[test]
fn a_data_directory_without_permission_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let data = folder.path().join("data");
    let mut command = ringshard(&["token", "--sub", "alice", "--data", data.to_str().expect("text")]);
    if fs::read_dir("/root").is_ok() {
        // This is root, to whom nothing is forbidden; `nobody` is not.
        command.uid(65_534).gid(65_534);
    } else {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("set");
    }
    let (code, _, error) = run(&mut command);
    assert!(code == Some(1) && error.contains("cannot make .: no permission"), "{error}");
}

#[test]
fn probe_says_of_this_machine_that_it_can_or_names_the_blocker() {
    let (code, out, _) = run(&mut ringshard(&["probe"]));
    let last = out.lines().last().expect("a line");
    assert!(
        if code == Some(0) { last.starts_with("this machine can run") } else { last.contains("because of: ") },
        "{out}"
    );
}

#[test]
fn help_explains_every_command() {
    let (code, help, _) = run(&mut ringshard(&["--help"]));
    assert_eq!(code, Some(0));
    for command in ["serve", "config", "token", "probe"] {
        assert!(help.contains(command));
        let (code, help, _) = run(&mut ringshard(&[command, "--help"]));
        assert!(code == Some(0) && help.contains("Usage: ringshard"), "{help}");
    }
}

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}
