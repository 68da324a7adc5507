//! What an operator can set: the arguments of `tenon serve`, each also an environment
//! variable, parsed here and nowhere else.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tenon_preprocess::ImageLimits;

use crate::bundles::{self, Bundle, ChatTemplate, Matryoshka, ServedDtype, pull};
use crate::http::HttpOptions;
use crate::media::FetchPolicy;
use crate::observability::LogFormat;
use crate::scheduler::SchedulerOptions;
use crate::tenants::Keys;

/// More devices than a machine has.
const MAX_DEVICES: usize = 64;

/// The devices to compute on: `auto`, `cpu`, `cuda`, `cuda:N`, several of these with commas
/// between, or `cuda:all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device that works, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA devices of these numbers.
    Cuda(Vec<usize>),
    /// Every CUDA device.
    AllCuda,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(vec![0])),
            "cuda:all" => return Ok(Self::AllCuda),
            _ => {}
        }
        let mut ordinals = Vec::new();
        for device in text.split(',') {
            let ordinal = device.strip_prefix("cuda:");
            let ordinal = ordinal.and_then(|ordinal| ordinal.parse().ok());
            let ordinal = ordinal.ok_or(
                "it is none of auto, cpu, cuda, cuda:N, several cuda:N with commas between, and \
                 cuda:all",
            )?;
            if ordinals.contains(&ordinal) {
                return Err(format!("it names {device} twice"));
            }
            if ordinals.len() == MAX_DEVICES {
                return Err(format!("it names more than {MAX_DEVICES} devices"));
            }
            ordinals.push(ordinal);
        }
        Ok(Self::Cuda(ordinals))
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogChoice {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogChoice {
    /// As the argument of this name has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    fn format(self) -> LogFormat {
        match self {
            Self::Text => LogFormat::Text,
            Self::Json => LogFormat::Json,
        }
    }
}

/// Arguments of `tenon serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// A model's folder or its id on the hub; repeat for several. Without any, and
    /// without --bundle, all-MiniLM-L6-v2 is served.
    #[arg(
        long = "model",
        value_name = "PATH|ID",
        env = "TENON_MODEL",
        value_delimiter = ','
    )]
    pub models: Vec<String>,
    /// A bundle's manifest; repeat for several.
    #[arg(
        long = "bundle",
        value_name = "FILE",
        env = "TENON_BUNDLE",
        value_delimiter = ','
    )]
    pub bundle_files: Vec<PathBuf>,
    /// The name to serve a --model under; repeat in the order of the models.
    #[arg(
        long = "served-model-name",
        value_name = "NAME",
        env = "TENON_SERVED_MODEL_NAME",
        value_delimiter = ','
    )]
    pub served_model_names: Vec<String>,
    /// The chat template of every --model: plain (none), jinja (the checkpoint's own) or
    /// gme-qwen2-vl, a component's file (.wasm), or a file in Jinja. Without one, text is
    /// served as it is and conversations are refused.
    #[arg(
        long = "chat-template",
        value_name = "NAME|FILE",
        env = "TENON_CHAT_TEMPLATE"
    )]
    pub chat_template: Option<String>,
    /// The lengths of vectors that callers of every --model may ask for, with commas between,
    /// or `any`. Without it, those that the checkpoint is trained for (Matryoshka).
    #[arg(
        long = "matryoshka-dimensions",
        value_name = "N,N|any",
        env = "TENON_MATRYOSHKA_DIMENSIONS"
    )]
    pub matryoshka: Option<Matryoshka>,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1", env = "TENON_HOST")]
    pub host: String,
    /// The port to listen on; 0 takes any that is free.
    #[arg(long, default_value_t = 8080, env = "TENON_PORT")]
    pub port: u16,
    /// The device to compute on: auto, cpu, cuda, cuda:N, several with commas between
    /// (cuda:0,cuda:1), or cuda:all.
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "auto",
        env = "TENON_DEVICE"
    )]
    pub device: DeviceChoice,
    /// The dtype to serve weights in; a manifest's own wins over `auto`.
    #[arg(long, value_enum, default_value = "auto", env = "TENON_DTYPE")]
    pub dtype: ServedDtype,
    /// Threads that compute [default: the CPUs that the process may use].
    #[arg(long, value_name = "N", env = "TENON_THREADS")]
    pub threads: Option<usize>,
    /// Tokens in one batch [default: 1024 on the processor, 16384 on CUDA devices].
    #[arg(long, value_name = "N", env = "TENON_MAX_BATCH_TOKENS")]
    pub max_batch_tokens: Option<usize>,
    /// Inputs that may wait; more are refused with 429.
    #[arg(long, value_name = "N", env = "TENON_MAX_QUEUED_INPUTS",
        default_value_t = SchedulerOptions::default().max_queued_sequences)]
    pub max_queued_inputs: usize,
    /// Embedding requests in progress; more are refused with 429.
    #[arg(long, value_name = "N", env = "TENON_MAX_CONCURRENT_REQUESTS",
        default_value_t = HttpOptions::default().max_concurrent_requests)]
    pub max_concurrent_requests: usize,
    /// The largest request body, in bytes.
    #[arg(long, value_name = "BYTES", env = "TENON_MAX_BODY_BYTES",
        default_value_t = HttpOptions::default().max_body_bytes)]
    pub max_body_bytes: usize,
    /// Seconds that a request may take.
    #[arg(long, value_name = "S", env = "TENON_REQUEST_TIMEOUT_S",
        default_value_t = HttpOptions::default().request_timeout.as_secs())]
    pub request_timeout_s: u64,
    /// Seconds that requests in progress may take to finish after SIGTERM.
    #[arg(long, value_name = "S", env = "TENON_DRAIN_TIMEOUT_S",
        default_value_t = HttpOptions::default().drain_timeout.as_secs())]
    pub drain_timeout_s: u64,
    /// A key that callers must present, as KEY or NAME:KEY; repeat for several.
    #[arg(
        long = "api-key",
        value_name = "KEY",
        env = "TENON_API_KEY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub api_keys: Vec<String>,
    /// A host from which images are fetched by URL, as a name, *.NAME, * (any public one), an
    /// address or a range of addresses; repeat for several. Without any, none is fetched.
    #[arg(
        long = "image-hosts",
        value_name = "HOST",
        env = "TENON_IMAGE_HOSTS",
        value_delimiter = ','
    )]
    pub image_hosts: Vec<String>,
    /// Pixels that an image may have before it is resized.
    #[arg(long, value_name = "N", env = "TENON_MAX_IMAGE_PIXELS",
        default_value_t = ImageLimits::default().max_pixels)]
    pub max_image_pixels: u64,
    /// How log lines are written.
    #[arg(long, value_enum, default_value = "text", env = "TENON_LOG_FORMAT")]
    pub log_format: LogChoice,
}

impl ServeOptions {
    /// The bundles to serve, fetched where they are not here yet.
    pub fn bundles(&self) -> anyhow::Result<Vec<Bundle>> {
        anyhow::ensure!(
            self.served_model_names.len() <= self.models.len().max(1),
            "{} --served-model-name for {} --model",
            self.served_model_names.len(),
            self.models.len()
        );
        let mut models = self.models.clone();
        if models.is_empty() && self.bundle_files.is_empty() {
            models.push(pull::DEFAULT_MODEL.into());
        }
        let chat_template = match &self.chat_template {
            Some(name) => Some(ChatTemplate::named(name).context("--chat-template")?),
            None => None,
        };
        anyhow::ensure!(
            chat_template.is_none() || !models.is_empty(),
            "--chat-template applies to --model, and there is none; a manifest names its own as \
             roles.template"
        );
        anyhow::ensure!(
            self.matryoshka.is_none() || !models.is_empty(),
            "--matryoshka-dimensions applies to --model, and there is none; a manifest says them \
             as config.pooling.matryoshka_dimensions"
        );
        let mut found = Vec::new();
        for (index, model) in models.iter().enumerate() {
            let mut bundle = self.model(model, self.served_model_names.get(index))?;
            if let Some(template) = &chat_template {
                bundle
                    .use_chat_template(template)
                    .context("--chat-template")?;
            }
            if let Some(matryoshka) = &self.matryoshka {
                bundle.use_matryoshka(matryoshka);
            }
            found.push(bundle);
        }
        for file in &self.bundle_files {
            found.push(bundles::from_manifest(file)?);
        }
        for bundle in &mut found {
            if self.dtype != ServedDtype::Auto && bundle.dtype == ServedDtype::Auto {
                bundle.dtype = self.dtype;
            }
        }
        Ok(found)
    }

    /// A model by its own last name, reachable by what the operator wrote as well.
    fn model(&self, model: &str, served: Option<&String>) -> anyhow::Result<Bundle> {
        let dir = pull::resolve(model)?;
        let is_id = !std::path::Path::new(model).is_dir();
        let name = match served {
            Some(name) => Some(name.as_str()),
            None if is_id => model.rsplit('/').next(),
            None => None,
        };
        let mut bundle = bundles::from_directory(&dir, name)?;
        if is_id && served.is_none() && bundle.name != model {
            bundle.aliases.push(model.to_owned());
        }
        Ok(bundle)
    }

    /// The scheduler's part, with so many tokens in a batch where the operator says nothing.
    pub fn scheduler(&self, default_batch_tokens: usize) -> SchedulerOptions {
        SchedulerOptions {
            max_batch_tokens: self.max_batch_tokens.unwrap_or(default_batch_tokens),
            max_queued_sequences: self.max_queued_inputs,
            ..SchedulerOptions::default()
        }
    }

    /// The HTTP server's part.
    pub fn http(&self) -> HttpOptions {
        HttpOptions {
            max_concurrent_requests: self.max_concurrent_requests,
            max_body_bytes: self.max_body_bytes,
            request_timeout: Duration::from_secs(self.request_timeout_s),
            drain_timeout: Duration::from_secs(self.drain_timeout_s),
            ..HttpOptions::default()
        }
    }

    /// The API keys.
    pub fn keys(&self) -> anyhow::Result<Keys> {
        Keys::from_list(&self.api_keys).context("--api-key")
    }

    /// From where images are fetched.
    pub fn image_hosts(&self) -> anyhow::Result<FetchPolicy> {
        FetchPolicy::from_list(&self.image_hosts).context("--image-hosts")
    }

    /// What an image may ask for.
    pub fn image_limits(&self) -> ImageLimits {
        ImageLimits {
            max_pixels: self.max_image_pixels,
        }
    }

    /// How log lines are written.
    pub fn logs(&self) -> LogFormat {
        self.log_format.format()
    }
}

/// Arguments of `tenon worker`, which the server writes.
#[derive(Debug, Clone, Args)]
pub struct WorkerOptions {
    /// The number of the CUDA device.
    #[arg(long)]
    pub ordinal: usize,
    /// Where compiled kernels are kept.
    #[arg(long)]
    pub kernels: Option<PathBuf>,
    /// As of the server.
    #[arg(long, value_enum)]
    pub log_format: LogChoice,
}

impl WorkerOptions {
    /// How log lines are written.
    pub fn logs(&self) -> LogFormat {
        self.log_format.format()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_or_refused_by_name() {
        let check = |text: &str, expected: Result<DeviceChoice, &str>| match (
            DeviceChoice::from_str(text),
            expected,
        ) {
            (Ok(choice), Ok(expected)) => assert_eq!(choice, expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("auto", Ok(DeviceChoice::Auto));
        check("cpu", Ok(DeviceChoice::Cpu));
        check("cuda", Ok(DeviceChoice::Cuda(vec![0])));
        check("cuda:1", Ok(DeviceChoice::Cuda(vec![1])));
        check("cuda:2,cuda:0", Ok(DeviceChoice::Cuda(vec![2, 0])));
        check("cuda:all", Ok(DeviceChoice::AllCuda));
        check("cuda:0,cuda:0", Err("cuda:0 twice"));
        for nonsense in [
            "",
            "tpu",
            "cuda:",
            "cuda:-1",
            "cuda:0,",
            "cuda:0,cpu",
            "cuda:0,1",
        ] {
            check(nonsense, Err("cuda:all"));
        }
        let many: Vec<String> = (0..=MAX_DEVICES).map(|n| format!("cuda:{n}")).collect();
        check(&many.join(","), Err("more than 64"));
    }
}
