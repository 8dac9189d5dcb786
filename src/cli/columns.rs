//! Tables for people, in columns as wide as they need to be.

/// A head and rows of as many cells.
pub(super) fn columns<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded: Vec<_> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(head);
    for row in rows {
        text.push_str(&line(row.each_ref().map(String::as_str)));
    }
    text
}

/// The same of a list of `what`, which may be empty, or go on behind what is shown.
pub(super) fn listing<const N: usize>(
    what: &str,
    head: [&str; N],
    rows: &[[String; N]],
    goes_on: bool,
) -> String {
    if rows.is_empty() {
        return format!("no {what}\n");
    }
    let mut text = columns(head, rows);
    if goes_on {
        text.push_str("and more\n");
    }
    text
}
