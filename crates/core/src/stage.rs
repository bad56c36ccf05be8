//! The stage contract: `Request → validate() → Plan → apply(&Ctx) → Report`.
//!
//! Each stage crate has its own `Request` (serde; what was asked), `Plan` (typed steps; nothing touched yet) and
//! `Report` (what now exists). Each typed step implements [`Explain`], and `apply` passes every step through
//! [`Ctx::perform`]: that is where `--explain`, `--timings`, the journal and the error's stage come from, so what is
//! explained is what runs.

use crate::journal::{Journal, Object};
use crate::{Error, Result, failpoint};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// A step as people and machines read it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Step {
    /// The stage it belongs to: `cgroup`, `clone`, `network`, `mounts`, `security`, …
    pub stage: Cow<'static, str>,
    /// The system call with its arguments, as strace shows it.
    pub call: String,
    /// Why, in one line.
    pub why: Cow<'static, str>,
    /// The man page or kernel document that describes it: `mount(2)`.
    pub man: Cow<'static, str>,
    /// What undoes it; `None` if it vanishes with the container.
    pub undo: Option<String>,
}

/// Something that can say what it is about to do.
pub trait Explain {
    /// The step in words. Called only when somebody listens, or when it failed.
    fn explain(&self) -> Step;

    /// The object that would leak if the process were killed right after this step; recorded before the step is done.
    fn leaves(&self) -> Option<Object> {
        None
    }
}

/// Watches steps: `--explain` prints them before, `--timings` measures them.
pub trait Observer {
    /// False when nobody listens: then no text is made.
    fn wants(&self) -> bool;
    /// A step is about to be done.
    fn before(&self, step: &Step);
    /// The step has ended, well or not.
    fn after(&self, step: &Step, took: Duration, ok: bool);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {
    fn wants(&self) -> bool {
        false
    }
    fn before(&self, _: &Step) {}
    fn after(&self, _: &Step, _: Duration, _: bool) {}
}

/// What `apply` needs besides its plan: who watches, and where leaks are written down.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    observer: &'a dyn Observer,
    journal: Option<&'a Journal>,
}

impl<'a> Ctx<'a> {
    /// A context with an observer, and a journal if the objects belong to a container.
    pub fn new(observer: &'a dyn Observer, journal: Option<&'a Journal>) -> Self {
        Self { observer, journal }
    }

    /// Nobody watches, nothing is recorded.
    pub fn silent() -> Ctx<'static> {
        Ctx { observer: &Silent, journal: None }
    }

    /// The observer, for steps that cannot be a closure.
    pub fn observer(&self) -> &'a dyn Observer {
        self.observer
    }

    /// Records an object before it is made. Without a journal this does nothing.
    ///
    /// # Errors
    /// When the journal cannot be written: then the object must not be made.
    pub fn record(&self, object: &Object) -> Result<()> {
        self.journal.map_or(Ok(()), |journal| journal.record(object))
    }

    /// Does one step: tells the observer, records what could leak, acts, and names the stage and the call if it fails.
    ///
    /// # Errors
    /// The journal's, or `act`'s with the step's stage.
    pub fn perform<S: Explain, T>(&self, step: &S, act: impl FnOnce(&S) -> Result<T>) -> Result<T> {
        let shown = self.observer.wants().then(|| step.explain());
        if let Some(shown) = &shown {
            self.observer.before(shown);
        }
        let started = shown.as_ref().map(|_| Instant::now());
        let point = |when: &str| failpoint::pass(|| format!("{}-{when}", name_of(&step.explain())));
        let recorded = step.leaves().map_or(Ok(()), |object| self.record(&object));
        point("begins");
        let result = recorded.and_then(|()| act(step));
        point("ends");
        if let (Some(shown), Some(started)) = (&shown, started) {
            self.observer.after(shown, started.elapsed(), result.is_ok());
        }
        result.map_err(|e| Self::name(e, step))
    }

    /// Does what has no typed step of its own, and tells the observer how long it took.
    pub fn measure<T>(
        &self,
        stage: &'static str,
        call: &'static str,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let point = |when: &str| failpoint::pass(|| format!("{stage}-{call}-{when}"));
        point("begins");
        let act = || {
            let result = act();
            point("ends");
            result
        };
        if !self.observer.wants() {
            return act();
        }
        let started = Instant::now();
        let result = act();
        let step =
            Step { stage: stage.into(), call: call.into(), why: "".into(), man: "".into(), undo: None };
        self.observer.after(&step, started.elapsed(), result.is_ok());
        result
    }

    fn name<S: Explain>(error: Error, step: &S) -> Error {
        match step.explain().stage {
            Cow::Borrowed(stage) => error.in_stage(stage),
            Cow::Owned(stage) => error.on(stage),
        }
    }
}

/// A step's name as a failpoint: its stage and its call.
fn name_of(step: &Step) -> String {
    let call = step.call.split(['(', ' ', ':']).next().unwrap_or_default();
    format!("{}-{call}", step.stage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Touch;
    impl Explain for Touch {
        fn explain(&self) -> Step {
            Step {
                stage: "demo".into(),
                call: "touch()".into(),
                why: "because".into(),
                man: "touch(1)".into(),
                undo: None,
            }
        }
        fn leaves(&self) -> Option<Object> {
            Some(Object::File { path: "/x".into() })
        }
    }

    #[derive(Default)]
    struct Log(RefCell<Vec<String>>);
    impl Observer for Log {
        fn wants(&self) -> bool {
            true
        }
        fn before(&self, s: &Step) {
            self.0.borrow_mut().push(format!("before {}", s.call));
        }
        fn after(&self, _: &Step, _: Duration, ok: bool) {
            self.0.borrow_mut().push(format!("after {ok}"));
        }
    }

    #[test]
    fn records_before_acting_and_names_the_stage() {
        let dir = std::env::temp_dir().join(format!("drydock-stage-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let journal = Journal::create(&dir).unwrap();
        let log = Log::default();
        let ctx = Ctx::new(&log, Some(&journal));
        let error = ctx
            .perform(&Touch, |_| -> Result<()> {
                assert_eq!(Journal::read(&dir).unwrap(), [Object::File { path: "/x".into() }]);
                Err(Error::failed("x", "no"))
            })
            .unwrap_err();
        assert_eq!(error.stage(), Some("demo"));
        assert_eq!(*log.0.borrow(), ["before touch()", "after false"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
