//! The program as its users run it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest any step may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running ringsaild, ended when the test ends.
struct Daemon {
    child: Child,
    log: mpsc::Receiver<String>,
    address: String,
}

impl Daemon {
    fn start(folder: &std::path::Path, socket: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringsaild"))
            .args(["--source", "folder"])
            .arg(folder)
            .arg("--xds-socket")
            .arg(socket)
            .args(["--http-address", "127.0.0.1:0", "--debounce-ms", "10", "--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (lines, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut daemon = Self { child, log, address: String::new() };
        let line = daemon.line_with("debug pages");
        let (_, after) = line.split_once("127.0.0.1:").expect("the line names the address");
        let port: String = after.chars().take_while(char::is_ascii_digit).collect();
        daemon.address = format!("127.0.0.1:{port}");
        daemon
    }

    fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the debug port accepts");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("UTF-8");
        answer
    }

    fn page_until(&self, path: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.page(path).contains(text) {
            assert!(Instant::now() < deadline, "{path} never held {text:?}: {}", self.page(path));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http, port: 80}]}\n";

#[test]
fn an_edit_is_served_and_a_broken_one_is_explained() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mesh = dir.path().join("mesh");
    fs::create_dir(&mesh).expect("created");
    fs::write(mesh.join("a.yaml"), SERVICE).expect("written");
    let socket = dir.path().join("xds.sock");
    let mut daemon = Daemon::start(&mesh, &socket);
    daemon.page_until("/ready", "200 OK");
    daemon.page_until("/debug/configz", "\"name\": \"a\"");

    fs::write(mesh.join("b.yaml"), SERVICE.replace("name: a", "name: b")).expect("written");
    daemon.page_until("/debug/configz", "\"name\": \"b\"");

    fs::write(mesh.join("b.yaml"), SERVICE.replace("name: a", "name: b").replace("ports", "prots"))
        .expect("written");
    daemon.page_until("/debug/diagnostics", "did you mean `ports`?");
    assert!(daemon.page("/debug/configz").contains("\"name\": \"b\""), "the last good version serves");

    let pid = daemon.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    let status = daemon.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert!(!socket.exists(), "the socket's file is removed");
}

#[test]
fn a_missing_folder_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringsaild"))
        .args(["--source", "folder", "/nonexistent/mesh", "--http-address", "none"])
        .output()
        .expect("the binary was built");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot read the folder /nonexistent/mesh"), "{stderr}");
}
