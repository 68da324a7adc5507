//! The benchmark behind `cargo xtask bench`: one load generator for this server and its peers.

mod load;
mod peak;
mod report;
mod servers;
mod workload;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use report::Cell;
use servers::Running;

/// How long a cell is loaded before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// What the command line asks for.
struct Options {
    /// Install and measure the peers too.
    peers: bool,
    /// How long each cell is measured.
    measure: Duration,
}

fn main() -> Result<()> {
    let options = parse(std::env::args().skip(1))?;
    let threads = std::thread::available_parallelism()?.get();
    let has_bf16 =
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|flags| flags.contains("avx512_bf16"));
    println!(
        "{threads} threads, {} s a cell, {}",
        options.measure.as_secs(),
        servers::cpu()
    );

    let mut kinds = vec![servers::Kind::Tenon("f32")];
    if has_bf16 {
        kinds.push(servers::Kind::Tenon("bf16"));
    } else {
        println!("SKIPPED bf16: this CPU has no AVX512_BF16");
    }
    if options.peers {
        servers::prepare_peers()?;
        kinds.extend([servers::Kind::Ort, servers::Kind::Torch]);
    } else {
        println!("SKIPPED peers: run with --peers to install and measure them");
    }

    let mut cells = Vec::new();
    let mut long = Vec::new();
    for kind in &kinds {
        let server = Running::start(*kind, threads).with_context(|| format!("{kind}"))?;
        for (workload, clients) in workload::cells() {
            let measured = load::run(server.address, &workload, clients, WARM_UP, options.measure)?;
            report::progress(*kind, &workload, clients, &measured);
            cells.push(Cell {
                kind: *kind,
                workload: workload.name,
                clients,
                measured,
            });
        }
        let workload = workload::long();
        let measured = load::run(server.address, &workload, 4, WARM_UP, options.measure)?;
        long.push((
            *kind,
            measured.tokens_per_s * workload::FLOP_PER_TOKEN_OF_LONG / 1e9,
        ));
        println!("{kind}: resident {}", server.memory());
    }
    report::table(&cells);
    report::ratios(&cells);
    report::long_batches(&long, peak::f32_gflops(threads));
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        peers: false,
        measure: Duration::from_secs(8),
    };
    for argument in arguments {
        match argument.split_once('=') {
            None if argument == "--peers" => options.peers = true,
            Some(("--seconds", value)) => {
                let seconds = value.parse().context("--seconds wants a whole number")?;
                options.measure = Duration::from_secs(seconds);
            }
            _ => bail!("unknown argument {argument:?}: wanted --peers or --seconds=N"),
        }
    }
    Ok(options)
}
