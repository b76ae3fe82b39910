//! Asking proxies whether they are ready.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one answer may take: they come from this machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Names of the proxies that are not ready, by their admin endpoint's `/ready`.
pub async fn not_ready(proxies: &[(String, SocketAddr)]) -> Vec<String> {
    let mut waiting = Vec::new();
    for (name, admin) in proxies {
        let ready = tokio::time::timeout(ANSWER_TIMEOUT, is_ready(*admin)).await;
        if !matches!(ready, Ok(Ok(true))) {
            waiting.push(name.clone());
        }
    }
    waiting
}

async fn is_ready(admin: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(&head == b"HTTP/1.1 200")
}
