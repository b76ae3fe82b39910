//! Connections that have been used once and then do nothing.

use anyhow::{Context, Result};
use tokio::io::AsyncReadExt;

use crate::exchange::Exchange;
use crate::options::Options;

/// Opens the connections, sends one request on each, prints `holding N`, and holds them until standard input ends.
///
/// # Errors
/// When a connection or its request fails.
pub async fn hold(options: &Options) -> Result<()> {
    let exchange = Exchange::new(options)?;
    let mut held = Vec::new();
    for index in 0..options.connections {
        let context = || format!("connection {} of {}", index + 1, options.connections);
        for mut connection in exchange.connect(1).await.with_context(context)? {
            exchange.run(&mut connection).await.with_context(context)?;
            held.push(connection);
        }
    }
    println!("holding {}", held.len());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
