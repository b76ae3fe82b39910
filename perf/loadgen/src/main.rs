//! `ringsail-loadgen`: load for a benchmark, measured so that a slow server cannot hide.
//!
//! With `--rate` the arrival schedule is fixed beforehand (open loop): request *i* is due at *i / rate*, whatever
//! happened to the ones before it, and its latency counts from that moment. A server that stalls is charged for
//! every request that waited (no coordinated omission). Without `--rate` every connection sends its next request as
//! soon as it has the answer (closed loop), which saturates the server and suits CPU per request, not latency.
//!
//! Start with [`run`]: the pacer and the connections of one run.

use anyhow::Result;
use clap::Parser;

use crate::options::Options;

mod exchange;
mod http1;
mod http2;
mod idle;
mod limits;
mod options;
mod outcome;
mod run;
mod schedule;

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        if options.idle {
            return idle::hold(&options).await;
        }
        let outcome = run::run(&options).await?;
        if options.json {
            println!("{}", outcome.to_json());
        } else {
            print!("{outcome}");
        }
        Ok(())
    })
}
