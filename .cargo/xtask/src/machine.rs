//! What the machine has and what it lacks: programs, Debian packages, the build folder.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Something that a chore needs, the way to see that it is there, and the Debian packages that bring it.
pub(crate) struct Need {
    what: &'static str,
    there: fn() -> bool,
    packages: &'static [&'static str],
}

/// What building needs: a C and C++ compiler, cmake and libclang for the C parts of TLS and QUIC.
pub(crate) const BUILD: &[Need] = &[
    Need { what: "a C++ compiler", there: || program("c++"), packages: &["build-essential"] },
    Need { what: "cmake", there: || program("cmake"), packages: &["cmake"] },
    Need { what: "libclang", there: libclang, packages: &["libclang-dev"] },
];

/// What the tests with real clients need beside that.
pub(crate) const CLIENTS: &[Need] = &[
    Need { what: "Chromium", there: || program("chromium"), packages: &["chromium"] },
    Need { what: "Firefox ESR", there: || program("firefox-esr"), packages: &["firefox-esr"] },
    Need { what: "Node.js", there: || program("node"), packages: &["nodejs"] },
    Need { what: "npm", there: || program("npm"), packages: &["npm"] },
    Need { what: "curl", there: || program("curl"), packages: &["curl"] },
    Need { what: "Python with venv", there: python_venv, packages: &["python3", "python3-venv"] },
];

/// What counting instructions needs.
pub(crate) const BUDGETS: &[Need] =
    &[Need { what: "valgrind", there: || program("valgrind"), packages: &["valgrind"] }];

/// Installs what is missing with apt-get when this user may, else says which line to run.
pub(crate) fn install(needs: &[Need]) -> Result<(), String> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let line = format!("apt-get install --no-install-recommends -y {}", packages.join(" "));
    let Some(prefix) = elevation() else {
        return Err(format!("missing: {what}. Run as root: apt-get update && {line}"));
    };
    eprintln!("xtask: installing {what}");
    run(apt(prefix, &["update", "-qq"]))?;
    let mut arguments = vec!["install", "--no-install-recommends", "-y", "-qq"];
    arguments.extend(&packages);
    run(apt(prefix, &arguments))?;
    match missing.iter().find(|need| !(need.there)()) {
        None => Ok(()),
        Some(need) => Err(format!("{} is still missing after: {line}", need.what)),
    }
}

/// Runs a command to its end; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or_else(|| here.to_owned(), Path::to_owned)
}

/// Where cargo builds to.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn apt(prefix: &[&str], arguments: &[&str]) -> &'static mut Command {
    let mut words = prefix.iter().chain(&["apt-get"]).copied();
    let program = words.next().unwrap_or("apt-get");
    let mut command = Command::new(program);
    command.args(words).args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    // stdout belongs to what the chore runs: the server's lines are read by programs.
    command.stdout(std::io::stderr());
    Box::leak(Box::new(command))
}

/// How apt-get may be run: as it is, through sudo without a password, or not at all.
fn elevation() -> Option<&'static [&'static str]> {
    if !program("apt-get") {
        None
    } else if quiet("id", &["-u"]).is_some_and(|uid| uid.trim() == "0") {
        Some(&[])
    } else if quiet("sudo", &["-n", "true"]).is_some() {
        Some(&["sudo", "-n"])
    } else {
        None
    }
}

fn program(name: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

fn python_venv() -> bool {
    program("python3") && quiet("python3", &["-c", "import venv, ensurepip"]).is_some()
}

fn libclang() -> bool {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let folders = ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let direct = folders.iter().any(|folder| holds_libclang(Path::new(folder)));
    let llvm = || {
        let mut versions = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        versions.any(|e| e.file_name().to_string_lossy().starts_with("llvm-") && holds_libclang(&e.path().join("lib")))
    };
    direct || llvm()
}

fn holds_libclang(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        name == "libclang.so" || name.starts_with("libclang-") || name.starts_with("libclang.so.")
    })
}

fn quiet(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
