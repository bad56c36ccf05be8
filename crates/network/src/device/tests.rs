#![allow(clippy::unwrap_used)] // a test that cannot go on should stop
use super::*;

fn request(devices: &[(&str, &str)]) -> Request {
    Request { devices: devices.iter().map(|(host, inside)| ((*host).into(), (*inside).into())).collect() }
}

#[test]
fn names_are_checked_before_anything_moves() {
    for (host, inside, says) in [
        ("", "a", "/linux/netDevices/"),
        ("a/b", "a", "/linux/netDevices/a~1b: 'a/b' is not"),
        ("lo", "lo0", "'lo' is not"),
        ("a%d", "a", "'a%d' is not"),
        ("eth0", "", "/linux/netDevices/eth0/name"),
        ("eth0", "abcdefghijklmnop", "/linux/netDevices/eth0/name"),
        ("eth0", "%d", "/linux/netDevices/eth0/name"),
        ("eth0", "a%d%d", "/linux/netDevices/eth0/name"),
        ("eth0", "a%s", "/linux/netDevices/eth0/name"),
        ("eth0", "abcdefghijklmn%d", "/linux/netDevices/eth0/name"),
    ] {
        let error = request(&[(host, inside)]).validate().unwrap_err();
        assert_eq!(error.kind(), drydock_core::Kind::BadInput);
        assert!(error.to_string().contains(says), "{host} {inside}: {error}");
    }
    request(&[("eth0", "net%d"), ("eth1", "net%d"), ("eth2", "eth0")]).validate().unwrap();
}

#[test]
fn two_devices_cannot_have_one_name() {
    let error = request(&[("eth0", "a"), ("eth1", "a")]).validate().unwrap_err();
    assert!(error.to_string().starts_with("/linux/netDevices/eth1: a second device"), "{error}");
}

#[test]
fn each_device_is_a_step_that_leaves_nothing() {
    let plan = request(&[("eth0", "a"), ("eth1", "b")]).validate().unwrap();
    let steps = plan.steps();
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|step| step.leaves().is_none()));
    assert!(steps.iter().any(|step| step.explain().call.starts_with("RTM_NEWLINK eth0 netns PID name a;")));
    assert!(request(&[]).validate().unwrap().is_empty());
}
