use super::*;

#[test]
fn refuses_what_no_host_may_have() {
    for bad in [
        "10.0.0.0/24",
        "10.0.0.255/24",
        "10.0.0.1/33",
        "10.0.0",
        "::1/64",
        "fe80::1/64",
        "0.0.0.0/0",
        "0.0.0.0/24",
        "127.0.0.1/8",
        "224.0.0.1/24",
        "255.255.255.255/32",
        "10.0.0.1/",
        "10.0.0.1/-1",
        "10.0.0.1/+4",
        "/24",
        "",
        "10.0.0.1/024x",
        "ff02::1/64",
        "::ffff:1.2.3.4/120",
        "10.0.0.1/0",
        "250.0.0.1/8",
        "10.0.0.1/24 ",
        "fd00::/64",
    ] {
        assert_eq!(InterfaceAddress::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
    for bad in ["10.0.0.1/24", "10.0.0.0", "0.0.0.0/0", "10.0.0.0/32", "224.0.0.0/8", "127.0.0.0/8", "x"] {
        assert_eq!(Subnet::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn counts_hosts() {
    let subnet = Subnet::parse("10.0.0.0/29").unwrap();
    assert_eq!(subnet.hosts(), 6);
    assert_eq!(subnet.host(0).unwrap().to_string(), "10.0.0.1");
    assert_eq!(subnet.host(5).unwrap().to_string(), "10.0.0.6");
    assert_eq!(subnet.host(6), None);
    assert_eq!(subnet.broadcast().unwrap().to_string(), "10.0.0.7");
    assert_eq!(subnet.host_number("10.0.0.6".parse().unwrap()), Some(5));
    assert_eq!(subnet.host_number("10.0.0.7".parse().unwrap()), None);
    assert_eq!(subnet.host_number("10.0.0.0".parse().unwrap()), None);
    assert_eq!(Subnet::parse("10.0.0.0/31").unwrap().host(0).unwrap().to_string(), "10.0.0.0");
    assert!(Subnet::parse("fd00::/64").unwrap().contains("fd00::2".parse().unwrap()));
    assert!(!subnet.overlaps(Subnet::parse("10.0.0.8/29").unwrap()));
    assert!(subnet.overlaps(Subnet::parse("10.0.0.0/8").unwrap()));
    assert_eq!(InterfaceAddress::parse("10.1.2.3/16").unwrap().subnet().to_string(), "10.1.0.0/16");
}

#[test]
fn link_layer_addresses() {
    assert_eq!(Mac::parse("02:0a:ff:00:00:01").unwrap().to_string(), "02:0a:ff:00:00:01");
    for bad in
        ["", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00", "2:0:0:0:0:1", "02:00:00:00:00:+1"]
    {
        assert_eq!(Mac::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
}
