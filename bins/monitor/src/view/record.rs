//! `monitor record` and `monitor replay`.

use super::top::{condition, text, warn_of};
use super::topcolumns::{Column, sort, value};
use crate::Session;
use crate::args::{Record, Replay};
use crate::model::recording::{Player, Recorder, Sample};
use crate::model::sampler::{Row, Sampler};
use crate::model::units::Unit;
use drydock_cli::output::print_text;
use drydock_core::Result;
use serde::Serialize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// `monitor record`: until it is interrupted, or for so many samples.
///
/// # Errors
/// When the file is there, or cannot be written.
pub fn record(session: &Session, options: &Record) -> Result<()> {
    let mut recorder = Recorder::create(&options.file)?;
    let mut sampler = Sampler::new(session.root.as_deref());
    let all = options.all;
    let mut due = Instant::now();
    let mut done = 0;
    loop {
        let rows = sampler.sample(&session.proc, &|unit: &Unit| all || unit.is_container())?;
        if done == 0 {
            warn_of(&sampler);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        recorder.add(u64::try_from(now.as_millis()).unwrap_or(0), &rows)?;
        done += 1;
        if options.count.is_some_and(|count| done >= count) {
            return Ok(());
        }
        // Not one interval after the end of the last look: samples do not drift.
        due += options.interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// A sample as JSON.
#[derive(Serialize)]
struct Document<'a> {
    /// Seconds since the epoch.
    time: f64,
    containers: &'a [Row],
}

/// `monitor replay`.
///
/// # Errors
/// Bad input: no recording, unknown columns, bad conditions.
pub fn replay(session: &Session, options: &Replay) -> Result<()> {
    let columns = [
        Column::Name,
        Column::Runtime,
        Column::Procs,
        Column::Cpu,
        Column::Throttled,
        Column::Memory,
        Column::Limit,
        Column::MemoryPercent,
        Column::Read,
        Column::Write,
        Column::Rx,
        Column::Tx,
        Column::Pids,
        Column::PsiMemory,
    ];
    let columns = match &options.output {
        Some(list) => Column::list("--output", list, &columns)?,
        None => columns.to_vec(),
    };
    let order = match &options.sort {
        Some(name) => Column::named(name).ok_or_else(|| Column::unknown("--sort", name))?,
        None => Column::Cpu,
    };
    let filter = options.filter.as_deref().map(condition).transpose()?;
    let mut player = Player::open(&options.file)?;
    let mut last = None;
    while let Some(Sample { time_ms, mut rows }) = player.next_sample() {
        if let (Some(speed), Some(last)) = (options.speed, last) {
            let pause = Duration::from_millis(time_ms.saturating_sub(last)).div_f64(speed);
            std::thread::sleep(pause.min(Duration::from_secs(3600)));
        }
        last = Some(time_ms);
        rows.retain(|row| filter.as_ref().is_none_or(|q| q.holds(&|column| value(row, column))));
        sort(&mut rows, order, false);
        #[allow(clippy::cast_precision_loss)] // a time
        let time = time_ms as f64 / 1000.0;
        if session.json {
            match session.template {
                Some(_) => session.print_sample(&rows)?,
                None => session.print_sample(&Document { time, containers: &rows })?,
            }
        } else {
            print_text(&format!("{}\n{}\n", moment(time_ms), text(&rows, &columns)))?;
        }
    }
    Ok(())
}

/// UTC with seconds, as in the file.
fn moment(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date of a day number: years that begin in March, in eras of 400.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments() {
        assert_eq!(super::moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::moment(951_868_799_000), "2000-02-29T23:59:59Z");
    }
}
