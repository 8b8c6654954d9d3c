//! How it looks: a title, the names of the tables, one of them, what is wrong, and a line of help.

use super::rows::{Row, Tab};
use super::screen::Screen;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{self, Clear, Paragraph, StatefulWidget, Table, TableState, Tabs};

/// Lines for what is wrong, at most.
const TROUBLES: usize = 3;

const HELP: &str = "\
 tab shift-tab 1-7   tables
 s S                 sort by the next column, by the one before
 r                   the other way round
 /                   only rows with a text (enter keeps it, escape forgets it)
 up down pgup pgdn   move in the table; home, end
 + -                 look less often, more often
 p                   pause
 q                   end

 FLIGHT  received and not deleted     LEFT/S  deleted, moved, expired a second
 TO DISK of a durable queue: positions that the disk does not have yet
 BEHIND  records that a group or a reader has not read
 holders who has messages in flight, open claims, shards, seats and roles

 any key goes back";

pub fn frame(frame: &mut Frame<'_>, screen: &mut Screen) {
    let troubles = screen.troubles();
    let shown = troubles.len().min(TROUBLES) as u16;
    let lines = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(shown),
        Constraint::Length(1),
    ];
    let [top, tabs, middle, bottom, foot] = Layout::vertical(lines).areas(frame.area());
    frame.render_widget(title(screen), top);
    let titles = Tab::ALL.iter().zip(1..);
    let titles = titles.map(|(tab, number)| format!("{number} {}", tab.title()));
    let names = Tabs::new(titles)
        .select(screen.tab as usize)
        .divider(" ")
        .padding("", "")
        .highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(names, tabs);
    let rows = screen.rows(screen.tab);
    if rows.is_empty() {
        frame.render_widget(Paragraph::new(nothing(screen)), middle);
    } else {
        // Rows may have gone since.
        if screen.table.selected().is_some_and(|row| row >= rows.len()) {
            screen.table.select_last();
        }
        let table = table(screen, screen.tab, &rows);
        frame.render_stateful_widget(table, middle, &mut screen.table);
    }
    let more = troubles.len().saturating_sub(TROUBLES);
    let mut told: Vec<Line<'_>> = Vec::new();
    for trouble in troubles.iter().take(TROUBLES) {
        told.push(Line::styled(format!("! {trouble}"), bad()));
    }
    if more > 0
        && let Some(last) = told.last_mut()
    {
        *last = Line::styled(format!("! and {} more", more + 1), bad());
    }
    frame.render_widget(Paragraph::new(told), bottom);
    frame.render_widget(footer(screen), foot);
    if screen.is_helping {
        frame.render_widget(Clear, middle);
        frame.render_widget(Paragraph::new(HELP), middle);
    }
}

fn bad() -> Style {
    Style::new().fg(Color::Red)
}

fn title(screen: &Screen) -> Line<'static> {
    let what = match screen.bus() {
        Some(bus) => format!("{}/ringway-{bus}", screen.root.display()),
        None => format!("{}: {} buses", screen.root.display(), screen.buses()),
    };
    let mut spans = vec![
        Span::styled("ringway top", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {what}, every {:?}", screen.interval)),
    ];
    if screen.is_paused {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        spans.push(Span::raw("  "));
        spans.push(Span::styled("paused", style));
    }
    Line::from(spans)
}

fn nothing(screen: &Screen) -> String {
    let what = screen.tab.title();
    match (screen.has_looked, screen.filter.is_empty()) {
        (false, _) => "looking...".to_owned(),
        (true, true) => format!("no {what}"),
        (true, false) => format!("no {what} with {:?}", screen.filter),
    }
}

fn footer(screen: &Screen) -> Line<'static> {
    if screen.is_filtering {
        return Line::from(format!(
            "/{}_  enter keeps it, escape forgets it",
            screen.filter
        ));
    }
    let mut text = String::from("q end  tab next  s sort  r reverse  / filter  p pause  ? help");
    if !screen.filter.is_empty() {
        text += &format!("  [{}]", screen.filter);
    }
    let style = Style::new().add_modifier(Modifier::DIM);
    Line::styled(text, style)
}

fn table(screen: &Screen, tab: Tab, rows: &[Row]) -> Table<'static> {
    let columns = tab.columns();
    // A column of numbers stands to the right, and its title with it.
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.cells.get(column));
        cells.next().is_some_and(|cell| cell.is_number())
    };
    let (sorted, is_reversed) = screen.sorted_by(tab);
    let aligned = |column: usize, text: String| {
        let line = Line::from(text);
        match is_number(column) {
            true => line.right_aligned(),
            false => line,
        }
    };
    let titles = columns.iter().enumerate().map(|(column, (title, _))| {
        let mut style = Style::new().add_modifier(Modifier::BOLD);
        if column == sorted {
            style = style.add_modifier(Modifier::UNDERLINED);
            if is_reversed {
                style = style.add_modifier(Modifier::ITALIC);
            }
        }
        widgets::Cell::from(aligned(column, (*title).to_owned())).style(style)
    });
    let header = widgets::Row::new(titles.collect::<Vec<_>>());
    let body = rows.iter().map(|row| {
        let cells = row.cells.iter().enumerate();
        let cells = cells.map(|(column, cell)| aligned(column, cell.text().to_owned()));
        let style = if row.is_bad { bad() } else { Style::new() };
        widgets::Row::new(cells.collect::<Vec<_>>()).style(style)
    });
    let widths = columns.iter().map(|(_, width)| match width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(*width),
    });
    Table::new(body.collect::<Vec<_>>(), widths.collect::<Vec<_>>())
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

/// Every table that has rows, one behind the other, as plain text.
pub fn text(screen: &Screen, columns: u16) -> String {
    let mut blocks = Vec::new();
    for tab in Tab::ALL {
        let rows = screen.rows(tab);
        if rows.is_empty() {
            continue;
        }
        let height = u16::try_from(rows.len() + 1).unwrap_or(u16::MAX);
        let area = Rect::new(0, 0, columns.max(1), height);
        let mut buffer = Buffer::empty(area);
        let table = table(screen, tab, &rows);
        StatefulWidget::render(table, buffer.area, &mut buffer, &mut TableState::new());
        blocks.push(lines(&buffer));
    }
    let troubles = screen.troubles();
    if !troubles.is_empty() {
        let told = troubles.iter().map(|trouble| format!("! {trouble}"));
        blocks.push(told.collect::<Vec<_>>().join("\n"));
    }
    if blocks.is_empty() {
        return format!("no bus under {}", screen.root.display());
    }
    blocks.join("\n\n")
}

/// The lines of a buffer, without what is empty behind them.
pub fn lines(buffer: &Buffer) -> String {
    let area = buffer.area;
    let line = |y| {
        let cells = (area.left()..area.right()).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (area.top()..area.bottom())
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}
