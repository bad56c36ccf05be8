//! `/proc/sysvipc/{shm,sem,msg}`: the System V objects of the reader's ipc namespace. Source: proc_sysvipc(5).

/// The rows as maps from the header's column names to values; rows shorter than the header are left out.
pub fn parse(text: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
    let row = |line: &str| -> Option<Vec<(String, String)>> {
        let cells: Vec<&str> = line.split_ascii_whitespace().collect();
        let whole = !header.is_empty() && cells.len() >= header.len();
        whole.then(|| header.iter().zip(cells).map(|(h, c)| ((*h).to_string(), c.to_string())).collect())
    };
    lines.filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows() {
        let rows = super::parse("  key  semid perms nsems\n  0    3   644  1\n bad\n");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0][1], ("semid".to_string(), "3".to_string()));
        assert!(super::parse("").is_empty() && super::parse("\nx").is_empty());
    }
}
