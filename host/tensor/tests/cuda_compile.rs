//! Every CUDA kernel compiles for every architecture, without spills and within its registers.
//! Needs no GPU: the compiler comes from PyPI.

mod cuda;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use cuda::{built, files, fingerprint, kernels, run, skip, sources};

/// The architectures that the backend is delivered for.
const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"];

/// Files that devices before compute capability 8.9 do without: they have no e4m3.
const FP8_FILES: [&str; 1] = ["quantize.cu"];

/// The architectures without it, which come first.
const WITHOUT_FP8: usize = 2;

/// The architectures that a file is compiled for.
fn architectures_of(file: &str) -> &'static [&'static str] {
    match FP8_FILES.contains(&file) {
        true => &ARCHITECTURES[WITHOUT_FP8..],
        false => &ARCHITECTURES,
    }
}

/// The most registers a thread may take, on any architecture.
struct Gate {
    /// How the names of the kernels begin; the longest beginning counts.
    kernels: &'static str,
    registers: u64,
    /// Bytes of local memory, which is slow: none but where a function of CUDA's needs it.
    stack: u64,
    /// The blocks that then fit on a multiprocessor's 65536 registers, and why that is enough.
    reason: &'static str,
}

const GATES: &[Gate] = &[
    gate(
        "embedding_",
        40,
        "6 blocks of 256: memory is the limit, 48 warps hide it",
    ),
    gate(
        "layer_norm_",
        80,
        "6 blocks of 128: 24 warps, each with up to 128 bytes a lane under way",
    ),
    gate("rms_norm_", 72, "7 blocks of 128: as layer norm"),
    gate("l2_normalize_", 72, "7 blocks of 128: as layer norm"),
    gate(
        "attention_",
        255,
        "2 blocks of 128: results, scores and queries of 32 rows a warp are about 160 registers",
    ),
    gate(
        "attention_bf16_32",
        128,
        "4 blocks of 128: the results are 32 registers",
    ),
    gate("attention_f16_32", 128, "as bf16"),
    gate(
        "attention_bf16_32_short",
        80,
        "6 blocks of 128: short sequences end before copies are hidden but by other blocks",
    ),
    gate("attention_f16_32_short", 80, "as bf16"),
    gate(
        "attention_bf16_64_short",
        168,
        "3 blocks of 128, and 4 where their shared memory fits: as 32, with twice the results",
    ),
    gate("attention_f16_64_short", 168, "as bf16"),
    gate(
        "attention_bf16_80_short",
        168,
        "3 blocks of 128: as 64, with more results",
    ),
    gate("attention_f16_80_short", 168, "as bf16"),
    gate("attention_bf16_96_short", 168, "as 80"),
    gate("attention_f16_96_short", 168, "as bf16"),
    gate(
        "attention_bf16_128_short",
        128,
        "4 blocks of 128: the results are 64 registers, the scores of 32 keys 16",
    ),
    gate("attention_f16_128_short", 128, "as bf16"),
    gate(
        "attention_plain_",
        128,
        "4 blocks of 128: for parity, not for speed",
    ),
    gate("add_", 40, "6 blocks of 256: memory is the limit"),
    gate("mul_", 40, "as add"),
    gate("scale_", 40, "as add"),
    gate("gated_", 48, "5 blocks of 256: the functions take some"),
    gate("finish_", 48, "as gated"),
    gate("quantize_", 72, "7 blocks of 128: as rms norm"),
    gate("cast_", 40, "as add"),
    gate("fill_", 40, "as add"),
    gate("compare_words", 40, "as add"),
    gate("copy_", 40, "as add"),
    gate("rotary_", 48, "5 blocks of 256: four operands at a time"),
    gate(
        "normed_rotary_",
        48,
        "5 blocks of 256: as rotary, with a weight instead of the other chunk",
    ),
    Gate {
        stack: 48,
        ..gate(
            "rotary_table",
            40,
            "sine and cosine of huge angles keep a product there",
        )
    },
    gate("segment_pool_", 48, "5 blocks of 256: memory is the limit"),
    gate("pixels_", 48, "as add"),
];

const fn gate(kernels: &'static str, registers: u64, reason: &'static str) -> Gate {
    Gate {
        kernels,
        registers,
        stack: 0,
        reason,
    }
}

/// What one kernel takes on one architecture.
struct Usage {
    kernel: String,
    architecture: &'static str,
    registers: u64,
    stack: u64,
    spills: u64,
    shared: u64,
}

#[test]
fn kernels_compile_within_their_registers() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            return skip("kernels_compile_within_their_registers", &reason);
        }
    };
    let usages = compile_all(&python);
    let mut faults = Vec::new();
    let mut table: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut used = vec![false; GATES.len()];
    for usage in &usages {
        let row = table.entry(&usage.kernel).or_default();
        row.insert(usage.architecture, usage.registers);
        let Some(index) = gate_of(&usage.kernel) else {
            faults.push(format!("{} has no gate", usage.kernel));
            continue;
        };
        used[index] = true;
        faults.extend(fault(usage, &GATES[index]));
    }
    for (gate, used) in GATES.iter().zip(used) {
        if !used {
            faults.push(format!("no kernel's name begins with {}", gate.kernels));
        }
    }
    print_table(&table);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn gate_of(kernel: &str) -> Option<usize> {
    let fitting = GATES.iter().enumerate();
    let fitting = fitting.filter(|(_, gate)| kernel.starts_with(gate.kernels));
    let longest = fitting.max_by_key(|(_, gate)| gate.kernels.len());
    longest.map(|(index, _)| index)
}

/// What is wrong with a kernel.
fn fault(usage: &Usage, gate: &Gate) -> Option<String> {
    let Usage {
        kernel,
        architecture,
        registers,
        stack,
        spills,
        shared,
    } = usage;
    let fits = *registers <= gate.registers && *stack <= gate.stack;
    // Shared memory is asked for by the launch, where the emulator watches its bounds.
    (!fits || *spills > 0 || *shared > 0).then(|| {
        format!(
            "{kernel} for {architecture}: {registers} registers of {}, {stack} bytes of stack of \
             {}, {spills} bytes of spills, {shared} of static shared memory ({})",
            gate.registers, gate.stack, gate.reason
        )
    })
}

fn print_table(table: &BTreeMap<&str, BTreeMap<&str, u64>>) {
    println!(
        "{:34}{}",
        "registers",
        ARCHITECTURES.map(|a| format!("{a:>8}")).concat()
    );
    for (kernel, row) in table {
        let cells = ARCHITECTURES.map(|a| row.get(a).map_or(0, |&registers| registers));
        println!(
            "{kernel:34}{}",
            cells.map(|cell| format!("{cell:>8}")).concat()
        );
    }
}

/// Compiles each file for each architecture, as many at a time as there are processors.
fn compile_all(python: &Path) -> Vec<Usage> {
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let mut common: Vec<String> = files(&kernels(), &[".cuh"]).iter().map(read).collect();
    common.push(fs::read_to_string(sources().join("compile.py")).unwrap());
    common.push(fs::read_to_string(sources().join("requirements.txt")).unwrap());
    let mut jobs = Vec::new();
    for file in files(&kernels(), &[".cu"]) {
        let source = read(&file);
        let texts = common.iter().map(String::as_str).chain([source.as_str()]);
        let print = fingerprint(texts);
        let file = file.file_name().unwrap().to_str().unwrap().to_owned();
        let jobs_of = architectures_of(&file).iter();
        jobs.extend(jobs_of.map(|&architecture| (file.clone(), architecture, print.clone())));
    }
    let (next, (sender, receiver)) = (AtomicUsize::new(0), mpsc::channel());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (sender, jobs, next) = (sender.clone(), &jobs, &next);
            scope.spawn(move || {
                while let Some((file, architecture, print)) = jobs.get(next.fetch_add(1, Relaxed)) {
                    let compiled = compile(python, file, architecture, print);
                    sender.send((*architecture, compiled)).unwrap();
                }
            });
        }
        drop(sender);
        let compiled = receiver.into_iter();
        compiled
            .flat_map(|(architecture, report)| usages(architecture, &report))
            .collect()
    })
}

/// The compiler's report for a file; the one of last time where nothing changed.
fn compile(python: &Path, file: &str, architecture: &str, print: &str) -> String {
    let folder = built().join("compiled");
    fs::create_dir_all(&folder).unwrap();
    let cached = folder.join(format!("{file}.{architecture}.{print}.json"));
    if let Ok(report) = fs::read_to_string(&cached) {
        return report;
    }
    let script = sources().join("compile.py");
    let report = run(Command::new(python)
        .arg(script)
        .arg(kernels())
        .args([file, architecture]));
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    fs::write(&cached, &report).unwrap();
    report
}

fn usages(architecture: &'static str, report: &str) -> Vec<Usage> {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let kernels = report.as_object().unwrap();
    assert!(!kernels.is_empty(), "{architecture}: a file has no kernels");
    let usage = |(kernel, usage): (&String, &serde_json::Value)| {
        let number = |what: &str| usage[what].as_u64().unwrap();
        Usage {
            kernel: kernel.clone(),
            architecture,
            registers: number("registers"),
            stack: number("stack"),
            spills: number("spills"),
            shared: number("shared"),
        }
    };
    kernels.iter().map(usage).collect()
}

/// A Python with the compiler, installed in target/ where it is not there yet; or why there is
/// none.
fn python() -> Result<PathBuf, String> {
    let environment = built().join("venv");
    let python = environment.join("bin/python");
    let requirements = sources().join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).map_err(|error| error.to_string())?;
    let stamp = environment.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "-r"];
    run(Command::new(&python).args(install).arg(&requirements))?;
    fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}
