//! Rows under each other as their cgroups are.

use crate::model::sampler::Row;
use std::collections::BTreeMap;

/// Rows in the order given, each followed by those whose cgroups are below its own: (depth, row).
pub fn order(rows: Vec<Row>) -> Vec<(usize, Row)> {
    let places: BTreeMap<String, usize> =
        rows.iter().enumerate().map(|(n, row)| (row.path.clone(), n)).collect();
    let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (n, row) in rows.iter().enumerate() {
        let above = above(&row.path).find_map(|path| places.get(path).copied()).filter(|p| *p != n);
        children.entry(above).or_default().push(n);
    }
    let mut waiting: Vec<(usize, usize)> =
        children.remove(&None).unwrap_or_default().into_iter().rev().map(|n| (0, n)).collect();
    let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(rows.len());
    while let Some((depth, n)) = waiting.pop() {
        let below = children.remove(&Some(n)).unwrap_or_default();
        waiting.extend(below.into_iter().rev().map(|n| (depth + 1, n)));
        if let Some(row) = rows.get_mut(n).and_then(Option::take) {
            ordered.push((depth, row));
        }
    }
    ordered
}

/// The paths above a path, the nearest first.
fn above(path: &str) -> impl Iterator<Item = &str> {
    let mut at = path;
    std::iter::from_fn(move || {
        let (above, _) = at.trim_end_matches('/').rsplit_once('/')?;
        at = above;
        Some(if above.is_empty() { "/" } else { above })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_paths_above() {
        assert_eq!(super::above("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(super::above("/a").collect::<Vec<_>>(), ["/"]);
        assert_eq!(super::above("pid:[1]").count(), 0);
        assert!(super::above("/").count() < 2);
    }
}
