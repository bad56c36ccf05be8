//! A YAML document as a bounded tree of text, numbers, lists and maps, and the typed, path-naming view of it.
//!
//! The file is not trusted: what it holds after its aliases are expanded is bounded, a key twice is an error, and nothing
//! but plain values is accepted.

use drydock_core::{Error, Result, text};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

/// How much a document may hold with its aliases expanded: bytes of text, and [`NODE_COST`] for each value.
const BUDGET: usize = 32 << 20;
const NODE_COST: usize = 64;
/// How many entries one list or map may have.
const MAX_ENTRIES: usize = 5000;

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// `null`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A map, in the file's order.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// Parses one document; merge keys (`<<`) are resolved.
    ///
    /// # Errors
    /// One sentence saying what is wrong, and where the parser knows it.
    pub fn parse(yaml: &str) -> std::result::Result<Tree, String> {
        let left = Cell::new(BUDGET);
        let tree = Seed(&left).deserialize(serde_yaml_ng::Deserializer::from_str(yaml));
        tree.map_err(|e| text::shorten(&e.to_string().replace('\n', " "), 300))
    }

    fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "nothing",
            Tree::Bool(_) => "true or false",
            Tree::Int(_) | Tree::Float(_) => "a number",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a map",
        }
    }
}

struct Seed<'a>(&'a Cell<usize>);

impl Seed<'_> {
    fn spend<E: serde::de::Error>(&self, bytes: usize) -> std::result::Result<(), E> {
        let left = self.0.get().checked_sub(NODE_COST + bytes);
        self.0.set(left.ok_or_else(|| E::custom("the document is too large once its aliases are expanded"))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Tree;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value (no tags)")
    }

    fn visit_unit<E: serde::de::Error>(self) -> std::result::Result<Tree, E> {
        self.spend(0).map(|()| Tree::Null)
    }

    /// An empty document.
    fn visit_none<E: serde::de::Error>(self) -> std::result::Result<Tree, E> {
        self.visit_unit()
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> std::result::Result<Tree, E> {
        self.spend(0).map(|()| Tree::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> std::result::Result<Tree, E> {
        self.spend(0).map(|()| Tree::Int(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<Tree, E> {
        self.spend(0).map(|()| Tree::Int(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Tree, E> {
        self.spend(0).map(|()| Tree::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> std::result::Result<Tree, E> {
        self.spend(value.len())?;
        if value.contains('\0') {
            Err(E::custom("text with a NUL byte"))
        } else {
            Ok(Tree::Text(value.to_string()))
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Tree, A::Error> {
        self.spend(0)?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Seed(self.0))? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Tree, A::Error> {
        self.spend(0)?;
        let mut entries: Vec<(String, Tree)> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut merged = Vec::new();
        while let Some(key) = map.next_key_seed(Seed(self.0))? {
            let key = match key {
                Tree::Text(key) => key,
                Tree::Int(number) => number.to_string(),
                other => return Err(A::Error::custom(format!("a key that is {}", other.kind()))),
            };
            if !seen.insert(key.clone()) {
                let key = text::shorten(&text::escape(&key), 60);
                return Err(A::Error::custom(format!("the key '{key}' is given twice")));
            }
            let value = map.next_value_seed(Seed(self.0))?;
            if key == "<<" { merged.push(value) } else { entries.push((key, value)) }
        }
        for value in merged {
            merge(&mut entries, &mut seen, value).map_err(A::Error::custom)?;
        }
        Ok(Tree::Map(entries))
    }
}

/// YAML's merge key: what is there already wins.
fn merge(
    entries: &mut Vec<(String, Tree)>,
    seen: &mut BTreeSet<String>,
    value: Tree,
) -> std::result::Result<(), String> {
    match value {
        Tree::Map(more) => {
            for (key, value) in more {
                if seen.insert(key.clone()) {
                    entries.push((key, value));
                }
            }
            Ok(())
        }
        Tree::List(maps) => maps.into_iter().try_for_each(|map| match map {
            Tree::Map(_) => merge(entries, seen, map),
            other => Err(format!("'<<' takes maps, not {}", other.kind())),
        }),
        other => Err(format!("'<<' takes a map, not {}", other.kind())),
    }
}

/// A value with its place: `compose.yaml: /services/web/ports/0`.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    tree: &'a Tree,
    /// The place, for errors.
    pub at: String,
}

impl<'a> Node<'a> {
    /// The document's root; `file` is its name in errors.
    pub fn root(tree: &'a Tree, file: &str) -> Self {
        Self { tree, at: format!("{file}: ") }
    }

    fn below(&self, key: &str, tree: &'a Tree) -> Self {
        Self { tree, at: format!("{}/{}", self.at, text::shorten(&text::escape(key), 100)) }
    }

    /// An error about this value.
    pub fn bad(&self, problem: impl Into<String>) -> Error {
        Error::bad_input(self.at.clone(), problem)
    }

    /// An error about a value of another type.
    fn wrong(&self, allowed: &str) -> Error {
        self.bad(format!("{} is not allowed here (allowed: {allowed})", self.tree.kind()))
    }

    fn too_many(&self) -> Error {
        self.bad(format!("more than {MAX_ENTRIES} entries"))
    }

    /// This field is none of those that are supported.
    pub fn unsupported(&self, allowed: &[&str]) -> Error {
        self.bad(format!("not supported (allowed: {})", allowed.join(", ")))
    }

    /// Nothing was given.
    pub fn is_null(&self) -> bool {
        *self.tree == Tree::Null
    }

    /// It is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.tree, Tree::Map(_))
    }

    /// It is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.tree, Tree::List(_))
    }

    /// A map's entries; nothing is an empty map.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for anything else.
    pub fn entries(&self) -> Result<Vec<(&'a str, Node<'a>)>> {
        match self.tree {
            Tree::Null => Ok(Vec::new()),
            Tree::Map(map) => {
                Ok(map.iter().map(|(key, tree)| (key.as_str(), self.below(key, tree))).collect())
            }
            _ => Err(self.wrong("a map")),
        }
    }

    /// A list's items; nothing is an empty list.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn items(&self) -> Result<Vec<Node<'a>>> {
        match self.tree {
            Tree::Null => Ok(Vec::new()),
            Tree::List(list) if list.len() > MAX_ENTRIES => Err(self.too_many()),
            Tree::List(list) => {
                Ok(list.iter().enumerate().map(|(i, tree)| self.below(&i.to_string(), tree)).collect())
            }
            _ => Err(self.wrong("a list")),
        }
    }

    /// Text.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn text(&self) -> Result<&'a str> {
        match self.tree {
            Tree::Text(text) => Ok(text),
            _ => Err(self.wrong("text")),
        }
    }

    /// Text, or a number as text.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn scalar(&self) -> Result<String> {
        match self.tree {
            Tree::Text(text) => Ok(text.clone()),
            Tree::Int(number) => Ok(number.to_string()),
            Tree::Float(number) => Ok(number.to_string()),
            Tree::Bool(value) => Ok(value.to_string()),
            _ => Err(self.wrong("text or a number")),
        }
    }

    /// A number as text: a size or a share may have a unit.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn quantity(&self) -> Result<String> {
        match self.tree {
            Tree::Bool(_) => Err(self.wrong("a number, with a unit where one applies")),
            _ => self.scalar(),
        }
    }

    /// True or false. After interpolation it may be text.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn boolean(&self) -> Result<bool> {
        match self.tree {
            Tree::Bool(value) => Ok(*value),
            Tree::Text(text) if text == "true" => Ok(true),
            Tree::Text(text) if text == "false" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// A whole number. After interpolation it may be text.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn integer(&self) -> Result<i128> {
        match self.tree {
            Tree::Int(value) => Ok(*value),
            Tree::Text(text) => text.parse().map_err(|_| self.wrong("a whole number")),
            _ => Err(self.wrong("a whole number")),
        }
    }

    /// One text, or a list of texts.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn texts(&self) -> Result<Vec<String>> {
        if let Tree::Text(text) = self.tree { Ok(vec![text.clone()]) } else { self.list_of_texts() }
    }

    /// A list of texts.
    ///
    /// # Errors
    /// As [`Node::entries`].
    pub fn list_of_texts(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(Node::scalar).collect()
    }

    /// A map, or a list of `KEY=VALUE` or `KEY`.
    ///
    /// # Errors
    /// As [`Node::entries`]; an empty key, or one given twice.
    pub fn pairs(&self) -> Result<Vec<(String, Option<String>)>> {
        let mut pairs: Vec<(String, Option<String>)> = Vec::new();
        let mut add = |node: &Node<'_>, key: &str, value: Option<String>| {
            if key.is_empty() {
                return Err(node.bad("has no key (allowed: KEY=VALUE)"));
            }
            if pairs.iter().any(|(k, _)| k == key) {
                return Err(node.bad(format!("'{}' is given twice", text::shorten(&text::escape(key), 60))));
            }
            pairs.push((key.to_string(), value));
            Ok(())
        };
        if self.is_list() {
            for node in self.items()? {
                let word = node.text()?;
                match word.split_once('=') {
                    Some((key, value)) => add(&node, key, Some(value.to_string()))?,
                    None => add(&node, word, None)?,
                }
            }
        } else {
            for (key, node) in self.entries()? {
                let value = if node.is_null() { None } else { Some(node.scalar()?) };
                if key.contains('=') {
                    return Err(node.bad("a key with '='"));
                }
                add(&node, key, value)?;
            }
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_merges() {
        let tree = Tree::parse("a: &x {p: 1, q: two}\nb: {<<: *x, p: 2.5}\nc: [null, true]").unwrap();
        let root = Node::root(&tree, "f");
        let b = &root.entries().unwrap()[1].1;
        assert_eq!(b.at, "f: /b");
        assert_eq!(b.pairs().unwrap(), [("p".into(), Some("2.5".into())), ("q".into(), Some("two".into()))]);
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "a: 1\na: 2",
            "a: !!binary aGk=\n: x",
            "? [a]\n: 1",
            "a: {<<: 1}",
            "a: [",
            "\ta: 1",
            "--- 1\n--- 2",
            "a: \"x\\0\"",
        ] {
            let error = Tree::parse(bad).unwrap_err();
            assert!(!error.contains('\n') && !error.is_empty(), "{bad}");
        }
    }

    #[test]
    fn alias_bombs_are_small() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(Tree::parse(&bomb).is_err());
        let long = format!("a: &a \"{}\"\nb: [{}]", "x".repeat(400_000), vec!["*a"; 100_000].join(","));
        assert!(Tree::parse(&long).unwrap_err().contains("too large"));
        assert!(Tree::parse(&"[".repeat(100_000)).is_err());
        assert!(Tree::parse("a: &a [*a]").is_err());
    }
}
