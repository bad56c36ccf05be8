//! The state of the full screen, and what keys do to it.

use super::keys::Key;
use super::tree;
use crate::Session;
use crate::args::Top;
use crate::model::machine::Machine;
use crate::model::sampler::{Row, Sampler};
use crate::query::Query;
use crate::view::top::{Wishes, condition};
use crate::view::topcolumns::{Column, sort};
use crate::view::topneeds::scope;
use drydock_core::Result;
use std::time::Duration;

/// What is asked of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Only drawing.
    Nothing,
    /// The end.
    Quit,
    /// Everything anew.
    Redraw,
    /// A sample now.
    Look,
    /// A sample before long: something is shown that was not read so far.
    Soon,
    /// Ctrl-Z.
    Suspend,
    /// A shell in the selected container.
    Shell,
}

/// What the screen shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The table.
    Table,
    /// The keys.
    Help,
    /// Which columns: the one under the cursor.
    Columns(usize),
    /// Typing a filter.
    Filter(String),
}

/// Columns until others are chosen; those on the right are left out where there is no room.
const USUAL: [Column; 15] = [
    Column::Name,
    Column::Runtime,
    Column::Procs,
    Column::Cpu,
    Column::Throttled,
    Column::Memory,
    Column::MemoryPercent,
    Column::PsiMemory,
    Column::Read,
    Column::Write,
    Column::Swap,
    Column::Rx,
    Column::Tx,
    Column::PsiCpu,
    Column::PsiIo,
];

/// The state.
pub struct App {
    /// Time between two samples.
    pub interval: Duration,
    /// No samples are taken.
    pub paused: bool,
    /// What the screen shows.
    pub mode: Mode,
    /// The pane about the selected row is open.
    pub details: bool,
    /// As a tree of cgroups.
    pub tree: bool,
    /// Sorting and filter.
    pub wishes: Wishes,
    /// The filter as it was typed.
    pub filter_text: String,
    /// Columns in their order.
    pub columns: Vec<Column>,
    /// The rows that are shown, with their depths.
    pub rows: Vec<(usize, Row)>,
    /// All rows of the last sample.
    pub all: Vec<Row>,
    /// The selected row's name.
    pub selected: Option<String>,
    /// A row was chosen: until then the first one is selected, whichever it is.
    pub chosen: bool,
    /// The first row on the screen.
    pub first: usize,
    /// Rows that fit on the screen.
    pub page: usize,
    /// The screen's width, as last drawn: what does not fit is not read.
    pub width: usize,
    /// The machine.
    pub machine: Machine,
    /// What went wrong with the last key.
    pub message: Option<String>,
}

impl App {
    /// As the command line asks.
    pub fn new(options: &Top, wishes: Wishes) -> Self {
        Self {
            interval: options.sampling.interval(),
            paused: false,
            mode: Mode::Table,
            details: options.details,
            tree: options.tree,
            columns: wishes.columns.clone().unwrap_or_else(|| USUAL.to_vec()),
            filter_text: options.filter.clone().unwrap_or_default(),
            wishes,
            rows: Vec::new(),
            all: Vec::new(),
            selected: None,
            chosen: false,
            first: 0,
            page: 10,
            width: usize::MAX,
            machine: Machine::default(),
            message: None,
        }
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn look(&mut self, session: &Session, sampler: &mut Sampler, machine: &mut Machine) -> Result<()> {
        let mut columns = self.fitting(self.width);
        columns.push(self.wishes.sort);
        sampler.scope = scope(&columns, self.wishes.filter.as_ref());
        sampler.scope.whole = self.selected.clone().filter(|_| self.details);
        sampler.ancestors(self.tree);
        self.all = sampler.sample(&session.proc, &|_| true)?;
        machine.look(&session.proc);
        self.machine = machine.clone();
        self.arrange();
        if self.details && self.selected != sampler.scope.whole {
            let at = self.at();
            if let Some((_, row)) = self.rows.get_mut(at) {
                sampler.complete(&session.proc, row);
            }
        }
        Ok(())
    }

    /// Sorts and filters what was sampled.
    fn arrange(&mut self) {
        let mut rows: Vec<Row> = self.all.iter().filter(|row| self.wishes.wants(row)).cloned().collect();
        sort(&mut rows, self.wishes.sort, self.wishes.reverse);
        self.rows =
            if self.tree { tree::order(rows) } else { rows.into_iter().map(|row| (0, row)).collect() };
        if !self.chosen {
            self.select(0);
        }
        if self.selected.as_ref().is_none_or(|name| !self.rows.iter().any(|(_, row)| row.name == *name)) {
            self.select(self.first);
        }
    }

    /// The place of the selected row.
    pub fn at(&self) -> usize {
        let name = self.selected.as_deref();
        self.rows.iter().position(|(_, row)| Some(row.name.as_str()) == name).unwrap_or(0)
    }

    fn select(&mut self, at: usize) {
        let at = at.min(self.rows.len().saturating_sub(1));
        self.selected = self.rows.get(at).map(|(_, row)| row.name.clone());
    }

    /// Keeps the selected row on a screen with `page` rows.
    pub fn scroll(&mut self, page: usize) {
        let at = self.at();
        self.page = page.max(1);
        self.first = self.first.min(at).max((at + 1).saturating_sub(self.page));
    }

    /// What a key does.
    pub fn press(&mut self, key: Key) -> Act {
        self.message = None;
        match key {
            Key::Ctrl('c') => return Act::Quit,
            Key::Ctrl('z') => return Act::Suspend,
            Key::Ctrl('l') => return Act::Redraw,
            _ => {}
        }
        let before = self.shown();
        let act = match self.mode.clone() {
            Mode::Table => self.in_table(key),
            Mode::Help => {
                self.mode = Mode::Table;
                Act::Redraw
            }
            Mode::Columns(at) => self.in_columns(key, at),
            Mode::Filter(text) => self.in_filter(key, text),
        };
        if act == Act::Nothing && before != self.shown() { Act::Soon } else { act }
    }

    /// What has to be read depends on it.
    fn shown(&self) -> (Option<String>, Column, String) {
        (self.selected.clone().filter(|_| self.details), self.wishes.sort, self.filter_text.clone())
    }

    fn in_table(&mut self, key: Key) -> Act {
        let at = self.at();
        self.chosen |= matches!(
            key,
            Key::Up | Key::Down | Key::PageUp | Key::PageDown | Key::Home | Key::End | Key::Enter
        ) || matches!(key, Key::Char('j' | 'k' | 'g' | 'G' | 'd'));
        match key {
            Key::Char('q') => return Act::Quit,
            Key::Escape => {
                // The way back: first the pane, then the filter.
                if self.details {
                    self.details = false;
                } else if self.wishes.filter.take().is_some() {
                    self.filter_text.clear();
                    self.arrange();
                }
            }
            Key::Up | Key::Char('k') => self.select(at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(at + 1),
            Key::PageUp => self.select(at.saturating_sub(self.page)),
            Key::PageDown => self.select(at + self.page),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Enter | Key::Char('d') => {
                self.details = !self.details;
                return Act::Look;
            }
            Key::Char('s' | '>') | Key::Right => self.sort_by_next(1),
            Key::Char('S' | '<') | Key::Left => self.sort_by_next(-1),
            Key::Char('r') => {
                self.wishes.reverse = !self.wishes.reverse;
                self.arrange();
            }
            Key::Char(letter @ ('P' | 'M' | 'N' | 'I')) => {
                self.wishes.sort = match letter {
                    'P' => Column::Cpu,
                    'M' => Column::Memory,
                    'N' => Column::Name,
                    _ => Column::Read,
                };
                self.arrange();
            }
            Key::Char('t') => {
                self.tree = !self.tree;
                return Act::Look;
            }
            Key::Char('e') => return Act::Shell,
            Key::Char('o') => {
                self.wishes.containers = !self.wishes.containers;
                self.arrange();
            }
            Key::Char('/') => self.mode = Mode::Filter(self.filter_text.clone()),
            Key::Char('c') => self.mode = Mode::Columns(0),
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                return if self.paused { Act::Nothing } else { Act::Look };
            }
            Key::Char('+' | '=') => self.interval = (self.interval * 2).min(Duration::from_secs(60)),
            Key::Char('-') => self.interval = (self.interval / 2).max(Duration::from_millis(250)),
            _ => {}
        }
        Act::Nothing
    }

    fn sort_by_next(&mut self, step: isize) {
        let at = self.columns.iter().position(|c| *c == self.wishes.sort).unwrap_or(0);
        let count = self.columns.len().max(1);
        let next = at.saturating_add_signed(step + isize::try_from(count).unwrap_or(1)) % count;
        if let Some(column) = self.columns.get(next) {
            self.wishes.sort = *column;
        }
        self.arrange();
    }

    fn in_columns(&mut self, key: Key, at: usize) -> Act {
        let all: Vec<Column> = Column::all().collect();
        let last = all.len() - 1;
        match key {
            Key::Up | Key::Char('k') => self.mode = Mode::Columns(at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.mode = Mode::Columns((at + 1).min(last)),
            Key::Home => self.mode = Mode::Columns(0),
            Key::End => self.mode = Mode::Columns(last),
            Key::Char(' ' | 'x') => {
                let Some(column) = all.get(at).filter(|c| **c != Column::Name) else { return Act::Nothing };
                match self.columns.iter().position(|c| c == column) {
                    Some(there) => {
                        self.columns.remove(there);
                    }
                    // Right after the name: what is chosen is not left out for want of room.
                    None => self.columns.insert(1.min(self.columns.len()), *column),
                }
            }
            _ => {
                self.mode = Mode::Table;
                return Act::Look;
            }
        }
        Act::Nothing
    }

    fn in_filter(&mut self, key: Key, mut text: String) -> Act {
        match key {
            Key::Char(c) if text.chars().count() < 200 => text.push(c),
            Key::Backspace => {
                text.pop();
            }
            Key::Ctrl('u') => text.clear(),
            Key::Escape => {
                self.mode = Mode::Table;
                return Act::Nothing;
            }
            Key::Enter => {
                self.mode = Mode::Table;
                match filter(&text) {
                    Ok(query) => {
                        (self.wishes.filter, self.filter_text) = (query, text);
                        self.first = 0;
                        self.arrange();
                    }
                    Err(error) => self.message = Some(error.to_string()),
                }
                return Act::Nothing;
            }
            _ => {}
        }
        self.mode = Mode::Filter(text);
        Act::Nothing
    }
}

/// A condition, or a part of a name.
fn filter(text: &str) -> Result<Option<Query>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.contains(['=', '<', '>', '~']) {
        let (column, operator) = ("name".to_string(), crate::query::Operator::Like);
        return Ok(Some(Query::Is { column, operator, value: text.to_string() }));
    }
    condition(text).map(Some)
}
