//! The budgets: what an operation may cost, what callgrind counts, and the difference.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::operation::{self, Operation};

/// `perf/budgets.toml`.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budgets {
    /// Instructions per operation.
    #[serde(default)]
    instructions: BTreeMap<String, u64>,
}

/// Counts all operations whose name contains `only` and compares them with their budgets, or writes new ones.
pub(crate) fn check(update: bool, only: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut budgets: Budgets = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut over = Vec::new();
    println!("{:<32} {:>12} {:>12} {:>8}", "operation", "instructions", "budget", "change");
    for operation in operation::ALL.iter().filter(|operation| operation.name.contains(only)) {
        let counted = count(operation)?;
        let budget = budgets.instructions.get(operation.name).copied();
        println!("{}", line(operation.name, counted, budget));
        if budget.is_none_or(|budget| counted * 100 > budget * (100 + TOLERANCE_PERCENT)) {
            over.push(operation.name);
        }
        if update {
            budgets.instructions.insert(operation.name.to_owned(), counted);
        }
    }
    if update {
        let known = |name: &String, _: &mut u64| operation::ALL.iter().any(|operation| operation.name == name);
        budgets.instructions.retain(known);
        let text = toml::to_string(&budgets).map_err(|error| error.to_string())?;
        return fs::write(&path, format!("{HEADER}{text}")).map_err(|error| format!("{}: {error}", path.display()));
    }
    if over.is_empty() { Ok(()) } else { Err(format!("over budget or without one: {}", over.join(", "))) }
}

fn line(name: &str, counted: u64, budget: Option<u64>) -> String {
    let Some(budget) = budget else { return format!("{name:<32} {counted:>12} {:>12} {:>8}", "none", "") };
    #[allow(clippy::cast_precision_loss, reason = "percentages for people")]
    let change = (counted as f64 / budget.max(1) as f64 - 1.0) * 100.0;
    format!("{name:<32} {counted:>12} {budget:>12} {change:>+7.2}%")
}

/// Instructions of one operation: the difference between many and twice as many, so that start-up does not count.
fn count(operation: &Operation) -> Result<u64, String> {
    let once = callgrind(operation.name, operation.count)?;
    let twice = callgrind(operation.name, operation.count * 2)?;
    Ok(twice.saturating_sub(once) / operation.count)
}

fn callgrind(name: &str, count: u64) -> Result<u64, String> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["run", name, &count.to_string()])
        .env_clear()
        .env("GLIBC_TUNABLES", PLAIN)
        .output()
        .map_err(|error| format!("cannot run valgrind ({error}); install it: apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("`{name}` failed under callgrind:\n{text}"));
    }
    let total = text.lines().find_map(|line| line.split("Collected :").nth(1));
    total.and_then(|total| total.trim().parse().ok()).ok_or_else(|| format!("callgrind told no total:\n{text}"))
}

/// Has glibc take the same copies and searches on every CPU: by itself it takes what the CPU is best at, and a count
/// would be of one machine.
const PLAIN: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,\
    -BMI2,-SSSE3,-SSE4_1,-SSE4_2,-Fast_Unaligned_Copy,-Fast_Unaligned_Load,-Fast_Copy_Backward,-Prefer_ERMS,-Prefer_FSRM";

/// Above this a budget is broken. Counts repeat exactly on one machine; libraries with SIMD of their own still choose by
/// CPU.
const TOLERANCE_PERCENT: u64 = 2;

const HEADER: &str = "# Instructions per operation, as `cargo perf budgets` counts them with callgrind in a release build.\n\
    # A change of more than 2 % fails; whoever changes a line says why in the commit.\n\n";
