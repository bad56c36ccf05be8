//! `--timings`: where a verb's time goes, as a table or as JSON in a file.

use crate::watch::{Show, Watch, rows, table};
use drydock_core::error::CallExt;
use drydock_core::text::escape;
use drydock_core::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The option.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Timings {
    /// Print the wall time of each stage at the end; with =FILE write it there as JSON
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, help_heading = "Output")]
    pub timings: Option<Option<PathBuf>>,
}

impl Timings {
    /// Looks at the place of the file before anything is made, not when all is done, and starts the clock.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] when nothing can be written there.
    pub fn watch(&self) -> Result<Watch> {
        self.check()?;
        Ok(Watch::new(Show { timings: self.timings.is_some(), ..Show::default() }))
    }

    /// The look alone.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    pub fn check(&self) -> Result<()> {
        let Some(Some(file)) = &self.timings else { return Ok(()) };
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if parent.is_dir() && !file.is_dir() {
            return Ok(());
        }
        let shown = escape(&file.to_string_lossy());
        let problem = format!("'{shown}' cannot be written (allowed: a file in a directory that exists)");
        Err(Error::bad_input("--timings", problem))
    }

    /// Says what was measured.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn report(&self, id: &str, watch: &Watch) -> Result<()> {
        let total = watch.elapsed();
        match &self.timings {
            Some(Some(file)) => {
                let total_us = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
                let timings =
                    json!({ "id": id, "stages": rows(&watch.stages(), total), "total_us": total_us });
                std::fs::write(file, format!("{timings:#}\n"))
                    .call(|| format!("write({file:?})"))
                    .map_err(|e| e.on("--timings"))
            }
            Some(None) => {
                drydock_cli::output::print_error_text(&table(&watch.stages(), total));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
