//! Columns of text, as wide as what is in them.

use std::fmt;

/// Rows below a heading; a note is a line of its own below its row.
#[derive(Clone, Debug)]
pub struct Table<const COLUMNS: usize> {
    lines: Vec<Line<COLUMNS>>,
}

#[derive(Clone, Debug)]
enum Line<const COLUMNS: usize> {
    Row([String; COLUMNS]),
    Note(String),
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Only the heading.
    #[must_use]
    pub fn new(heading: [&str; COLUMNS]) -> Self {
        Self { lines: vec![Line::Row(heading.map(str::to_owned))] }
    }

    /// A row more.
    pub fn row(&mut self, cells: [String; COLUMNS]) {
        self.lines.push(Line::Row(cells));
    }

    /// A line below the last row, indented by its first column.
    pub fn note(&mut self, text: &str) {
        self.lines.push(Line::Note(text.to_owned()));
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.lines.iter().map(|line| match line {
            Line::Row(cells) => cells[column].chars().count(),
            Line::Note(_) => 0,
        });
        cells.max().unwrap_or(0)
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| self.width(column));
        for line in &self.lines {
            match line {
                Line::Row(cells) => {
                    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
                    writeln!(f, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
                }
                Line::Note(text) => writeln!(f, "{:indent$}  {text}", "", indent = widths.first().unwrap_or(&0))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_space() {
        let mut table = Table::new(["A", "B"]);
        table.row(["long".to_owned(), String::new()]);
        table.note("why");
        table.row(["x".to_owned(), "y".to_owned()]);
        assert_eq!(table.to_string(), "A     B\nlong\n      why\nx     y\n");
    }
}
