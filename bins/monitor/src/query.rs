//! Conditions on columns, as `--filter` takes them: `type == net && nprocs > 2`.
//!
//! Operators: `== != < <= > >=`, `=~` (the text contains it; with `*`, the whole text fits), `!~`; joined by `&&`, `||`,
//! `!` and parentheses. Numbers may have a unit (100M). A missing value is equal to nothing, and differs from everything.

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result, size};

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// At least one holds.
    Any(Vec<Query>),
    /// All hold.
    All(Vec<Query>),
    /// It does not hold.
    Not(Box<Query>),
    /// A column compared with a value.
    Is {
        /// Its name, in lower case.
        column: String,
        /// How.
        operator: Operator,
        /// With what.
        value: String,
    },
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`, `=`
    Equal,
    /// `!=`
    Different,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `=~`
    Like,
    /// `!~`
    Unlike,
}

/// The longest first: `<=` is no `<`.
const OPERATORS: [(&str, Operator); 9] = [
    ("==", Operator::Equal),
    ("!=", Operator::Different),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=~", Operator::Like),
    ("!~", Operator::Unlike),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];
/// Conditions nested deeper than this are a mistake.
const MAX_DEPTH: usize = 32;

impl Query {
    /// Parses a condition whose columns must be among `columns` (in lower case).
    ///
    /// # Errors
    /// Bad input, saying what is allowed.
    pub fn parse(text: &str, columns: &[&str]) -> Result<Self> {
        let mut parser = Parser { rest: text, columns };
        let query = parser.any(0)?;
        parser.space();
        if parser.rest.is_empty() { Ok(query) } else { Err(parser.wrong("&& or ||")) }
    }

    /// The columns that it looks at.
    pub fn columns(&self) -> Vec<String> {
        match self {
            Query::Any(all) | Query::All(all) => all.iter().flat_map(Query::columns).collect(),
            Query::Not(one) => one.columns(),
            Query::Is { column, .. } => vec![column.clone()],
        }
    }

    /// Whether it holds for a row; `get` gives the value of a column, `None` if it has none.
    pub fn holds(&self, get: &dyn Fn(&str) -> Option<String>) -> bool {
        match self {
            Query::Any(all) => all.iter().any(|q| q.holds(get)),
            Query::All(all) => all.iter().all(|q| q.holds(get)),
            Query::Not(one) => !one.holds(get),
            Query::Is { column, operator, value } => compare(get(column).as_deref(), *operator, value),
        }
    }
}

fn compare(found: Option<&str>, operator: Operator, value: &str) -> bool {
    let Some(found) = found else {
        return matches!(operator, Operator::Different | Operator::Unlike);
    };
    let order = match (number(found), number(value)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => found.cmp(value),
    };
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::Different => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
        Operator::Like => like(found, value),
        Operator::Unlike => !like(found, value),
    }
}

#[allow(clippy::cast_precision_loss)] // sizes to compare
fn number(text: &str) -> Option<f64> {
    let plain = text.strip_suffix('%').unwrap_or(text);
    let digits = plain.bytes().next().is_some_and(|b| b.is_ascii_digit());
    if !digits {
        return None;
    }
    plain.parse().ok().or_else(|| size::parse("--filter", plain).ok().map(|n| n as f64))
}

/// With `*`: the whole text fits, `*` being any text; without: it contains the pattern.
pub fn like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text.contains(pattern) };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(last)
}

struct Parser<'a> {
    rest: &'a str,
    columns: &'a [&'a str],
}

impl Parser<'_> {
    fn any(&mut self, depth: usize) -> Result<Query> {
        let mut all = vec![self.all(depth)?];
        while self.take("||") {
            all.push(self.all(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Query::Any(all) })
    }

    fn all(&mut self, depth: usize) -> Result<Query> {
        let mut all = vec![self.one(depth)?];
        while self.take("&&") {
            all.push(self.one(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Query::All(all) })
    }

    fn one(&mut self, depth: usize) -> Result<Query> {
        if depth > MAX_DEPTH {
            return Err(Error::bad_input("--filter", format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.take("!") {
            return Ok(Query::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err(self.wrong(")")) };
        }
        let column = self.word();
        if column.is_empty() {
            return Err(self.wrong("a column"));
        }
        let name = column.to_ascii_lowercase();
        if !self.columns.contains(&name.as_str()) {
            let shown = shorten(&escape(&column), 40);
            let allowed = self.columns.join(", ");
            return Err(Error::bad_input(
                "--filter",
                format!("unknown column '{shown}' (allowed: {allowed})"),
            ));
        }
        self.space();
        let found = OPERATORS.iter().find(|(sign, _)| self.rest.starts_with(sign));
        let Some((sign, operator)) = found else {
            return Err(self.wrong("an operator: == != < <= > >= =~ !~"));
        };
        self.rest = self.rest.get(sign.len()..).unwrap_or("");
        let value = self.value()?;
        Ok(Query::Is { column: name, operator: *operator, value })
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, sign: &str) -> bool {
        self.space();
        let after = self.rest.strip_prefix(sign);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn word(&mut self) -> String {
        self.space();
        let ends = |c: char| c.is_whitespace() || "=!<>~&|()\"'".contains(c);
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_string()
    }

    /// A word, or anything in quotes.
    fn value(&mut self) -> Result<String> {
        self.space();
        for quote in ['"', '\''] {
            if let Some(inside) = self.rest.strip_prefix(quote) {
                let Some((value, rest)) = inside.split_once(quote) else {
                    return Err(self.wrong("a closing quote"));
                };
                self.rest = rest;
                return Ok(value.to_string());
            }
        }
        let word = self.word();
        if word.is_empty() { Err(self.wrong("a value")) } else { Ok(word) }
    }

    fn wrong(&self, wanted: &str) -> Error {
        let at = match self.rest.trim() {
            "" => "the end".to_string(),
            rest => format!("'{}'", shorten(&escape(rest), 40)),
        };
        Error::bad_input("--filter", format!("at {at}: {wanted} wanted (as in: type == net && nprocs > 2)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        let row = |column: &str| match column {
            "type" => Some("net".to_string()),
            "nprocs" => Some("12".to_string()),
            "memory" => Some("104857600".to_string()),
            "command" => Some("sleep 60".to_string()),
            _ => None,
        };
        Query::parse(text, &["type", "nprocs", "memory", "command", "user"]).unwrap().holds(&row)
    }

    #[test]
    fn compares() {
        for yes in [
            "type == net",
            "TYPE=net && nprocs>2",
            "nprocs < 100 || type == pid",
            "!(type == pid)",
            "memory >= 100M",
            "memory < 1G",
            "command =~ leep",
            "command =~ 's*60'",
            "command !~ 'x*'",
            "command == \"sleep 60\"",
            "user != root",
            "(type==pid||type==net)&&nprocs<=12",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "type == pid",
            "nprocs > 12",
            "user == root",
            "command =~ '*61'",
            "!type==net",
            "command =~ 'p*p*'",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn bad_conditions_say_what_is_allowed() {
        let deep = format!("{}type==net", "(".repeat(100));
        for bad in [
            "",
            "a",
            "a==b",
            "type",
            "type ==",
            "type == net &&",
            "type == net x",
            "(type==net",
            "type == 'x",
            &deep,
        ] {
            let error = Query::parse(bad, &["type"]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}: {error}");
        }
        assert!(Query::parse("a==b", &["type"]).unwrap_err().to_string().contains("allowed: type"));
    }
}
