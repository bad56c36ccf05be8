use super::*;
use crate::inside::Links;
use crate::overlay::Overlay;
use crate::pivot::Pivot;
use crate::request::{Mount, Root};

fn refused(change: impl FnOnce(&mut Request)) -> String {
    let mut request = Request { root: Root::directory("/r"), ..Request::default() };
    change(&mut request);
    let error = request.validate().unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

fn with(mount: Mount) -> String {
    refused(|r| r.mounts.push(mount))
}

#[test]
fn the_order_is_the_kernels() {
    let mut request = Request::container_defaults(Root { readonly: true, ..Root::directory("/r") });
    request.files.push(InjectedFile { destination: "/etc/hosts".into(), source: "/x".into() });
    let plan = request.validate().unwrap();
    let at = |wanted: fn(&Action) -> bool| plan.actions().iter().position(wanted).unwrap();
    let order = [
        at(|a| matches!(a, Action::Tree { propagation: Propagation::Private, .. })),
        at(|a| matches!(a, Action::BindRoot { .. })),
        at(|a| matches!(a, Action::Filesystem { fstype, .. } if fstype == "proc")),
        at(|a| matches!(a, Action::Filesystem { destination, .. } if destination == "/dev")),
        at(|a| matches!(a, Action::Filesystem { fstype, .. } if fstype == "devpts")),
        at(|a| matches!(a, Action::Device { .. })),
        at(|a| matches!(a, Action::Symlink(link) if link.path == "/dev/ptmx")),
        at(|a| matches!(a, Action::File(_))),
        at(|a| matches!(a, Action::ReadonlyPath(_))),
        at(|a| matches!(a, Action::Mask(_))),
        at(|a| matches!(a, Action::Pivot { pivot: Pivot::PivotRoot, shared: false })),
        at(|a| matches!(a, Action::RootReadonly)),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(plan.steps().len(), plan.actions().len());
    assert!(plan.steps().iter().all(|s| s.stage == "mounts" && !s.call.is_empty() && s.man.ends_with(')')));
}

#[test]
fn every_tmpfs_of_the_defaults_is_bounded() {
    let plan = Request::container_defaults(Root::directory("/r")).validate().unwrap();
    let tmpfs = plan.actions().iter().filter_map(|a| match a {
        Action::Filesystem { fstype, options, .. } if fstype == "tmpfs" => Some(options.data_string()),
        _ => None,
    });
    for data in tmpfs {
        assert!(data.contains("size=") && data.contains("nr_inodes="), "{data}");
    }
    assert!(
        Mount::tmpfs("/x", &["size=1m"])
            .options
            .iter()
            .filter(|o| o.starts_with("size="))
            .eq(["size=1m"].iter())
    );
}

#[test]
fn refuses_bad_input_by_name() {
    assert!(with(Mount::of("tmpfs", "relative", &[])).contains("relative"));
    assert!(with(Mount::of("tmpfs", "/a/..", &[])).contains("the root itself"));
    assert!(with(Mount::of("tmpfs", "/a\0b", &[])).contains("NUL"));
    assert!(with(Mount::of("nosuchfs", "/x", &[])).contains("'nosuchfs' is unknown"));
    assert!(with(Mount::of("tmpfs", "/x", &["frobnicate"])).contains("'frobnicate'"));
    assert!(with(Mount::of("tmpfs", "/proc/x", &[])).contains("/proc"));
    assert!(with(Mount::of("tmpfs", "/proc", &[])).contains("/proc"));
    assert!(with(Mount::bind("/", "/proc/sys", &[])).contains("/proc"));
    assert!(with(Mount::bind("relative", "/x", &[])).contains("absolute"));
    assert!(with(Mount::bind("/no/such/source", "/x", &[])).contains("No such file"));
    for root in ["/", "/..", "relative", "", "/a/../.."] {
        refused(|r| r.root.path = root.into());
    }
    refused(|r| r.masked_paths.push("relative".into()));
    refused(|r| r.readonly_paths.push("/".into()));
    refused(|r| r.devices.push(Device { path: "/dev/x".into(), major: 4096, ..Device::default() }));
    refused(|r| r.devices.push(Device { path: "/dev/x".into(), mode: 0o10000, ..Device::default() }));
    refused(|r| r.files.push(InjectedFile { destination: "/x".into(), source: "rel".into() }));
}

#[test]
fn normalises_and_says_so() {
    let mut request = Request { root: Root::directory("/r"), ..Request::default() };
    request.mounts.push(Mount::of("tmpfs", "/a/./b/../../../c//d/", &[]));
    let plan = request.validate().unwrap();
    let found = plan
        .actions()
        .iter()
        .any(|a| matches!(a, Action::Filesystem { destination, .. } if destination == "/c/d"));
    assert!(found && plan.notes().len() == 1, "{plan:?}");
}

#[test]
fn kernel_directories_must_be_ordinary() {
    let mut request = Request { root: Root::directory("/r"), ..Request::default() };
    request.mounts =
        vec![Mount::of("proc", "/odd", &[]), Mount::bind("/", "/dev/x", &[]), Mount::bind("/", "/x", &[])];
    let plan = request.validate().unwrap();
    let links: Vec<Links> = plan
        .actions()
        .iter()
        .filter_map(|a| match a {
            Action::Filesystem { links, .. } | Action::Bind { links, .. } => Some(*links),
            _ => None,
        })
        .collect();
    assert_eq!(links, [Links::Refuse, Links::Refuse, Links::Follow]);
}

#[test]
fn a_request_survives_json() {
    let mut request = Request::container_defaults(Root::directory("/r"));
    request.root.overlay = Some(Overlay {
        lower: vec!["/l".into()],
        upper: "/u".into(),
        work: "/w".into(),
        ..Overlay::default()
    });
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    assert!(serde_json::from_str::<Request>(r#"{"frob": 1}"#).is_err());
}
