//! Checks a file against its SHA-256.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// What is read at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Refuses a file whose SHA-256 is not `wanted`, in hexadecimal.
pub fn verify(path: &Path, wanted: &str) -> anyhow::Result<()> {
    let found = sha256(path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        found == wanted,
        "{}: its SHA-256 is {found}, wanted is {wanted}",
        path.display()
    );
    Ok(())
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn refuses_a_file_of_another_digest() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        // The digest that FIPS 180-4's examples give for "abc".
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(file.path(), digest).unwrap();
        let error = verify(file.path(), &digest.replace('b', "c")).unwrap_err();
        assert!(error.to_string().contains(digest), "{error}");
    }
}
