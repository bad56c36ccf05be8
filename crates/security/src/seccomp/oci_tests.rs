//! OCI's `linux.seccomp`, compiled and interpreted.

use super::action::{RET_ALLOW, RET_ERRNO};
use super::compile::{Filter, compile};
use super::names::Arch;
use super::profile::Profile;
use super::tests::{ENOSYS, first, run, target, verdict};
use crate::CapSet;

fn oci(json: &str) -> drydock_core::Result<Filter> {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    compile(&Profile::from_oci(&value)?, &target(Arch::X86_64, CapSet::DEFAULT))
}

#[test]
fn oci_profiles_mean_what_they_mean_to_runc() {
    let f = oci(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"unknown":1,"architectures":["SCMP_ARCH_X86"],
        "syscalls":[
          {"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ","x":1}],"comment":""},
          {"names":["read"],"action":"SCMP_ACT_ALLOW"},
          {"names":["read"],"action":"SCMP_ACT_KILL"},
          {"names":["write"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
          {"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
          {"names":["openat2","nosuchcall"],"action":"SCMP_ACT_ALLOW"},
          {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"valueTwo":9,"op":"SCMP_CMP_MASKED_EQ"}]},
          {"names":["socket"],"action":"SCMP_ACT_LOG"},
          {"names":["bind"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"}]}
        ]}"#,
    )
    .unwrap();
    assert_eq!(f.flags, 4, "SPEC_ALLOW when there are no flags");
    // Without conditions, the first decides; what says the default is no rule; a masked value is masked.
    assert_eq!(verdict(&f, "read", first(7)), RET_ALLOW);
    assert_eq!((verdict(&f, "write", first(1)), verdict(&f, "write", first(2))), (RET_ALLOW, RET_ERRNO | 13));
    assert_eq!(verdict(&f, "personality", first(8)), RET_ALLOW);
    assert_eq!(verdict(&f, "personality", first(1)), RET_ERRNO | 13);
    // Above what the profile names, programs fall back.
    let number = Arch::X86_64.number("openat2").unwrap();
    assert_eq!(run(&f.program, Arch::X86_64.audit(), number + 1, [0; 6]), ENOSYS);
    assert_eq!(verdict(&f, "faccessat", [0; 6]), RET_ERRNO | 13);
    // i386: 32 bits are compared, and the calls behind socketcall follow their names.
    let x86 = |name: &str, args| run(&f.program, Arch::X86.audit(), Arch::X86.number(name).unwrap(), args);
    assert_eq!(x86("write", first(1 << 32 | 1)), RET_ALLOW);
    assert_eq!((x86("socket", [0; 6]), x86("socketcall", first(1))), (0x7ffc_0000, 0x7ffc_0000));
    assert_eq!((x86("socketcall", first(2)), x86("socketcall", first(3))), (RET_ERRNO | 13, RET_ERRNO | 13));
    assert_eq!(oci(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#).unwrap().flags, 0);
    let all = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_LOG"]}"#;
    assert_eq!(oci(all).unwrap().flags, 2);
}

#[test]
fn two_conditions_on_one_argument_are_alternatives_as_in_runc() {
    let f = oci(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"syscalls":[
          {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"},{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]},
          {"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"},{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]},
          {"names":["openat2"],"action":"SCMP_ACT_ALLOW"}
        ]}"#,
    )
    .unwrap();
    let v = |name: &str, a: u64, b: u64| verdict(&f, name, [a, b, 0, 0, 0, 0]);
    assert_eq!((v("read", 7, 0), v("read", 9, 0), v("read", 8, 0)), (RET_ALLOW, RET_ALLOW, RET_ERRNO | 13));
    // On different arguments, both must hold.
    assert_eq!(
        (v("write", 7, 9), v("write", 7, 0), v("write", 0, 9)),
        (RET_ALLOW, RET_ERRNO | 13, RET_ERRNO | 13)
    );
}

#[test]
fn what_is_wrong_in_oci_profiles_is_named() {
    let rule = |fields: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{{fields}}}]}}"#);
    let arg =
        |fields: &str| rule(&format!(r#""names":["read"],"action":"SCMP_ACT_TRAP","args":[{{{fields}}}]"#));
    for (json, place) in [
        ("{}".into(), "seccomp: missing field"),
        (r#"{"defaultAction":"DENY"}"#.into(), "seccomp.defaultAction: "),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#.into(), "seccomp.defaultErrnoRet: "),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":{}}"#.into(), "seccomp.syscalls: not a list"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#.into(), "seccomp.listenerMetadata: "),
        (rule(r#""names":[],"action":"SCMP_ACT_TRAP""#), "seccomp.syscalls[0].names: "),
        (rule(r#""names":["read"]"#), "seccomp.syscalls[0]: missing field"),
        (rule(r#""names":["read"],"action":"ALLOW""#), "seccomp.syscalls[0].action: "),
        (rule(r#""names":["read"],"action":"SCMP_ACT_TRAP","errnoRet":5"#), "seccomp.syscalls[0].errnoRet: "),
        (
            rule(r#""names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":4096"#),
            "seccomp.syscalls[0].errnoRet: ",
        ),
        (arg(r#""index":6,"value":0,"op":"SCMP_CMP_EQ""#), "seccomp.syscalls[0].args[0].index: "),
        (arg(r#""index":0,"value":0,"op":"EQ""#), "seccomp.syscalls[0].args[0].op: "),
        (arg(r#""index":0,"value":-1,"op":"SCMP_CMP_EQ""#), "seccomp.syscalls[0].args[0]: "),
    ] {
        let error = oci(&json).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with(place), "{error} should start with {place}");
    }
}
