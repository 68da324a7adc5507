//! The kernels' code for a device: compiled with NVRTC at the first start, then from a cache.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::ptr;

use cudarc::nvrtc::{result, sys};

use crate::error::{Error, Result, bail};

/// A file of kernels.
pub(super) struct Source {
    /// Its name.
    pub name: &'static str,
    text: &'static str,
}

macro_rules! sources {
    ($($name:literal),+) => {
        &[$(Source { name: $name, text: include_str!(concat!("kernels/", $name)) }),+]
    };
}

/// The files that have kernels.
pub(super) const KERNELS: &[Source] = sources![
    "attention.cu",
    "attention_plain.cu",
    "cast.cu",
    "copy.cu",
    "elementwise.cu",
    "embedding.cu",
    "norm.cu",
    "pixels.cu",
    "pooling.cu",
    "rotary.cu",
    "tuning.cu"
];

/// Those with e4m3, which not every device has.
pub(super) const FP8_KERNELS: &[Source] = sources!["quantize.cu"];

/// What they include.
const HEADERS: &[Source] = sources![
    "activation.cuh",
    "element.cuh",
    "intrinsics.cuh",
    "sequence.cuh"
];

/// Gives `load` the code of a file of kernels for an architecture such as `sm_90a`. `cache` is a
/// folder of this user's; without one, or where it cannot be used, the code is compiled every
/// time, and so it is where `load` does not take what is there.
pub(super) fn with_code(
    source: &Source,
    architecture: &str,
    cache: Option<&Path>,
    mut load: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let version = version()?;
    let file = cache.map(|folder| folder.join(file_name(source, architecture, version)));
    if let Some(file) = &file
        && let Ok(code) = fs::read(file)
        && load(&code).is_ok()
    {
        return Ok(());
    }
    let code = compile(source, architecture)?;
    load(&code)?;
    if let Some(file) = file {
        // Without a cache the next start is slow, not wrong.
        let _ = keep(&file, &code);
    }
    Ok(())
}

/// Named by all that the code depends on.
fn file_name(source: &Source, architecture: &str, version: (c_int, c_int)) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    for source in HEADERS.iter().chain([source]) {
        (source.name, source.text).hash(&mut hasher);
    }
    (OPTIONS, version).hash(&mut hasher);
    let print = hasher.finish();
    format!("{}.{architecture}.{print:016x}.cubin", source.name).into()
}

/// Writes a file at once or not at all.
fn keep(file: &Path, code: &[u8]) -> std::io::Result<()> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    fs::create_dir_all(folder)?;
    let written = file.with_extension(format!("{}.part", std::process::id()));
    fs::File::create(&written)?.write_all(code)?;
    fs::rename(written, file)
}

/// How the kernels' tests compile them too.
const OPTIONS: [&CStr; 2] = [c"--std=c++17", c"-default-device"];

fn version() -> Result<(c_int, c_int)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are written before it returns.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(|error| Error::Unsupported(format!("cuda: NVRTC: {error:?}")))?;
    Ok((major, minor))
}

/// A program, destroyed in the end.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is this one's, and nobody uses it after it.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn compile(source: &Source, architecture: &str) -> Result<Vec<u8>> {
    let text = |text: &str| {
        CString::new(text).map_err(|_| Error::Other("cuda: a zero byte in a source".to_owned()))
    };
    let (name, code) = (text(source.name)?, text(source.text)?);
    let headers = |of: fn(&Source) -> &'static str| -> Result<Vec<CString>> {
        HEADERS.iter().map(|header| text(of(header))).collect()
    };
    let names = headers(|header| header.name)?;
    let texts = headers(|header| header.text)?;
    let architecture = text(&format!("-arch={architecture}"))?;
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).collect()
    };
    let (names, texts) = (pointers(&names), pointers(&texts));
    let failed = |error| Error::Other(format!("cuda: {}: NVRTC: {error:?}", source.name));
    let mut raw = ptr::null_mut();
    // SAFETY: all are texts that end with a zero, and there are as many headers as names; they
    // live until the program is destroyed.
    unsafe {
        sys::nvrtcCreateProgram(
            &raw mut raw,
            code.as_ptr(),
            name.as_ptr(),
            HEADERS.len() as c_int,
            texts.as_ptr(),
            names.as_ptr(),
        )
    }
    .result()
    .map_err(failed)?;
    let program = Program(raw);
    let mut options: Vec<*const c_char> = OPTIONS.iter().map(|option| option.as_ptr()).collect();
    options.push(architecture.as_ptr());
    // SAFETY: the program is alive, and so are the options.
    let compiled = unsafe {
        sys::nvrtcCompileProgram(program.0, options.len() as c_int, options.as_ptr()).result()
    };
    if let Err(error) = compiled {
        // SAFETY: the program is alive.
        let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
        let log: Vec<u8> = log.iter().map(|&byte| byte as u8).collect();
        let log = String::from_utf8_lossy(&log);
        bail!(Other, "cuda: {}: {error:?}: {log}", source.name);
    }
    let mut size = 0;
    // SAFETY: the program is alive.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut size) }
        .result()
        .map_err(failed)?;
    let mut cubin = vec![0u8; size];
    // SAFETY: `cubin` has as many bytes as the code.
    unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }
        .result()
        .map_err(failed)?;
    Ok(cubin)
}
