//! What the sandbox costs: the same requests through the same guest code, as components
//! and compiled natively, in one process and in alternating rounds.
//!
//! `cargo xtask bench` runs it.

mod native;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use api_openai::OpenAi;
use model_bert::Bert;
use template_plain::Plain;
use tenon::app::{Loader, answering_threads};
use tenon::batch::Sequence;
use tenon::bundles::Bundle;
use tenon::http::service::{Call, EmbedService as _};
use tenon::media::{FetchLimits, FetchPolicy, Fetcher};
use tenon::observability::Metrics;
use tenon::sandbox::{Sandbox, SandboxLimits};
use tenon::scheduler::{Scheduler, SchedulerOptions, Unobserved};
use tenon::service::{ImageReader, RequestLimits, Service};
use tenon_preprocess::{ImageLimits, Segment as TextSegment, TextTokenizer};
use tenon_sdk::native::{Environment, enter};
use tenon_sdk::request_parser::Guest as _;
use tenon_sdk::response_encoder::{
    Guest as EncoderGuest, GuestEncoding as _, ResponseInfo, Vectors,
};
use tenon_sdk::template::{Guest as _, RenderOptions, Segment};
use tenon_tensor::{DType, Device, Weights};
use tenon_tests::server::default_model;

const ENDPOINT: &str = "/v1/embeddings";
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let bundle = tenon::bundles::from_directory(default_model(), Some("model"))?;
    let device = Device::cpu(tenon_tensor::available_cpus())?;
    let options = SchedulerOptions::default();
    let sandboxed = Arc::new(sandboxed(&bundle, &device, &options)?);
    let native = Arc::new(Native::new(&bundle, &device, &options)?);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(answering_threads(device.threads()))
        .enable_all()
        .build()?;
    let body: Arc<str> = format!(
        r#"{{"model":"model","input":"{}"}}"#,
        "word ".repeat(14).trim()
    )
    .into();
    let same = runtime.block_on(async {
        anyhow::Ok((
            vectors(&sandboxed_call(&sandboxed, &body).await?)?,
            vectors(&native.call(&body).await?)?,
        ))
    })?;
    ensure!(same.0 == same.1, "the two ways give different vectors");

    for clients in [1, 32] {
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let components = runtime.block_on(load(clients, |()| {
                let (service, body) = (sandboxed.clone(), body.clone());
                async move { sandboxed_call(&service, &body).await }
            }))?;
            let compiled = runtime.block_on(load(clients, |()| {
                let (native, body) = (native.clone(), body.clone());
                async move { native.call(&body).await }
            }))?;
            pairs.push((components, compiled));
        }
        report(clients, &pairs);
    }
    Ok(())
}

/// Requests a second, and the median latency.
struct Round {
    per_s: f64,
    p50: Duration,
}

async fn load<F, T>(clients: usize, call: impl Fn(()) -> F) -> Result<Round>
where
    F: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let begin = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    let mut latencies = Vec::new();
    for _ in 0..clients {
        running.spawn(timed(call(())));
    }
    while let Some(done) = running.join_next().await {
        latencies.push(done??);
        if begin.elapsed() < ROUND {
            running.spawn(timed(call(())));
        }
    }
    let per_s = latencies.len() as f64 / begin.elapsed().as_secs_f64();
    latencies.sort();
    Ok(Round {
        per_s,
        p50: latencies[latencies.len() / 2],
    })
}

async fn timed<T>(call: impl Future<Output = Result<T>>) -> Result<Duration> {
    let begin = Instant::now();
    call.await?;
    Ok(begin.elapsed())
}

fn report(clients: usize, pairs: &[(Round, Round)]) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let tax = median(
        pairs
            .iter()
            .map(|(c, n)| 100.0 * (1.0 - c.per_s / n.per_s))
            .collect(),
    );
    let us = |round: &Round| round.p50.as_secs_f64() * 1e6;
    let added = median(pairs.iter().map(|(c, n)| us(c) - us(n)).collect());
    let components = median(pairs.iter().map(|(c, _)| c.per_s).collect());
    let compiled = median(pairs.iter().map(|(_, n)| n.per_s).collect());
    println!(
        "sandbox tax, {clients} clients, 16 tokens: components {components:.1}/s, native \
         {compiled:.1}/s; throughput tax {tax:.1} %, p50 latency {added:+.0} us \
         (medians of {} alternating rounds)",
        pairs.len()
    );
}

fn sandboxed(bundle: &Bundle, device: &Device, options: &SchedulerOptions) -> Result<Service> {
    let sandbox = Sandbox::new(SandboxLimits::default())?;
    let metrics = Arc::new(Metrics::new());
    let fetcher = Fetcher::new(FetchPolicy::default(), FetchLimits::default())?;
    let loader = Loader::new(device.clone(), sandbox, metrics, options.clone());
    Service::new(
        vec![Arc::new(loader.deploy(bundle)?)],
        RequestLimits::default(),
        ImageReader::new(fetcher, ImageLimits::default(), 1),
    )
}

async fn sandboxed_call(service: &Service, body: &str) -> Result<Vec<u8>> {
    let call = Call {
        endpoint: ENDPOINT,
        body: body.to_owned().into(),
        request_id: "bench".into(),
        arrived: Instant::now(),
    };
    let answer = service
        .embed(call)
        .await
        .map_err(|error| anyhow!("{error}"))?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(answer.chunks.concat())
}

/// The embeddings of an answer, as text.
fn vectors(body: &[u8]) -> Result<serde_json::Value> {
    let answer: serde_json::Value = serde_json::from_slice(body)?;
    Ok(answer["data"].clone())
}

/// The same life of a request, without a sandbox in it.
struct Native {
    template: Arc<Environment>,
    tokenizer: TextTokenizer,
    scheduler: Scheduler,
}

impl Native {
    fn new(bundle: &Bundle, device: &Device, options: &SchedulerOptions) -> Result<Self> {
        let weights = Weights::open(device, &bundle.weights_dir, DType::F32)?;
        let back = native::executor::<Bert>(bundle, device, &weights)?;
        Ok(Self {
            template: native::environment(bundle, &bundle.role_config.template, device, &weights),
            tokenizer: TextTokenizer::from_dir(&bundle.weights_dir)?,
            scheduler: Scheduler::start(options.clone(), vec![back], Arc::new(Unobserved)),
        })
    }

    async fn call(&self, body: &str) -> Result<Vec<u8>> {
        let begin = Instant::now();
        let refused = |error: tenon_sdk::types::ApiError| anyhow!(error.message);
        let request = OpenAi::parse(ENDPOINT.into(), body.as_bytes().to_vec()).map_err(refused)?;
        let options = RenderOptions {
            prompt_name: request.prompt_name,
            input_type: request.input_type,
            instruction: request.instruction,
            add_special_tokens: request.add_special_tokens,
        };
        let rendered = enter(self.template.clone(), || {
            Plain::render(request.inputs, Vec::new(), options)
        })
        .map_err(refused)?;
        let mut sequences = Vec::new();
        for input in &rendered {
            let segments: Vec<TextSegment<'_>> = input
                .segments
                .iter()
                .filter_map(|segment| match segment {
                    Segment::Text(text) => Some(TextSegment::Text(text)),
                    Segment::Tokens(ids) => Some(TextSegment::Tokens(ids)),
                    Segment::Image(_) => None,
                })
                .collect();
            let encoded = self
                .tokenizer
                .encode(&segments, input.add_special_tokens, None)?;
            sequences.push(Sequence {
                token_ids: encoded.token_ids,
                ..Sequence::default()
            });
        }
        let prompt_tokens = sequences.iter().map(|s| s.token_ids.len() as u32).collect();
        let rows = self
            .scheduler
            .submit(sequences, request.priority, None)?
            .await?;
        let rows: Vec<Vec<f32>> = rows.into_iter().collect::<Result<_, _>>()?;
        let encoding = <OpenAi as EncoderGuest>::Encoding::new(ResponseInfo {
            endpoint: ENDPOINT.into(),
            model: "model".into(),
            request_id: "bench".into(),
            created_s: 0,
            count: rows.len() as u32,
            prompt_tokens,
            elapsed_ms: begin.elapsed().as_secs_f64() * 1e3,
            state: request.state,
        });
        let dimensions = rows.first().map_or(0, Vec::len) as u32;
        let mut body = encoding.write(Vectors {
            dimensions,
            values: rows.concat(),
        });
        body.extend(encoding.finish());
        Ok(body)
    }
}
