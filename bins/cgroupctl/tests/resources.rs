//! What configurations of containers ask for besides the plain limits, as the kernel shows and does it.

mod common;
use common::*;

/// What reading one byte of a device gives: nothing, or the error's text.
fn read(name: &str, device: &str) -> String {
    let script = format!("head -c 1 {device} >/dev/null");
    // The shell's own /dev/null is opened inside, too.
    tool(&["run", "-q", name, "--", "sh", "-c", &script]).err
}

#[test]
fn devices_are_refused_unless_a_rule_allows_them() {
    if !can_run("devices_are_refused_unless_a_rule_allows_them") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0]).ok();
    assert_eq!(read(&n.0, "/dev/urandom"), "", "an open cgroup");
    tool(&["set", &n.0, "devices.allow=c 1:3 rw", "devices.allow=c 1:5 r"]).ok();
    assert_eq!(read(&n.0, "/dev/zero"), "");
    assert!(read(&n.0, "/dev/urandom").contains("Operation not permitted"));
    let write = tool(&["run", "-q", &n.0, "--", "sh", "-c", "echo >/dev/zero"]);
    assert!(write.err.contains("Operation not permitted"), "reading is not writing: {write:?}");
    let node = std::env::temp_dir().join(format!("drydock-{}.node", std::process::id()));
    let mknod = format!("mknod {} c 1 5", node.display());
    let made = tool(&["run", "-q", &n.0, "--", "sh", "-c", &mknod]);
    assert!(!node.exists() && made.code != 0, "making is neither: {made:?}");
    // Another list replaces the first, with processes inside or not.
    tool(&["set", &n.0, "devices.allow=c 1:3 rw", "devices.allow=c 1:9 r"]).ok();
    assert_eq!(read(&n.0, "/dev/urandom"), "");
    assert!(read(&n.0, "/dev/zero").contains("Operation not permitted"));
    tool(&["set", &n.0, "devices.allow=a"]).ok();
    assert_eq!((read(&n.0, "/dev/urandom"), read(&n.0, "/dev/zero")), (String::new(), String::new()));
    // By words; denying one leaves the others.
    tool(&["set", &n.0, "devices=allow /dev/null rw; allow /dev/zero r"]).ok();
    assert_eq!(read(&n.0, "/dev/zero"), "");
    assert!(read(&n.0, "/dev/urandom").contains("Operation not permitted"));
    tool(&["set", &n.0, "devices=deny /dev/zero r"]).ok();
    assert_eq!(read(&n.0, "/dev/urandom"), "");
    assert!(read(&n.0, "/dev/zero").contains("Operation not permitted"));
    let shown = tool(&["show", &n.0]).ok().out;
    assert!(shown.contains("deny c 1:5 r"), "{shown}");
    tool(&["set", &n.0, "devices.allow=c 1:3 z"]).fails(2, &["device access", "r, w and m"]);
}

#[test]
fn shares_and_sums_are_kept_or_converted() {
    if !can_run("shares_and_sums_are_kept_or_converted") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0]).ok();
    tool(&["set", &n.0, "cpu.shares=1000"]).ok();
    if is_v2() {
        assert_eq!(file(&n.0, "cpu.weight").unwrap(), "99");
    } else {
        assert_eq!(file(&n.0, "cpu.shares").unwrap(), "1000", "not by way of a weight");
    }
    // The sum goes up and down in whatever order the kernel wants.
    for (memory, both) in [("50M", "100M"), ("200M", "300M"), ("200M", "200M"), ("20M", "60M")] {
        let settings = [format!("memory.max={memory}"), format!("memory.memsw.limit_in_bytes={both}")];
        let set = tool(&["set", &n.0, &settings[0], &settings[1], "--lenient"]).ok();
        if set.err.contains("swap") {
            skip("shares_and_sums_are_kept_or_converted", "the kernel does not account swap");
            return;
        }
        let mib = |t: &str| t.trim_end_matches('M').parse::<u64>().unwrap() << 20;
        let number = |f: &str| file(&n.0, f).unwrap().parse::<u64>().unwrap();
        if is_v2() {
            assert_eq!(
                (number("memory.max"), number("memory.swap.max")),
                (mib(memory), mib(both) - mib(memory))
            );
        } else {
            assert_eq!(number("memory.limit_in_bytes"), mib(memory));
            assert_eq!(number("memory.memsw.limit_in_bytes"), mib(both));
        }
    }
    tool(&["set", &n.0, "memory.max=20M", "memory.memsw.limit_in_bytes=10M"]).fails(2, &["less than"]);
}

#[test]
fn the_cgroups_on_the_way_go_with_the_last() {
    if !can_run("the_cgroups_on_the_way_go_with_the_last") {
        return;
    }
    let top = Name::new();
    let (one, two) = (format!("{}/way/one", top.0), format!("{}/way/two", top.0));
    tool(&["create", &one]).ok();
    tool(&["create", &two]).ok();
    tool(&["cleanup", &one]).ok();
    assert!(!dirs(&two).is_empty() && dirs(&one).is_empty());
    tool(&["cleanup", &two]).ok();
    assert!(dirs(&top.0).is_empty(), "made on the way, so removed: {:?}", dirs(&top.0));
    // One that was made for itself stays.
    tool(&["create", &top.0]).ok();
    tool(&["create", &one]).ok();
    tool(&["cleanup", &one]).ok();
    assert!(!dirs(&top.0).is_empty() && dirs(&format!("{}/way", top.0)).is_empty());
}
