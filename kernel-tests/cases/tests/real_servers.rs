//! Real servers of Debian on ports whose protocol nobody named, with their own clients, through an outbound and an
//! inbound proxy. Neither proxy has a timer to fall back to, so a protocol that is not recognized would hang.
//!
//! Servers are child processes on loopback with folders of their own. A test whose programs are missing says so.

use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringsail_harness::peer::Peer;
use ringsail_harness::ports::{free_address, wait_until_listening};
use ringsail_harness::sniffing::listener;
use ringsail_harness::{binaries, config, engines};
use serde_json::json;
use tempfile::TempDir;

/// How long a server may take to start, and a session to end: a database on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn mariadb_runs_a_transaction() {
    let Some([install, server, client]) =
        programs(["mariadb-install-db", "mariadbd", "mariadb"], "mariadb-server-core mariadb-client-core")
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let user = if is_root() { "root" } else { "" };
    let mut setup = Command::new(install);
    setup.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    setup.arg(format!("--datadir={}", data.display()));
    if is_root() {
        setup.arg("--user=root");
    }
    run(&mut setup);
    let address = free_address().unwrap();
    let mut command = Command::new(server);
    command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
    command.args([
        "--skip-log-bin",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=8M",
    ]);
    command.arg(format!("--port={}", address.port()));
    command.arg(format!("--socket={}", folder.path().join("socket").display()));
    if !user.is_empty() {
        command.arg(format!("--user={user}"));
    }
    let _server = Server::start(folder, address, command);
    through_two_proxies("MariaDB", address, true, |port| {
        let statements = "CREATE DATABASE IF NOT EXISTS shop; USE shop; CREATE OR REPLACE TABLE sold (n INT) ENGINE=InnoDB;
            START TRANSACTION; INSERT INTO sold VALUES (40), (2); COMMIT; SELECT SUM(n) FROM sold;";
        let mut session = Command::new(&client);
        session.args(["--no-defaults", "--protocol=TCP", "--host=127.0.0.1", "--user=root", "--batch"]);
        session.args(["--skip-column-names", &format!("--port={port}"), "--execute", statements]);
        assert_eq!(run(&mut session).trim(), "42");
    });
}

#[test]
fn redis_runs_a_transaction() {
    let Some([server, client]) = programs(["redis-server", "redis-cli"], "redis-server") else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = free_address().unwrap();
    let mut command = Command::new(server);
    command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
    command.arg(folder.path());
    let _server = Server::start(folder, address, command);
    through_two_proxies("Redis", address, false, |port| {
        let mut session = Command::new("sh");
        let script = format!(
            "printf 'MULTI\\nSET n 40\\nINCRBY n 2\\nEXEC\\nGET n\\n' | {} -p {port}",
            client.display()
        );
        let answer = run(session.args(["-c", &script]));
        assert_eq!(answer.split_whitespace().last(), Some("42"), "{answer}");
    });
}

#[test]
fn postgresql_runs_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let Some((initdb, server)) = postgresql() else { return };
    let Some([client]) = programs(["psql"], "postgresql-client") else { return };
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    // It refuses to run as root; its package brings a user.
    let as_user = |program: &Path| match is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    if is_root() {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        run(Command::new("chown").arg("postgres").arg(&data));
    }
    let mut setup = as_user(&initdb);
    run(setup.args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"]).arg(&data).current_dir("/"));
    let address = free_address().unwrap();
    let mut command = as_user(&server);
    command.current_dir("/").arg("-D").arg(&data).args(["-h", "127.0.0.1", "-k", "", "-F"]);
    command.args(["-p", &address.port().to_string()]);
    let _server = Server::start(folder, address, command);
    // Listening is not yet answering.
    let mut direct = Command::new(&client);
    direct.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-U", "postgres", "-c", "SELECT 1"]);
    until_ok(&mut direct);
    through_two_proxies("PostgreSQL", address, false, |port| {
        let statements = "BEGIN; CREATE TEMP TABLE sold (n INT); INSERT INTO sold VALUES (40), (2); SELECT SUM(n) FROM sold; COMMIT";
        let mut session = Command::new(&client);
        session.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "postgres",
            "-qtA",
            "-c",
            statements,
        ]);
        assert_eq!(run(&mut session).trim(), "42");
    });
}

#[test]
fn an_smtp_server_takes_a_mail() {
    let Some([python, client]) = programs(["/usr/bin/python3", "curl"], "python3-aiosmtpd curl") else {
        return;
    };
    if !Command::new(&python)
        .args(["-c", "import aiosmtpd"])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
    {
        return binaries::skip_notice("no SMTP server: install python3-aiosmtpd");
    }
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail.txt");
    fs::write(&mail, "Subject: greetings\r\n\r\nThe answer is 42.\r\n").unwrap();
    let address = free_address().unwrap();
    let mut command = Command::new(python);
    command.env("PYTHONUNBUFFERED", "1").args(["-m", "aiosmtpd", "-n", "-l", &address.to_string()]);
    command.args(["-c", "aiosmtpd.handlers.Debugging", "stdout"]);
    let server = Server::start(folder, address, command);
    through_two_proxies("SMTP", address, true, |port| {
        let mut session = Command::new(&client);
        session.args(["--silent", "--show-error", "--max-time", "50", &format!("smtp://127.0.0.1:{port}")]);
        session
            .args(["--mail-from", "a@example.com", "--mail-rcpt", "b@example.com", "--upload-file"])
            .arg(&mail);
        run(&mut session);
    });
    let output = server.output();
    let mails = output.matches("The answer is 42.").count();
    assert_eq!(mails, engines::available().len(), "one per session: {output}");
}

#[test]
fn an_ssh_server_runs_a_command() {
    let Some([server, host_key, client_key, client]) =
        programs(["dropbear", "dropbearkey", "ssh-keygen", "ssh"], "dropbear-bin openssh-client")
    else {
        return;
    };
    // Lets the server find a user whose home is our folder, instead of touching a real one.
    let users = "libnss_wrapper.so";
    // The loader complains on standard error, and goes on.
    let complaint = Command::new("true").env("LD_PRELOAD", users).output().unwrap().stderr;
    if !complaint.is_empty() {
        return binaries::skip_notice("no libnss_wrapper: install libnss-wrapper");
    }
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_owned();
    let path = |name: &str| home.join(name);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path(".ssh")).unwrap();
    run(Command::new(client_key).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path("id")));
    run(Command::new(host_key).args(["-t", "ed25519", "-f"]).arg(path("host")));
    fs::copy(path("id.pub"), path(".ssh/authorized_keys")).unwrap();
    let ids = run(Command::new("sh").args(["-c", "echo $(id -u):$(id -g)"]));
    fs::write(path("passwd"), format!("tester:x:{}::{}:/bin/sh\n", ids.trim(), home.display())).unwrap();
    let address = free_address().unwrap();
    let mut command = Command::new(server);
    command.env("LD_PRELOAD", users).env("NSS_WRAPPER_PASSWD", path("passwd"));
    command.env("NSS_WRAPPER_GROUP", "/etc/group").args(["-F", "-E", "-e", "-s", "-r"]).arg(path("host"));
    command.arg("-P").arg(path("pid")).args(["-p", &address.to_string()]);
    let _server = Server::start(folder, address, command);
    through_two_proxies("SSH", address, true, |port| {
        let mut session = Command::new(&client);
        session.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "LogLevel=ERROR",
        ]);
        session.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i"]);
        session.arg(path("id")).args(["-p", &port.to_string(), "tester@127.0.0.1", "echo $((40 + 2))"]);
        assert_eq!(run(&mut session).trim(), "42");
    });
}

/// Runs `session` with the port of an outbound proxy that leads to an inbound one that leads to `server`, on each engine.
/// For servers that speak first also measures how long their first byte takes.
fn through_two_proxies(name: &str, server: SocketAddr, speaks_first: bool, session: impl Fn(u16)) {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let hop = |inbound: bool, to: SocketAddr| {
            let clusters = json!([config::static_cluster("app", &[to])]);
            let bootstrap = config::bootstrap(json!([listener(inbound, "app", "app")]), clusters);
            Peer::start_with("ringsail", &binary, &bootstrap, &["--engine", engine]).unwrap()
        };
        let inbound = hop(true, server);
        let outbound = hop(false, inbound.address(0));
        let first_byte = |to: SocketAddr| {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(to).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_exact(&mut [0]).unwrap_or_else(|error| panic!("{name}: no greeting: {error}"));
            begun.elapsed()
        };
        if speaks_first {
            let (direct, through) = (first_byte(server), first_byte(outbound.address(0)));
            eprintln!(
                "{name}, {engine}: first byte after {through:.1?} through two proxies, {direct:.1?} direct"
            );
        }
        let begun = Instant::now();
        session(outbound.address(0).port());
        eprintln!("{name}, {engine}: a session of {:.1?}", begun.elapsed());
    }
}

/// A server that ends with the test.
struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    fn start(folder: TempDir, address: SocketAddr, mut command: Command) -> Server {
        let log = File::create(folder.path().join("server.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().unwrap();
        let server = Server { process, folder };
        if let Err(error) = wait_until_listening(&[address], PATIENCE) {
            panic!("{error:#}\n{}", server.output());
        }
        server
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that a server with children ends them, too.
        Command::new("kill").arg(self.process.id().to_string()).status().ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Paths of programs, or `None` after saying which packages have them.
fn programs<const N: usize>(names: [&str; N], packages: &str) -> Option<[PathBuf; N]> {
    let folders = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    let find =
        |name: &str| folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    let found = names.map(find);
    if let Some(missing) = names.iter().zip(&found).find_map(|(name, path)| path.is_none().then_some(name)) {
        binaries::skip_notice(&format!("no {missing}: install {packages}"));
        return None;
    }
    Some(found.map(Option::unwrap))
}

/// Debian keeps the server's programs in a folder per version.
fn postgresql() -> Option<(PathBuf, PathBuf)> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok();
    let mut folders: Vec<PathBuf> =
        versions.into_iter().flatten().flatten().map(|version| version.path().join("bin")).collect();
    folders.sort();
    let found = folders.iter().rev().map(|bin| (bin.join("initdb"), bin.join("postgres")));
    let found = found.into_iter().find(|(initdb, server)| initdb.is_file() && server.is_file());
    if found.is_none() {
        binaries::skip_notice("no PostgreSQL server: install postgresql");
    }
    found
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")).trim() == "0"
}

/// Runs a program to its end; gives its output.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn until_ok(command: &mut Command) {
    let deadline = Instant::now() + PATIENCE;
    while !command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success()) {
        assert!(Instant::now() < deadline, "{command:?} never succeeded");
        thread::sleep(Duration::from_millis(50));
    }
}
