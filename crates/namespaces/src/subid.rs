//! The id ranges that a user may map: /etc/subuid and /etc/subgid. Source: subuid(5), passwd(5).

use crate::idmap::{IdMap, Ids};
use drydock_core::{Error, Result};

/// `count` ids from `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First id.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// The ranges that a file's text grants to a user, by name or by number. Lines that are not understood grant nothing.
pub fn parse(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    text.lines().filter_map(|line| parse_line(line, name, uid)).collect()
}

fn parse_line(line: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    let mut fields = line.trim().split(':');
    let who = fields.next()?;
    let range = Range { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
    let meant = Some(who) == name || who.parse() == Ok(uid);
    (meant && fields.next().is_none() && range.count > 0 && range.start.checked_add(range.count).is_some())
        .then_some(range)
}

/// The name of a user in /etc/passwd. Read by hand: a static binary has no name service.
pub fn user_name(uid: u32) -> Option<String> {
    let text = String::from_utf8_lossy(&std::fs::read("/etc/passwd").ok()?).into_owned();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    })
}

/// The ranges that are granted to the calling user.
///
/// # Errors
/// When the file is missing or has no line for the user, with the command that adds one.
pub fn granted(ids: Ids) -> Result<Vec<Range>> {
    let uid = nix::unistd::getuid().as_raw();
    let name = user_name(uid);
    let user = name.clone().map_or_else(|| format!("user {uid}"), |n| format!("user {n}"));
    let option = if ids == Ids::User { "--add-subuids" } else { "--add-subgids" };
    let fix = format!("usermod {option} 100000-165535 {}", name.as_deref().unwrap_or("NAME"));
    let bytes = match std::fs::read(ids.grants()) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::failed(
                ids.grants(),
                format!("no such file, so {user} may map no range of ids"),
            )
            .hint(fix));
        }
        Err(e) => return Err(Error::call(format!("open(\"{}\", O_RDONLY)", ids.grants()), e)),
    };
    let ranges = parse(&String::from_utf8_lossy(&bytes), name.as_deref(), uid);
    if ranges.is_empty() {
        return Err(Error::failed(ids.grants(), format!("has no line for {user}")).hint(fix));
    }
    Ok(ranges)
}

/// Checks that each outside id of a map is the caller's own or granted, as newuidmap(1) will.
///
/// # Errors
/// The first line that is not granted, and what is.
pub fn check_granted(ids: Ids, map: &[IdMap]) -> Result<()> {
    let own = match ids {
        Ids::User => nix::unistd::getuid().as_raw(),
        Ids::Group => nix::unistd::getgid().as_raw(),
    };
    let ranges = granted(ids)?;
    let covers = |r: &Range, l: &IdMap| {
        l.outside >= r.start
            && u64::from(l.outside) + u64::from(l.count) <= u64::from(r.start) + u64::from(r.count)
    };
    for line in map {
        let is_own = line.outside == own && line.count == 1;
        if !is_own && !ranges.iter().any(|range| covers(range, line)) {
            let have: Vec<String> = ranges.iter().map(|r| format!("{}:{}", r.start, r.count)).collect();
            let problem = format!(
                "{line} ({}) is not granted (allowed: {} by {})",
                line.words(),
                have.join(", "),
                ids.grants()
            );
            return Err(Error::bad_input(ids.map_file(), problem));
        }
    }
    Ok(())
}

/// The map for `--map-auto`: the first granted range from inside id 0 up. With `own` (`inside`, `outside`), that one id
/// is the caller's, and the range flows around it.
///
/// # Errors
/// As [`granted`].
pub fn auto(ids: Ids, own: Option<(u32, u32)>) -> Result<Vec<IdMap>> {
    let ranges = granted(ids)?;
    let range = ranges.first().copied().unwrap_or(Range { start: 0, count: 0 });
    Ok(around(range, own))
}

/// The same ids inside as outside: the first granted range.
///
/// # Errors
/// As [`granted`].
pub fn identity(ids: Ids) -> Result<IdMap> {
    let range = granted(ids)?.first().copied().unwrap_or(Range { start: 0, count: 0 });
    Ok(IdMap::new(range.start, range.start, range.count))
}

/// Makes room in `ranges` for one id, `inside` and `outside`: what lies behind it inside moves up by one, and its outside id
/// is left out of all of them. The last id of a range may have no place any more then. As unshare(1).
pub fn make_room(ranges: Vec<IdMap>, inside: u32, outside: u32) -> Vec<IdMap> {
    let with_hole = ranges.into_iter().flat_map(|range| cut_inside(range, inside));
    with_hole.flat_map(|range| cut_outside(range, outside)).filter(|range| range.count > 0).collect()
}

fn cut_inside(range: IdMap, inside: u32) -> Vec<IdMap> {
    let Some(before) = inside.checked_sub(range.inside).filter(|n| *n < range.count) else {
        return vec![range];
    };
    let after = range.count - before - 1;
    vec![
        IdMap::new(range.inside, range.outside, before),
        IdMap::new(inside.saturating_add(1), range.outside.saturating_add(before), after),
    ]
}

fn cut_outside(range: IdMap, outside: u32) -> Vec<IdMap> {
    let Some(before) = outside.checked_sub(range.outside).filter(|n| *n < range.count) else {
        return vec![range];
    };
    let after = range.count - before - 1;
    vec![
        IdMap::new(range.inside, range.outside, before),
        IdMap::new(range.inside.saturating_add(before).saturating_add(1), outside.saturating_add(1), after),
    ]
}

fn around(range: Range, own: Option<(u32, u32)>) -> Vec<IdMap> {
    let Some((inside, outside)) = own else { return vec![IdMap::new(0, range.start, range.count)] };
    let before = inside.min(range.count);
    let after = range.count - before;
    let mut map = Vec::new();
    if before > 0 {
        map.push(IdMap::new(0, range.start, before));
    }
    map.push(IdMap::new(inside, outside, 1));
    if after > 0 {
        map.push(IdMap::new(inside + 1, range.start + before, after));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let text = "alice:100000:65536\n1001:200000:10\nbob:x:1\n# c\nalice:1:2:3\nalice:4294967295:5\n";
        assert_eq!(parse(text, Some("alice"), 1000), [Range { start: 100_000, count: 65536 }]);
        assert_eq!(parse(text, None, 1001), [Range { start: 200_000, count: 10 }]);
        assert_eq!(parse(text, Some("bob"), 5), []);
    }

    #[test]
    fn the_own_id_in_the_middle() {
        let range = Range { start: 100_000, count: 100 };
        assert_eq!(around(range, Some((0, 1000))), [IdMap::new(0, 1000, 1), IdMap::new(1, 100_000, 100)]);
        assert_eq!(
            around(range, Some((50, 1000))),
            [IdMap::new(0, 100_000, 50), IdMap::new(50, 1000, 1), IdMap::new(51, 100_050, 50)]
        );
        assert_eq!(
            around(range, Some((1000, 1000))),
            [IdMap::new(0, 100_000, 100), IdMap::new(1000, 1000, 1)]
        );
        assert_eq!(around(range, None), [IdMap::new(0, 100_000, 100)]);
    }

    #[test]
    fn room_for_one_id() {
        let range = vec![IdMap::new(0, 100_000, 10)];
        assert_eq!(make_room(range.clone(), 0, 1000), [IdMap::new(1, 100_000, 9)]);
        assert_eq!(make_room(range.clone(), 3, 1000), [IdMap::new(0, 100_000, 3), IdMap::new(4, 100_003, 6)]);
        assert_eq!(
            make_room(range.clone(), 50, 100_004),
            [IdMap::new(0, 100_000, 4), IdMap::new(5, 100_005, 5)]
        );
        assert_eq!(make_room(range.clone(), 50, 1000), range);
        assert_eq!(make_room(vec![IdMap::new(7, 7, 1)], 7, 7), []);
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
    }
}
