use super::*;
use std::collections::HashSet;
use std::path::Path;

fn pool(subnet: &str) -> Network {
    let subnet = Subnet::parse(subnet).unwrap();
    new_network("n", "br", subnet, subnet.host(0), true)
}

fn take(n: &mut Network, owner: &str, asked: Option<IpAddr>, alive: Alive<'_>) -> Result<IpAddr> {
    super::take(n, Holder { owner, link: &format!("dd{owner}"), interface: "eth0", nat: false }, asked, alive)
}

const ALL: Alive<'static> = &|_| true;

#[test]
fn exhaustion_names_pool_and_holders() {
    let mut n = pool("10.0.0.0/29");
    for owner in ["a", "b", "c", "d", "e"] {
        take(&mut n, owner, None, ALL).unwrap();
    }
    let text = take(&mut n, "f", None, ALL).unwrap_err().to_string();
    assert!(
        text.contains("10.0.0.0/29") && text.contains("all 5") && text.contains("a, b, c, d, e"),
        "{text}"
    );
    // The dead one's address comes back, and only that.
    let again = take(&mut n, "f", None, &|l| l.owner != "c").unwrap();
    assert_eq!(again.to_string(), "10.0.0.4");
}

#[test]
fn asked_addresses() {
    let mut n = pool("10.0.0.0/29");
    let ask = |n: &mut Network, owner: &str, a: &str| take(n, owner, Some(a.parse().unwrap()), ALL);
    assert!(ask(&mut n, "a", "10.0.0.3").is_ok());
    assert!(ask(&mut n, "a", "10.0.0.3").is_ok());
    assert_eq!(ask(&mut n, "b", "10.0.0.3").unwrap_err().exit_code(), 125);
    assert_eq!(ask(&mut n, "b", "10.0.0.1").unwrap_err().exit_code(), 2);
    assert_eq!(ask(&mut n, "b", "10.0.0.9").unwrap_err().exit_code(), 2);
    assert_eq!(ask(&mut n, "b", "10.0.0.7").unwrap_err().exit_code(), 2);
    assert_eq!(n.leases.len(), 1);
}

#[test]
fn freed_addresses_return_late() {
    let mut n = pool("10.0.0.0/24");
    let first = take(&mut n, "a", None, ALL).unwrap();
    n.leases.clear();
    assert_ne!(take(&mut n, "b", None, ALL).unwrap(), first);
}

#[test]
fn no_duplicate_among_100_threads() {
    let dir = std::env::temp_dir().join(format!("drydock-lease-{}", std::process::id()));
    let threads: Vec<_> = (0..100)
        .map(|i| {
            let dir = dir.clone();
            std::thread::spawn(move || {
                let mut store = Store::lock(&dir).unwrap();
                let mut n = store.network("n").unwrap().unwrap_or_else(|| pool("10.0.0.0/24"));
                let address = take(&mut n, &format!("owner{i}"), None, ALL).unwrap();
                store.save_network(&n).unwrap();
                address
            })
        })
        .collect();
    let addresses: HashSet<IpAddr> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(addresses.len(), 100);
    assert_eq!(list(&dir).unwrap()[0].leases.len(), 100);
    assert_eq!(reclaim(&dir, &|l| l.owner == "owner7").unwrap().len(), 99);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// 500 at once, from ten processes with fifty threads each; then the pool is full, and says who has it.
#[test]
fn no_duplicate_among_500_in_processes_and_threads() {
    const PLACE: &str = "DRYDOCK_TEST_LEASES";
    const NAME: &str = "lease::tests::no_duplicate_among_500_in_processes_and_threads";
    let one = |dir: &Path, owner: &str| {
        let mut store = Store::lock(dir).unwrap();
        let mut n = store.network("n").unwrap().unwrap_or_else(|| pool("10.0.0.0/23"));
        take(&mut n, owner, None, ALL).and_then(|address| store.save_network(&n).map(|()| address))
    };
    if let Some(dir) = std::env::var_os(PLACE) {
        let dir = std::path::PathBuf::from(dir);
        let each = |i: usize| one(&dir, &format!("p{}t{i}", std::process::id())).unwrap();
        std::thread::scope(|scope| (0..50).for_each(|i| drop(scope.spawn(move || each(i)))));
        return;
    }
    let dir = std::env::temp_dir().join(format!("drydock-lease-500-{}", std::process::id()));
    let mut workers: Vec<_> = (0..10)
        .map(|_| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", NAME])
                .env(PLACE, &dir)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    for worker in &mut workers {
        let status = loop {
            match worker.try_wait().unwrap() {
                Some(status) => break status,
                None if std::time::Instant::now() > end => worker.kill().unwrap(),
                None => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        };
        assert!(status.success(), "{status}");
    }
    let leases = list(&dir).unwrap().remove(0).leases;
    let addresses: HashSet<IpAddr> = leases.iter().map(|l| l.address).collect();
    let owners: HashSet<&String> = leases.iter().map(|l| &l.owner).collect();
    assert_eq!((leases.len(), addresses.len(), owners.len()), (500, 500, 500));
    (0..9).for_each(|i| assert!(one(&dir, &format!("last{i}")).is_ok()));
    let full = one(&dir, "more").unwrap_err().to_string();
    let first = &leases.first().unwrap().owner;
    assert!(full.contains("all 509 addresses of network 'n'") && full.contains(first.as_str()), "{full}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_damaged_file_is_set_aside() {
    let dir = std::env::temp_dir().join(format!("drydock-lease-bad-{}", std::process::id()));
    drop(Store::lock(&dir).unwrap());
    for bad in ["", "{", "[]", "\0\0", "{\"network\":1}"] {
        std::fs::write(dir.join("net-n.json"), bad).unwrap();
        let mut store = Store::lock(&dir).unwrap();
        assert_eq!(store.network("n").unwrap(), None, "{bad}");
        assert_eq!(store.set_aside.len(), 1);
    }
    std::os::unix::fs::symlink("/dev/zero", dir.join("host.json")).unwrap();
    assert_eq!(Store::lock(&dir).unwrap().host, crate::state::Host::default());
    std::fs::remove_dir_all(&dir).unwrap();
}
