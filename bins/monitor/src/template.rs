//! `--format`: `json`, or a template such as `{{.name}} {{.memory.current}}`, one line for each row.
//!
//! Names are those of the JSON document, in any case; `{{.}}` and `{{json .x}}` print JSON. `\t` and `\n` are a tab and a new
//! line; a leading `table ` prints a heading first.

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    table: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// Bad input: a brace that is not closed, something else than a field in braces.
    pub fn parse(text: &str) -> Result<Self> {
        let (table, mut rest) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.trim().is_empty() || !rest.contains("{{") {
            let shown = shorten(&escape(text), 40);
            let allowed = "json, or a template such as '{{.name}} {{.pid}}'";
            return Err(Error::bad_input("--format", format!("'{shown}' is unknown (allowed: {allowed})")));
        }
        let mut parts = Vec::new();
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(unescape(before)));
            let Some((inside, behind)) = after.split_once("}}") else {
                return Err(Error::bad_input("--format", "'{{' without '}}' (as in: {{.name}})"));
            };
            parts.push(field(inside)?);
            rest = behind;
        }
        parts.push(Part::Text(unescape(rest)));
        Ok(Self { parts, table })
    }

    /// The lines for a document: each element of an array, or the one object.
    ///
    /// # Errors
    /// Bad input for a field that the rows do not have.
    pub fn render(&self, document: &Value) -> Result<String> {
        let rows: Vec<&Value> = match document {
            Value::Array(rows) => rows.iter().collect(),
            one => vec![one],
        };
        let mut text = String::new();
        if self.table {
            text.push_str(&self.heading());
        }
        for row in rows {
            text.push_str(&self.row(row)?);
        }
        Ok(text)
    }

    fn heading(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field { path, .. } => {
                path.last().map_or(String::new(), |name| escape(&name.to_uppercase()))
            }
        };
        let mut line: String = self.parts.iter().map(part).collect();
        line.push('\n');
        line
    }

    fn row(&self, row: &Value) -> Result<String> {
        let mut line = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field { path, json } => line.push_str(&show(look(row, path)?, *json)),
            }
        }
        line.push('\n');
        Ok(line)
    }
}

fn field(inside: &str) -> Result<Part> {
    let inside = inside.trim();
    let (json, name) = match inside.strip_prefix("json ") {
        Some(name) => (true, name.trim()),
        None => (false, inside),
    };
    let path = name.strip_prefix('.').filter(|p| !p.contains(char::is_whitespace));
    let Some(path) = path else {
        let shown = shorten(&escape(inside), 40);
        return Err(Error::bad_input(
            "--format",
            format!("'{{{{{shown}}}}}' is no field (as in: {{{{.name}}}}, {{{{json .}}}})"),
        ));
    };
    Ok(Part::Field { path: path.split('.').filter(|p| !p.is_empty()).map(str::to_string).collect(), json })
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn look<'a>(row: &'a Value, path: &[String]) -> Result<&'a Value> {
    let mut at = row;
    for name in path {
        at = match at {
            Value::Object(map) => {
                let found = map.get(name).or_else(|| map.iter().find(|(k, _)| same(k, name)).map(|(_, v)| v));
                found.ok_or_else(|| {
                    let shown = shorten(&escape(name), 40);
                    let known: Vec<&str> = map.keys().map(String::as_str).collect();
                    let problem = format!("no field '{shown}' (allowed here: {})", known.join(", "));
                    Error::bad_input("--format", problem)
                })?
            }
            Value::Array(list) => {
                name.parse::<usize>().ok().and_then(|n| list.get(n)).unwrap_or(&Value::Null)
            }
            // Nothing is below what is not known.
            _ => &Value::Null,
        };
    }
    Ok(at)
}

/// `CPUPercent` means `cpu_percent`.
fn same(key: &str, name: &str) -> bool {
    let plain =
        |text: &str| text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect::<String>();
    plain(key) == plain(name)
}

fn show(value: &Value, json: bool) -> String {
    match value {
        Value::Null if !json => "-".to_string(),
        Value::String(text) if !json => escape(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str, value: &Value) -> String {
        Template::parse(template).unwrap().render(value).unwrap()
    }

    #[test]
    fn fields() {
        let rows = json!([{"name": "a\u{1b}", "memory": {"current": 5}, "cpu_percent": null}, {"name": "b", "memory": {"current": 6}, "cpu_percent": 1.5}]);
        assert_eq!(render("{{.Name}}\\t{{ .memory.current }}", &rows), "a\\x1b\t5\nb\t6\n");
        assert_eq!(render("table {{.name}} {{.CPUPercent}}", &rows), "NAME CPUPERCENT\na\\x1b -\nb 1.5\n");
        assert_eq!(render("{{json .memory}}", &rows[1]), "{\"current\":6}\n");
        assert_eq!(render("x{{json .}}", &json!(1)), "x1\n");
    }

    #[test]
    fn bad_templates() {
        for bad in ["", "xml", "{{.Foo", "{{Foo}}", "{{range .}}", "table "] {
            assert_eq!(Template::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        let error = Template::parse("{{.nope}}").unwrap().render(&json!({"name": 1})).unwrap_err();
        assert!(error.to_string().contains("allowed here: name"), "{error}");
    }
}
