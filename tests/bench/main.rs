//! The benchmark behind `cargo xtask bench`: one load generator for this server and its peers.

mod cuda;
mod families;
mod load;
mod matrices;
mod native;
mod peak;
mod report;
mod servers;
mod workload;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use load::Seen;
use report::Cell;
use servers::{Kind, Running};
use tenon_tensor::{DType, Device};
use workload::Workload;

/// How long a server is loaded before it is measured.
const WARM_UP: Duration = Duration::from_millis(700);
/// In how many rounds a cell is measured.
const ROUNDS: u32 = 4;
/// Clients of the long packed batches.
const LONG_CLIENTS: usize = 4;

/// What the command line asks for.
struct Options {
    /// Measure model families in place of the default model.
    families: bool,
    /// Measure them on a CUDA device.
    cuda: bool,
    /// Install and measure the peers too.
    peers: bool,
    /// How long each cell is measured.
    measure: Duration,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if cuda::is_wanted(&arguments) {
        if let Err(error) = cuda::run(&arguments) {
            eprintln!("tenon-bench: {error:#}");
            std::process::exit(1);
        }
        return Ok(());
    }
    let options = parse(arguments.into_iter())?;
    let threads = std::thread::available_parallelism()?.get();
    let has_bf16 =
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|flags| flags.contains("avx512_bf16"));
    println!(
        "{threads} threads, {} s a cell, {}",
        options.measure.as_secs(),
        servers::cpu()
    );
    if options.families {
        return families::run(options.cuda, options.measure);
    }

    let mut kinds = vec![Kind::Tenon("f32")];
    if has_bf16 {
        kinds.push(Kind::Tenon("bf16"));
    } else {
        println!("SKIPPED bf16: this CPU has no AVX512_BF16");
    }
    if options.peers {
        servers::prepare_peers()?;
        kinds.extend([Kind::Ort, Kind::Torch("f32")]);
        if has_bf16 {
            kinds.push(Kind::Torch("bf16"));
        }
    } else {
        println!("SKIPPED peers: run with --peers to install and measure them");
    }

    let mut servers = Vec::new();
    for kind in kinds {
        let server = Running::start(kind, threads).with_context(|| format!("{kind}"))?;
        servers.push((kind, server));
    }
    let mut cells = Vec::new();
    report::headline();
    for (workload, clients) in workload::cells() {
        let measured = measure(&servers, &workload, clients, options.measure)?;
        measured.iter().for_each(report::row);
        cells.extend(measured);
    }
    let device = Device::cpu(threads)?;
    let peaks = || -> Result<[f64; 2]> {
        let [f32, bf16] = [DType::F32, DType::BF16].map(|dtype| peak::flops(&device, dtype));
        Ok([f32?, bf16?])
    };
    let before = peaks()?;
    let long = measure(&servers, &workload::long(), LONG_CLIENTS, options.measure)?;
    let after = peaks()?;
    for (kind, server) in &servers {
        println!("{kind}: resident {}", server.memory());
    }
    report::ratios(&cells);
    drop(servers);
    report::long_batches(&long, |dtype| {
        let index = usize::from(dtype == "bf16");
        (before[index] + after[index]) / 2e9
    });
    Ok(())
}

/// Loads each server in turn, round after round: what the machine does meanwhile meets all of
/// them alike.
fn measure(
    servers: &[(Kind, Running)],
    workload: &Workload,
    clients: usize,
    time: Duration,
) -> Result<Vec<Cell>> {
    let cell = |(kind, _): &(Kind, Running)| Cell {
        kind: *kind,
        workload: workload.name,
        clients,
        seen: Seen::default(),
    };
    let mut cells: Vec<Cell> = servers.iter().map(cell).collect();
    for _ in 0..ROUNDS {
        for (cell, (_, server)) in cells.iter_mut().zip(servers) {
            let seen = load::run(server.address, workload, clients, WARM_UP, time / ROUNDS)?;
            cell.seen.add(seen);
        }
    }
    Ok(cells)
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        families: false,
        cuda: false,
        peers: false,
        measure: Duration::from_secs(8),
    };
    for argument in arguments {
        match argument.split_once('=') {
            None if argument == "--families" => options.families = true,
            None if argument == "--peers" => options.peers = true,
            Some(("--device", "cuda")) => options.cuda = true,
            Some(("--device", "cpu")) => options.cuda = false,
            Some(("--seconds", value)) => {
                let seconds = value.parse().context("--seconds wants a whole number")?;
                options.measure = Duration::from_secs(seconds);
            }
            _ => bail!(
                "unknown argument {argument:?}: wanted --families, --peers, --seconds=N, \
                 --device=cpu or --device=cuda"
            ),
        }
    }
    Ok(options)
}
