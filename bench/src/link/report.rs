//! The matrix as one HTML page: a chart and a table per workload, the figures to reach, and the runs that do not count.

use std::fmt::Write;

use super::{
    floor::{self, Medians},
    plan::Workload,
    row::Row,
    scenario::{self, SCENARIOS},
    stack::{STACKS, Stack},
};

/// Pixels of a chart: its width, what the names take, the height of a bar, the space between links.
const WIDTH: f64 = 960.0;
const NAMES: f64 = 150.0;
const LINE: f64 = 13.0;
const SPACE: f64 = 30.0;
/// The latencies of a chart's left and right edge.
const EDGES_MS: (f64, f64) = (10.0, 10_000.0);

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2rem;max-width:1100px;color:#222}\
    table{border-collapse:collapse;margin:1rem 0}\
    td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd}\
    td:first-child,th:first-child{text-align:left}.missed{color:#c8102e;font-weight:600}.ours{font-weight:600}\
    svg text{font:11px system-ui,sans-serif;fill:#333}";

/// The whole page.
#[must_use]
pub fn html(rows: &[Row]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Link matrix</title><style>{STYLE}</style>\n\
         <h1>Link matrix</h1><p>Medians over seeds of {} runs, {} of them void and left out. Latency counts from the \
         intended time of each message. Commits: {}.</p>\n",
        rows.len(),
        rows.iter().filter(|row| !row.void.is_empty()).count(),
        escape(&commits(rows)),
    );
    verdicts(&mut page, rows);
    for (name, workload) in Workload::ALL {
        let cells: Vec<&str> = SCENARIOS
            .iter()
            .map(|scenario| scenario.name)
            .filter(|scenario| rows.iter().any(|row| row.scenario == *scenario && row.workload == name))
            .collect();
        if cells.is_empty() {
            continue;
        }
        let _ = writeln!(page, "<h2>{name}</h2>");
        if workload.has_messages() {
            page += &chart(rows, name, &cells, Kind::Latency);
        }
        if workload.has_bulk() {
            page += &chart(rows, name, &cells, Kind::Goodput);
        }
        for scenario in cells {
            table(&mut page, rows, scenario, name);
        }
    }
    voids(&mut page, rows);
    page + "</html>\n"
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Latency,
    Goodput,
}

fn verdicts(page: &mut String, rows: &[Row]) {
    let verdicts = floor::check(rows);
    if verdicts.is_empty() {
        return;
    }
    *page += "<h2>To reach</h2><table><tr><th>cell</th><th>figure</th><th>measured</th><th>limit</th><th></th></tr>\n";
    for verdict in verdicts {
        let (class, word) = if verdict.is_met() { ("", "met") } else { (" class=\"missed\"", "missed") };
        let sign = if verdict.is_floor { "≥" } else { "≤" };
        let _ = writeln!(
            page,
            "<tr{class}><td>{}</td><td>{}</td><td>{:.2}</td><td>{sign} {:.2}</td><td>{word}</td></tr>",
            verdict.cell, verdict.what, verdict.value, verdict.limit
        );
    }
    *page += "</table>\n";
}

/// One line per transport, grouped by link.
fn chart(rows: &[Row], workload: &str, cells: &[&str], kind: Kind) -> String {
    let medians = Medians(rows);
    let mut marks = String::new();
    let mut y = 20.0;
    let most = match kind {
        Kind::Latency => EDGES_MS.1,
        Kind::Goodput => {
            rows.iter().filter(|row| row.workload == workload).filter_map(|row| row.goodput_mbit).fold(1.0, f64::max)
        }
    };
    for scenario in cells {
        let about = scenario::find(scenario).map_or("", |scenario| scenario.about);
        let _ = writeln!(
            marks,
            "<text x=\"0\" y=\"{:.0}\" font-weight=\"600\">{scenario}: {}</text>",
            y - 3.0,
            escape(about)
        );
        for stack in STACKS {
            let of = |number: fn(&Row) -> Option<f64>| medians.of((scenario, workload), stack.name, number);
            let drawn = match kind {
                Kind::Latency => latency(y, stack, [of(|row| row.p50_ms), of(|row| row.p99_ms), of(|row| row.p999_ms)]),
                Kind::Goodput => of(|row| row.goodput_mbit).map(|goodput| bar(y, stack, goodput, most)),
            };
            if let Some(drawn) = drawn {
                let _ = writeln!(
                    marks,
                    "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>{drawn}",
                    NAMES - 8.0,
                    y + 9.0,
                    stack.name
                );
                y += LINE;
            }
        }
        y += SPACE;
    }
    let title = match kind {
        Kind::Latency => "Latency in ms, logarithmic: p50 (dot), p99 (bar), p99.9 (ring)",
        Kind::Goodput => "Goodput in Mbit/s",
    };
    format!(
        "<p>{title}</p><svg viewBox=\"0 0 {WIDTH:.0} {y:.0}\" width=\"{WIDTH:.0}\" role=\"img\" \
         aria-label=\"{title}\">{}{marks}</svg>\n",
        if kind == Kind::Latency { grid(y) } else { String::new() }
    )
}

fn grid(height: f64) -> String {
    let mut lines = String::new();
    for ms in [10.0, 20.0, 40.0, 100.0, 200.0, 400.0, 1_000.0, 2_000.0, 4_000.0, 10_000.0] {
        let x = log_x(ms);
        let _ = write!(
            lines,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"12\" y2=\"{height:.0}\" stroke=\"#e3e3e3\"/>\
             <text x=\"{x:.1}\" y=\"9\" text-anchor=\"middle\">{ms:.0}</text>"
        );
    }
    lines
}

fn latency(y: f64, stack: &Stack, [p50, p99, p999]: [Option<f64>; 3]) -> Option<String> {
    let (p50, p99, p999) = (p50?, p99?, p999?);
    let (middle, colour) = (y + LINE / 2.0, stack.colour);
    let (a, b, c) = (log_x(p50), log_x(p99), log_x(p999));
    Some(format!(
        "<g><title>{}: p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1} ms</title>\
         <line x1=\"{a:.1}\" x2=\"{c:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"{colour}\"/>\
         <circle cx=\"{a:.1}\" cy=\"{middle:.1}\" r=\"3.2\" fill=\"{colour}\"/>\
         <rect x=\"{:.1}\" y=\"{:.1}\" width=\"3\" height=\"9\" fill=\"{colour}\"/>\
         <circle cx=\"{c:.1}\" cy=\"{middle:.1}\" r=\"3.2\" fill=\"#fff\" stroke=\"{colour}\"/></g>",
        stack.name,
        b - 1.5,
        middle - 4.5,
    ))
}

fn bar(y: f64, stack: &Stack, goodput: f64, most: f64) -> String {
    let width = (goodput / most * (WIDTH - NAMES - 70.0)).max(0.5);
    format!(
        "<rect x=\"{NAMES:.0}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{goodput:.1}</text>",
        y + 1.0,
        LINE - 3.0,
        stack.colour,
        NAMES + width + 5.0,
        y + 9.0,
    )
}

fn log_x(ms: f64) -> f64 {
    let part = (ms.clamp(EDGES_MS.0, EDGES_MS.1) / EDGES_MS.0).ln() / (EDGES_MS.1 / EDGES_MS.0).ln();
    NAMES + part * (WIDTH - NAMES - 20.0)
}

/// A column of a table: its head and its number.
type Column = (&'static str, fn(&Row) -> Option<f64>);

const TABLE: &[Column] = &[
    ("p50 ms", |row| row.p50_ms),
    ("p99 ms", |row| row.p99_ms),
    ("p99.9 ms", |row| row.p999_ms),
    ("max ms", |row| row.max_ms),
    ("lost", |row| row.lost.map(|lost| lost as f64)),
    ("Mbit/s", |row| row.goodput_mbit),
    ("rival Mbit/s", |row| row.rival_mbit),
    ("share %", Row::share_percent),
    ("Jain", Row::jain),
    ("stall ms", |row| row.stall_ms),
    ("connections lost", |row| Some(row.connections_lost as f64).filter(|lost| *lost > 0.0)),
    ("MB down", |row| row.wire_down_mb),
    ("MB up", |row| row.wire_up_mb),
    ("queue p95 ms", |row| row.queue_p95_ms),
    ("queue drops %", |row| row.queue_drop_percent),
    ("server cores", |row| Some(row.server_cores)),
    ("client cores", |row| Some(row.client_cores)),
];

fn table(page: &mut String, rows: &[Row], scenario: &str, workload: &str) {
    let medians = Medians(rows);
    let cell = (scenario, workload);
    let lines: Vec<(&Stack, Vec<Option<f64>>)> = STACKS
        .iter()
        .map(|stack| (stack, TABLE.iter().map(|column| medians.of(cell, stack.name, column.1)).collect::<Vec<_>>()))
        .filter(|(_, numbers)| numbers.iter().any(Option::is_some))
        .collect();
    let used: Vec<usize> =
        (0..TABLE.len()).filter(|at| lines.iter().any(|(_, numbers)| numbers[*at].is_some())).collect();
    let _ = write!(page, "<table><tr><th>{scenario}</th>");
    used.iter().for_each(|at| *page += &format!("<th>{}</th>", TABLE[*at].0));
    *page += "</tr>\n";
    for (stack, numbers) in lines {
        let class = if stack.is_ours() { " class=\"ours\"" } else { "" };
        let _ = write!(page, "<tr{class}><td>{}</td>", stack.name);
        for at in &used {
            let number =
                numbers[*at].map_or_else(|| "–".to_owned(), |number| format!("{}", (number * 100.0).round() / 100.0));
            let _ = write!(page, "<td>{number}</td>");
        }
        *page += "</tr>\n";
    }
    *page += "</table>\n";
}

fn voids(page: &mut String, rows: &[Row]) {
    let void: Vec<&Row> = rows.iter().filter(|row| !row.void.is_empty()).collect();
    if void.is_empty() {
        return;
    }
    *page += "<h2>Void runs</h2><ul>\n";
    for row in void {
        let why = escape(&row.void.join("; "));
        let _ = writeln!(page, "<li>{} {} {} seed {}: {why}</li>", row.scenario, row.workload, row.stack, row.seed);
    }
    *page += "</ul>\n";
}

fn commits(rows: &[Row]) -> String {
    let mut commits: Vec<&str> = rows.iter().map(|row| row.commit.as_str()).collect();
    commits.sort_unstable();
    commits.dedup();
    commits.join(", ")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(workload: &str, stack: &str) -> Row {
        Row {
            commit: "abc<1>".to_owned(),
            scenario: "L2".to_owned(),
            workload: workload.to_owned(),
            stack: stack.to_owned(),
            p50_ms: (workload == "canvas").then_some(20.5),
            p99_ms: (workload == "canvas").then_some(28.0),
            p999_ms: (workload == "canvas").then_some(75.0),
            goodput_mbit: (workload == "bulk").then_some(88.25),
            ..Row::default()
        }
    }

    #[test]
    fn the_page_holds_charts_tables_verdicts_and_void_runs() {
        let void = Row { void: vec!["the link was late".to_owned()], ..row("bulk", "enet") };
        let page = html(&[row("canvas", "quantum"), row("bulk", "quantum"), row("bulk", "tcp-bbr"), void]);
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("</svg>").count(), 2);
        for text in ["abc&lt;1&gt;", "p99 28.0", ">88.2<", "goodput in Mbit/s", "the link was late", "5 % loss"] {
            assert!(page.contains(text), "`{text}` is missing");
        }
        assert!(!page.contains(">enet<"), "void runs are in no chart");
    }

    #[test]
    fn a_logarithmic_place_stays_within_the_chart() {
        assert!((log_x(1.0) - NAMES).abs() < 1e-9 && log_x(1e9) <= WIDTH);
        assert!(log_x(40.0) < log_x(41.0));
    }
}
