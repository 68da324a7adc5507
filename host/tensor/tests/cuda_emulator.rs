//! The CUDA kernels compute what they should, in an emulated block on the processor: see
//! `cuda/emulator`. Mutants of the kernels show that mistakes are caught.

mod cuda;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use cuda::{built, files, fingerprint, kernels, run, skip, sources};

/// How the programs are compiled.
const OPTIONS: [&str; 7] = [
    "-std=c++17",
    "-O1",
    "-g1",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-Wno-sign-compare",
    "-fno-strict-aliasing",
];

/// Every access and every conversion is watched.
const WATCHED: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Every access is watched, which takes half the time to compile.
const ACCESSES_WATCHED: [&str; 1] = ["-fsanitize=address"];

/// A mistake: one replacement in the source of a kernel, and the program that must notice it.
struct Mutant {
    name: &'static str,
    program: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
}

/// Compiles a program with the kernels, or with mutants of them, where anything changed since the
/// last time; or says why it cannot.
fn build(program: &str, name: &str, mutant: Option<&Mutant>) -> Result<PathBuf, String> {
    run(Command::new("c++").arg("--version"))?;
    // The emulator's files come last: its intrinsics replace the device's.
    let emulator = sources().join("emulator");
    let kernels = files(&kernels(), &[".cu", ".cuh"]);
    let emulator = files(&emulator, &[".h", ".cuh", &format!("/{program}.cpp")]);
    let folder = built().join("emulator").join(name);
    let watched = match mutant {
        None => &WATCHED[..],
        Some(_) => &ACCESSES_WATCHED[..],
    };
    let mut texts = vec![OPTIONS.concat(), watched.concat()];
    fs::create_dir_all(&folder).unwrap();
    for path in kernels.iter().chain(&emulator) {
        let file = path.file_name().unwrap().to_str().unwrap();
        let mut text = fs::read_to_string(path).unwrap();
        if let Some(mutant) = mutant.filter(|mutant| mutant.file == file) {
            let count = text.matches(mutant.find).count();
            assert_eq!(count, 1, "{name}: {file} has {:?} so often", mutant.find);
            text = text.replace(mutant.find, mutant.replace);
        }
        write_changed(&folder.join(file), &text);
        texts.push(text);
    }
    let print = fingerprint(texts.iter().map(String::as_str));
    let executable = folder.join(format!("{program}.{print}"));
    if !executable.exists() {
        let source = folder.join(format!("{program}.cpp"));
        let mut compiler = Command::new("c++");
        let compiled = run(compiler
            .args(OPTIONS)
            .args(watched)
            .arg(source)
            .arg("-o")
            .arg(&executable));
        compiled.unwrap_or_else(|error| panic!("{error}"));
    }
    Ok(executable)
}

fn write_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    fs::write(path, text).unwrap();
}

/// Runs a program; what it printed, or how it failed.
fn execute(executable: &Path) -> Result<String, String> {
    // Fibers confuse what looks for memory that nobody frees and for returned-from frames.
    let options = "detect_leaks=0:detect_stack_use_after_return=0";
    run(Command::new(executable).env("ASAN_OPTIONS", options))
}

#[track_caller]
fn passes(program: &str) {
    match build(program, program, None) {
        Ok(executable) => match execute(&executable) {
            Ok(report) => println!("{report}"),
            Err(error) => panic!("{error}"),
        },
        Err(reason) => skip(program, &reason),
    }
}

#[test]
fn embeddings_match_reference() {
    passes("embedding");
}

#[test]
fn norms_match_reference() {
    passes("norm");
}

#[test]
fn attention_matches_reference() {
    passes("attention");
}

#[test]
fn attention_matches_reference_for_every_width() {
    passes("attention_widths");
}

#[test]
fn attention_without_tensor_cores_matches_reference() {
    passes("attention_plain");
}

#[test]
fn rotations_match_reference() {
    passes("rotary");
}

#[test]
fn functions_of_elements_and_conversions_match_reference() {
    passes("elementwise");
}

#[test]
fn copies_of_views_are_exact() {
    passes("copy");
}

#[test]
fn pooled_rows_match_reference() {
    passes("pooling");
}

#[test]
fn pixels_match_reference() {
    passes("pixels");
}

#[test]
fn rows_in_8_bits_match_reference() {
    passes("quantize");
}

/// Mistakes that compile: each must be noticed.
const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "sum over half of the lanes",
        program: "norm",
        file: "norm.cu",
        find: "(lanes < WARP ? lanes : WARP) / 2;",
        replace: "(lanes < WARP ? lanes : WARP) / 4;",
    },
    Mutant {
        name: "no barrier before the sums of other warps are read",
        program: "norm",
        file: "norm.cu",
        find: "sums[warp] = value;\n        block_barrier();",
        replace: "sums[warp] = value;",
    },
    Mutant {
        name: "no barrier before the keys are read",
        program: "attention_mutants",
        file: "attention.cu",
        find: "nobody still uses these.\n        block_barrier();",
        replace: "",
    },
    Mutant {
        name: "no barrier before the first keys are read",
        program: "attention_mutants",
        file: "attention.cu",
        find: "tiles are there for all.\n    block_barrier();",
        replace: "",
    },
    Mutant {
        name: "no barrier before the values are read",
        program: "attention_mutants",
        file: "attention.cu",
        find: "nobody still uses the keys.\n            block_barrier();",
        replace: "",
    },
    Mutant {
        name: "keys not waited for",
        program: "attention_mutants",
        file: "attention.cu",
        find: "copy_wait<0>();\n        // The next tiles",
        replace: "// The next tiles",
    },
    Mutant {
        name: "values not waited for",
        program: "attention_mutants",
        file: "attention.cu",
        find: "copy_wait<0>();\n            // The values",
        replace: "// The values",
    },
    Mutant {
        name: "swapped halves of a fragment",
        program: "attention_mutants",
        file: "attention.cu",
        find: "to[t][2 * n + 1], query[t], b[2], b[3]",
        replace: "to[t][2 * n + 1], query[t], b[3], b[2]",
    },
    Mutant {
        name: "values not transposed",
        program: "attention_mutants",
        file: "attention.cu",
        find: "load_matrices_transposed(b,",
        replace: "load_matrices(b,",
    },
    Mutant {
        name: "causal mask without the query itself",
        program: "attention_mutants",
        file: "attention.cu",
        find: "offset <= most",
        replace: "offset < most",
    },
    Mutant {
        name: "causal mask without the query itself and without tensor cores",
        program: "attention_plain",
        file: "sequence.cuh",
        find: "key <= query + right;\n    }\n\n    // Whether",
        replace: "key < query + right;\n    }\n\n    // Whether",
    },
    Mutant {
        name: "window that begins one key late",
        program: "attention_mutants",
        file: "attention.cu",
        find: "offset >= least",
        replace: "offset > least",
    },
    Mutant {
        name: "keys of the next sequence",
        program: "attention_mutants",
        file: "attention.cu",
        find: "key_offset(n, i) < keys",
        replace: "key_offset(n, i) <= keys",
    },
    Mutant {
        name: "tile that only the last of a warp's queries see left out",
        program: "attention_mutants",
        file: "sequence.cuh",
        find: "key < query + queries + right",
        replace: "key <= query + right",
    },
    Mutant {
        name: "forms that round differently",
        program: "attention_mutants",
        file: "attention.cu",
        find: "? 64 : 32;",
        replace: "? 32 * TILES : 32;",
    },
    Mutant {
        name: "unmasked tile at the window's edge",
        program: "attention_mutants",
        file: "sequence.cuh",
        find: "key >= query + queries - 1 - left",
        replace: "key >= query - left",
    },
    Mutant {
        name: "tile larger than shared memory",
        program: "attention_mutants",
        file: "attention.cu",
        find: "(QUERIES + 2 * STAGES * KEYS) * STRIDE * 2",
        replace: "(QUERIES + 2 * STAGES * KEYS) * STRIDE * 2 - 32",
    },
    Mutant {
        name: "sum not made relative to a new highest",
        program: "attention_mutants",
        file: "sequence.cuh",
        find: "sum *= factor;",
        replace: "",
    },
    Mutant {
        name: "row that saw nothing yet",
        program: "attention_mutants",
        file: "sequence.cuh",
        find: "float before = highest;",
        replace: "float before = shift();",
    },
    Mutant {
        name: "bias of a key beyond its reach",
        program: "attention_mutants",
        file: "sequence.cuh",
        find: "larger(-reach, smaller(reach, distance))",
        replace: "distance",
    },
    Mutant {
        name: "bias of the opposite distance",
        program: "attention_mutants",
        file: "sequence.cuh",
        find: "smaller(reach, distance)",
        replace: "smaller(reach, -distance)",
    },
    Mutant {
        name: "scores with a bias scaled twice",
        program: "attention_mutants",
        file: "attention.cu",
        find: "bias.exists() ? 1.0f : scale",
        replace: "scale",
    },
    Mutant {
        name: "id that is one beyond the table",
        program: "embedding",
        file: "embedding.cu",
        find: "id < static_cast<u32>(table_rows)",
        replace: "id <= static_cast<u32>(table_rows)",
    },
    Mutant {
        name: "norm over half of a head",
        program: "rotary",
        file: "rotary.cu",
        find: "int distance = lanes / 2;",
        replace: "int distance = lanes / 4;",
    },
    Mutant {
        name: "partner in the next lane",
        program: "rotary",
        file: "rotary.cu",
        find: "pair.distance / CHUNK : 0);",
        replace: "1 : 0);",
    },
    Mutant {
        name: "values that are normalised",
        program: "rotary",
        file: "rotary.cu",
        find: "at.head < heads ? key : nullptr",
        replace: "at.head <= heads ? key : nullptr",
    },
    Mutant {
        name: "no barrier before a tile is overwritten",
        program: "attention_plain",
        file: "attention_plain.cu",
        find: "        warp.add_values(weights, tile);\n        block_barrier();",
        replace: "        warp.add_values(weights, tile);",
    },
    Mutant {
        name: "no barrier before lanes are put together",
        program: "pooling",
        file: "pooling.cu",
        find: "    block_barrier();",
        replace: "",
    },
    Mutant {
        name: "a highest of one warp only",
        program: "quantize",
        file: "quantize.cu",
        find: "if (lanes == WARP) return highest;",
        replace: "return highest;",
    },
    Mutant {
        name: "no barrier before the highest of other warps is read",
        program: "quantize",
        file: "quantize.cu",
        find: "    block_barrier();",
        replace: "",
    },
    Mutant {
        name: "an infinite row that is not NaN",
        program: "quantize",
        file: "quantize.cu",
        find: "highest >= INFINITY_BITS) scale",
        replace: "highest > INFINITY_BITS) scale",
    },
    Mutant {
        name: "a row of zeros divided by nothing",
        program: "quantize",
        file: "quantize.cu",
        find: "if (scale < LEAST_SCALE) scale = LEAST_SCALE;",
        replace: "",
    },
    Mutant {
        name: "whole chunks of a row that is none",
        program: "pooling",
        file: "element.cuh",
        find: "return width % CHUNK == 0 &&",
        replace: "return",
    },
];

#[test]
fn mutants_are_noticed() {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(mutant) = MUTANTS.get(next.fetch_add(1, Relaxed)) {
                    notices(mutant);
                }
            });
        }
    });
}

fn notices(mutant: &Mutant) {
    let name = mutant.name.replace(' ', "_");
    match build(mutant.program, &name, Some(mutant)) {
        Ok(executable) => match execute(&executable) {
            Ok(report) => panic!("nobody noticed: {}\n{report}", mutant.name),
            Err(error) => println!("{}: {error}", mutant.name),
        },
        Err(reason) => skip(mutant.name, &reason),
    }
}
