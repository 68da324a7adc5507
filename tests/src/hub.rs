//! A local server that speaks as much of the Hugging Face hub's protocol as a download needs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

/// The commit that the hub gives as the head of every model.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The token that gated models ask for.
pub const TOKEN: &str = "hf_secret";

/// How the hub treats the transfer of one file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// As it should.
    Whole,
    /// The connection is closed after so many bytes, once.
    BreaksOff(usize),
    /// Nothing more comes after so many bytes, once.
    Stalls(usize),
    /// The first byte is another one than the digest was made of.
    Corrupt,
}

/// A request for the contents of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The file's name in the model.
    pub file: String,
    /// The first byte that was asked for.
    pub from: usize,
}

/// A running hub. It ends with the test process.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: String,
    gated: bool,
    files: BTreeMap<String, Vec<u8>>,
    transfer: Mutex<Transfer>,
    downloads: Mutex<Vec<Download>>,
}

impl Hub {
    /// Serves the files below `folder` as the model `id`.
    pub fn start(id: &str, folder: &Path, gated: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut files = BTreeMap::new();
        collect(folder, "", &mut files);
        let hub = Self {
            address: listener.local_addr().expect("its address"),
            shared: Arc::new(Shared {
                id: id.to_owned(),
                gated,
                files,
                transfer: Mutex::new(Transfer::Whole),
                downloads: Mutex::default(),
            }),
        };
        let serving = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = serving.clone();
                // A client that goes away is no failure of the hub.
                thread::spawn(move || hub.answer(stream).ok());
            }
        });
        hub
    }

    /// What goes wrong with weights from here on.
    pub fn set_transfer(&self, transfer: Transfer) {
        *self.shared.transfer.lock().expect("no panic") = transfer;
    }

    /// The requests for contents so far.
    pub fn downloads(&self) -> Vec<Download> {
        self.shared.downloads.lock().expect("no panic").clone()
    }

    /// The contents of a file of the model.
    pub fn contents(&self, file: &str) -> &[u8] {
        &self.shared.files[file]
    }

    fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut range, mut token) = (None, None);
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "range" => range = value.strip_prefix("bytes=").map(str::to_owned),
                "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
        let stream = reader.into_inner();
        let shared = &self.shared;
        if shared.gated && token.as_deref() != Some(TOKEN) {
            return respond(stream, "401 Unauthorized", &[], b"gated");
        }
        if path == format!("/api/models/{}/revision/main", shared.id) {
            let siblings: Vec<_> = shared
                .files
                .keys()
                .map(|name| json!({"rfilename": name}))
                .collect();
            let info = json!({"sha": COMMIT, "siblings": siblings}).to_string();
            let kind = ("content-type", "application/json".to_owned());
            return respond(stream, "200 OK", &[kind], info.as_bytes());
        }
        let resolve = format!("/{}/resolve/main/", shared.id);
        if let Some(file) = path.strip_prefix("/large/") {
            return self.send(stream, file, range.as_deref());
        }
        match path.strip_prefix(&resolve) {
            Some(file) if !shared.files.contains_key(file) => {
                respond(stream, "404 Not Found", &[], b"no such file")
            }
            // The hub keeps large files elsewhere and names them by their digest.
            Some(file) if file.ends_with(".safetensors") => {
                let headers = [
                    ("x-repo-commit", COMMIT.to_owned()),
                    (
                        "x-linked-etag",
                        format!("\"{}\"", sha256(&shared.files[file])),
                    ),
                    ("location", format!("http://{}/large/{file}", self.address)),
                ];
                respond(stream, "302 Found", &headers, b"")
            }
            Some(file) => self.send(stream, file, range.as_deref()),
            None => respond(stream, "404 Not Found", &[], b"no such model"),
        }
    }

    /// Sends a range of a file's contents.
    fn send(&self, mut stream: TcpStream, file: &str, range: Option<&str>) -> io::Result<()> {
        let contents = self.contents(file);
        let (from, to) = range
            .and_then(|range| range.split_once('-'))
            .unwrap_or(("0", ""));
        let from: usize = from.parse().unwrap_or(0);
        let to: usize = to.parse().map_or(contents.len(), |last: usize| last + 1);
        let mut part = contents[from..to].to_vec();
        let is_probe = part.len() == 1;
        let mut transfer = Transfer::Whole;
        if !is_probe {
            let download = Download {
                file: file.to_owned(),
                from,
            };
            self.shared
                .downloads
                .lock()
                .expect("no panic")
                .push(download);
            if file.ends_with(".safetensors") {
                transfer = std::mem::replace(
                    &mut *self.shared.transfer.lock().expect("no panic"),
                    Transfer::Whole,
                );
            }
        }
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nconnection: close\r\nx-repo-commit: {COMMIT}\r\n\
             etag: \"{}\"\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\n\r\n",
            &sha256(contents)[..40],
            part.len(),
            to - 1,
            contents.len(),
        )?;
        match transfer {
            Transfer::Whole => stream.write_all(&part),
            Transfer::Corrupt => {
                part[0] ^= 1;
                stream.write_all(&part)
            }
            Transfer::BreaksOff(bytes) => stream.write_all(&part[..bytes]),
            Transfer::Stalls(bytes) => {
                stream.write_all(&part[..bytes])?;
                thread::sleep(Duration::from_secs(3600));
                Ok(())
            }
        }
    }
}

fn respond(
    mut stream: TcpStream,
    status: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\n")?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "content-length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = format!("{prefix}{}", name.expect("UTF-8 name"));
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(&path).expect("file"));
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
