//! `monitor top` on a terminal: the loop between keys, samples and what is drawn.

mod app;
mod canvas;
mod details;
mod draw;
mod keys;
mod shell;
mod terminal;
mod tree;

use crate::Session;
use crate::args::Top;
use crate::model::machine::Machine;
use crate::model::sampler::{Row, Sampler};
use crate::view::top::Wishes;
use app::{Act, App};
use canvas::{Canvas, Screen};
use drydock_core::Result;
use std::time::{Duration, Instant};
use terminal::{Event, Terminal};

/// The first figures come after this time, however long the interval is.
const FIRST: Duration = Duration::from_millis(500);

/// So long after the last look rates make sense.
const SOON: Duration = Duration::from_millis(250);

/// Runs until it is left. The terminal is as before then, however it ends.
///
/// # Errors
/// When /proc or the state directory cannot be read, or the terminal not be set.
pub fn run(session: &Session, options: &Top, wishes: Wishes) -> Result<()> {
    let mut app = App::new(options, wishes);
    let mut sampler = Sampler::new(session.root.as_deref());
    let mut machine = Machine::default();
    app.look(session, &mut sampler, &mut machine)?;
    let mut terminal = Terminal::enter()?;
    let mut screen = Screen::default();
    let mut due = Instant::now() + FIRST.min(app.interval);
    loop {
        let (width, height) = terminal.size();
        screen.show(&app.draw(session, width, height))?;
        let wait = if app.paused { None } else { Some(due.saturating_duration_since(Instant::now())) };
        match terminal.wait(wait)? {
            Event::Tick => {
                app.look(session, &mut sampler, &mut machine)?;
                due = Instant::now() + app.interval;
            }
            Event::Resize => {
                screen.forget();
                due = due.min(Instant::now() + SOON);
            }
            Event::Keys(keys) => {
                for key in keys {
                    match app.press(key) {
                        Act::Nothing => {}
                        Act::Quit => return Ok(()),
                        Act::Redraw => screen.forget(),
                        Act::Look => due = Instant::now(),
                        Act::Soon => due = due.min(Instant::now() + SOON),
                        Act::Shell => match selected(&app).map(|row| shell::command(session, &row)) {
                            None => {}
                            Some(Err(error)) => app.message = Some(error.to_string()),
                            Some(Ok(command)) => {
                                match shell::run(&mut terminal, command)? {
                                    Some(Event::Signal(signal)) => {
                                        drop(terminal);
                                        return terminal::die_of(signal);
                                    }
                                    Some(_) => return Ok(()),
                                    None => {}
                                }
                                screen.forget();
                                due = Instant::now();
                                // What was typed right after it was meant for the shell.
                                break;
                            }
                        },
                        Act::Suspend => {
                            terminal.suspend()?;
                            screen.forget();
                        }
                    }
                }
            }
            Event::Ended => return Ok(()),
            Event::Signal(signal) => {
                drop(terminal);
                return terminal::die_of(signal);
            }
        }
    }
}

fn selected(app: &App) -> Option<Row> {
    app.rows.get(app.at()).map(|(_, row)| row.clone())
}

/// One screen of this size as text, after one interval: for reports and documentation.
///
/// # Errors
/// As [`run`].
pub fn snapshot(session: &Session, options: &Top, wishes: Wishes, size: (usize, usize)) -> Result<String> {
    let mut app = App::new(options, wishes);
    let mut sampler = Sampler::new(session.root.as_deref());
    let mut machine = Machine::default();
    app.look(session, &mut sampler, &mut machine)?;
    std::thread::sleep(app.interval);
    app.look(session, &mut sampler, &mut machine)?;
    Ok(app.draw(session, size.0, size.1).plain())
}

/// What is drawn on: the smallest and the largest that make sense.
fn bounded(width: usize, height: usize) -> (usize, usize) {
    // A terminal that does not know its size says 0.
    let width = if width == 0 { 80 } else { width };
    let height = if height == 0 { 24 } else { height };
    (width.min(1000), height.min(1000))
}

fn blank(width: usize, height: usize) -> Canvas {
    let (width, height) = bounded(width, height);
    Canvas::new(width, height)
}
