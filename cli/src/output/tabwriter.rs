//! Elastic tab stops, as Go's text/tabwriter aligns columns.
//!
//! A column is a run of consecutive lines that have a tab-ended cell at that position; its width is that of
//! its widest cell. The text behind a line's last tab belongs to no column.

use unicode_width::UnicodeWidthChar;

/// How wide columns are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The least width of a column, padding included.
    pub(crate) min_width: usize,
    /// Blanks between a cell and the next column.
    pub(crate) padding: usize,
}

/// docker's tables.
pub(crate) const TABLE: Layout = Layout { min_width: 10, padding: 3 };
/// `top`.
pub(crate) const TOP: Layout = Layout { min_width: 20, padding: 3 };
/// `version`.
pub(crate) const VERSION: Layout = Layout { min_width: 20, padding: 1 };

/// Aligns the tab-separated cells of `text`.
pub(crate) fn align(text: &str, layout: Layout) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> =
        lines.iter().map(|cells| vec![0; cells.len().saturating_sub(1)]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut line = 0;
        while line < lines.len() {
            if widths[line].len() <= column {
                line += 1;
                continue;
            }
            let end = (line..lines.len()).find(|&l| widths[l].len() <= column).unwrap_or(lines.len());
            let widest = (line..end).map(|l| width(lines[l][column])).max().unwrap_or(0);
            let padded = (widest + layout.padding).max(layout.min_width);
            for row in &mut widths[line..end] {
                row[column] = padded;
            }
            line = end;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (row, cells) in lines.iter().enumerate() {
        if row > 0 {
            out.push('\n');
        }
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(&total) = widths[row].get(column) {
                out.extend(std::iter::repeat_n(' ', total.saturating_sub(width(cell))));
            }
        }
    }
    out
}

/// Columns of a terminal that a cell takes, colour sequences not counted.
fn width(cell: &str) -> usize {
    let mut count = 0;
    let mut chars = cell.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            for inner in chars.by_ref() {
                if inner.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            count += display_width(c);
        }
    }
    count
}

/// Columns of a terminal that `c` takes: two for wide East Asian characters.
pub(crate) fn display_width(c: char) -> usize {
    c.width().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            align("A\tB\tC\nlonger than ten\tb\tc\n", TABLE),
            "A                 B         C\nlonger than ten   b         c\n"
        );
    }

    #[test]
    fn a_line_without_the_cell_ends_the_column() {
        assert_eq!(align("a\tb\n\nlooooooooooong\td\n", TABLE), "a         b\n\nlooooooooooong   d\n");
        assert_eq!(
            align("Client:\n Version:\t1\n API version:\t2\n", VERSION),
            "Client:\n Version:           1\n API version:       2\n"
        );
    }

    #[test]
    fn wide_characters_count_twice_and_colours_not_at_all() {
        assert_eq!(align("日本\tx\na\ty", TABLE), "日本      x\na         y");
        assert_eq!(align("é…\tx\n\x1b[31mab\x1b[0m\ty", TABLE), "é…        x\n\x1b[31mab\x1b[0m        y");
    }
}
