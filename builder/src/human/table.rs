//! Aligned columns.

use std::io::{self, Write};

/// Rows under a heading, printed with columns as wide as their widest cell and some spaces between
/// them: three, as Docker does.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heading: [&'static str; N],
    rows: Vec<[String; N]>,
    gap: usize,
}

impl<const N: usize> Table<N> {
    pub(crate) const fn new(heading: [&'static str; N]) -> Self {
        Self {
            heading,
            rows: Vec::new(),
            gap: 3,
        }
    }

    /// With one space between columns, as some of buildx's tables have it.
    pub(crate) const fn narrow(mut self) -> Self {
        self.gap = 1;
        self
    }

    /// Replaces the heading of a column.
    pub(crate) fn heading(&mut self, old: &str, new: &'static str) {
        for heading in self.heading.iter_mut().filter(|heading| **heading == old) {
            *heading = new;
        }
    }

    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// Columns without any text are left out; no line has spaces at its end.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let heading = self.heading.map(str::to_owned);
        let mut widths = [0; N];
        for row in std::iter::once(&heading).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row).filter(|(width, _)| **width > 0) {
                line.push_str(cell);
                let padding = width - cell.chars().count() + self.gap;
                line.extend(std::iter::repeat_n(' ', padding));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["NAME", "SIZE"]);
        table.row(["a".into(), "1".into()]);
        table.row(["größer".into(), "2".into()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "NAME     SIZE\na        1\ngrößer   2\n"
        );
    }

    #[test]
    fn an_empty_column_is_left_out() {
        let mut table = Table::new(["NAME", "NOTE", "SIZE"]);
        table.heading("NOTE", "");
        table.row(["a".into(), String::new(), "1".into()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME   SIZE\na      1\n");
    }
}
