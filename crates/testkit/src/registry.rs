//! Debian's docker-registry on the loopback, with a password and behind TLS where a test wants them.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A registry that ends with the test.
pub struct Registry {
    child: Child,
    port: u16,
    dir: PathBuf,
}

/// What a registry wants of whoever comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants {
    /// User `u` with password `p`.
    pub password: bool,
    /// TLS, with a certificate for `localhost` of an authority that is made for it: [`Registry::ca`].
    pub tls: bool,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one that keeps its files in a directory.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(dir: &Path, wants: Wants) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\nhttp:\n  addr: '127.0.0.1:{port}'\n"
        );
        if wants.tls {
            certificates(dir);
            config += &format!("  tls: {{certificate: {at}/server.pem, key: {at}/server.key}}\n");
        }
        if wants.password {
            // bcrypt, as htpasswd -B writes it.
            std::fs::write(
                dir.join("htpasswd"),
                "u:$2y$05$fB1iQvHZVMuvH3Hn7ELmsO3sJ2LwljQki2OFlxykKBVHNB0hvEEDm\n",
            )
            .unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {at}/htpasswd}}}}\n");
        }
        std::fs::write(dir.join("registry.yml"), config).unwrap();
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(dir.join("registry.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { child: serve.spawn().unwrap(), port, dir: dir.to_path_buf() };
        for _ in 0..1200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return registry;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the registry does not come up");
    }

    /// Where it is: `localhost:PORT`.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The certificate of its authority, PEM.
    pub fn ca(&self) -> String {
        self.dir.join("ca.pem").display().to_string()
    }
}

/// An authority, and a server's certificate by it.
fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").current_dir(dir).args(args).output().unwrap();
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    std::fs::write(dir.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let ca =
        ["req", "-x509", "-days", "2", "-subj", "/CN=drydock test", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&ca[..], &key[..]].concat());
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &key[..]].concat());
    let sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext"];
    openssl(&[&["x509", "-req", "-in", "server.csr", "-out", "server.pem"], &sign[..]].concat());
}
