//! How the command ended, as one line of JSON.

use crate::stay::Report;
use drydock_core::exit::Ended;
use drydock_supervise::signals::signal_name;
use serde_json::{Value, json};
use std::ffi::OsString;

/// `exited 3`, `killed by SIGTERM`.
pub fn how(ended: Ended) -> String {
    match ended {
        Ended::Exited(code) => format!("exited {code}"),
        Ended::Signaled(number) => format!("killed by {}", signal_name(i32::from(number))),
    }
}

fn end(ended: Ended) -> Value {
    match ended {
        Ended::Exited(code) => json!({ "exit_code": code, "signal": null }),
        Ended::Signaled(number) => {
            json!({ "exit_code": ended.code(), "signal": signal_name(i32::from(number)) })
        }
    }
}

/// The report of an init that stayed.
pub fn full(command: &[OsString], report: &Report) -> Value {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let first: Vec<Value> = report.reaped.first.iter().map(|(pid, ended)| one(*pid, *ended)).collect();
    let main = report.main.map(|(pid, ended)| one(pid, ended));
    json!({
        "command": words,
        "exit_code": report.code,
        "main": main,
        "milliseconds": report.milliseconds,
        "reaped": { "count": report.reaped.count, "first": first },
        "killed": report.killed,
    })
}

fn one(pid: i32, ended: Ended) -> Value {
    let mut value = end(ended);
    if let Some(object) = value.as_object_mut() {
        object.insert("pid".to_string(), json!(pid));
    }
    value
}
