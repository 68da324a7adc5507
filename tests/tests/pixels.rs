//! An image decoded, sized by the model's template, resampled and cut into patches has the
//! pixel values of the reference's image processors.

use std::fs;
use std::sync::Arc;

use safetensors::SafeTensors;
use serde_json::json;
use tenon::app::Loader;
use tenon::observability::Metrics;
use tenon::sandbox::{ImageRun, Rendered, Sandbox, SandboxLimits};
use tenon::scheduler::SchedulerOptions;
use tenon::service::Deployment;
use tenon_preprocess::{Image, ImageLimits, Size};
use tenon_tensor::{
    Account, Context, DType, Device, PatchOptions, Patches, PixelOptions, Pixels, ops,
};
use tenon_tests::multimodal::{bytes, data_uri, folder};

/// The largest difference to the reference, which computes in f32 too.
const TOLERANCE: f32 = 1e-6;

const MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
const DEVIATION: [f32; 3] = [0.26862954, 0.261_302_6, 0.275_777_1];

/// How a checkpoint's model cuts what it sees: side of a patch, patches of a block's side,
/// frames.
const CUTS: [(&str, u32, u32, usize); 3] = [
    ("clip", 8, 1, 1),
    ("clip-sentence-transformers", 10, 1, 1),
    ("gme-qwen2-vl", 14, 2, 2),
];

fn context() -> Context {
    Context {
        device: Device::cpu(1).expect("a device"),
        account: Account::new(1 << 30),
        dtype: DType::F32,
    }
}

fn deploy(name: &str) -> Deployment {
    let bundle = tenon::bundles::from_directory(&folder().join(name), None).expect("a bundle");
    let sandbox = Sandbox::new(SandboxLimits::default()).expect("a sandbox");
    let metrics = Arc::new(Metrics::new());
    let loader = Loader::new(
        context().device,
        sandbox,
        metrics,
        SchedulerOptions::default(),
    );
    loader.deploy(&bundle).expect("a deployment")
}

/// How the template of `deployment` wants an image of this name and size to be shown.
fn rendered(deployment: &Deployment, name: &str, size: Size) -> ImageRun {
    let body = json!({"model": "any", "input": [{"image": data_uri(name)}]});
    let render = async {
        let front = &deployment.front;
        let parsed = front.parse("/v1/embeddings", body.to_string().into()).await;
        let rendered = front.render(&mut parsed.expect("a request"), &[size]).await;
        let runs = rendered.expect("an input");
        let mut runs = runs.iter().flat_map(Rendered::images);
        *runs.next().expect("an image")
    };
    let runtime = tokio::runtime::Runtime::new();
    runtime.expect("a runtime").block_on(render)
}

/// The pixel values of every patch, and the grid of patches.
fn seen(run: &ImageRun, image: &Image, cut: (u32, u32, usize)) -> (Vec<f32>, [i32; 2]) {
    let (size, merge, frames) = cut;
    let seen = image.resample(run.resize, run.crop).expect("resampled");
    let Size { width, height } = seen.size();
    let pixels = Pixels::new(width, height, seen.into_rgb()).expect("pixels");
    let options = PatchOptions {
        size,
        merge,
        leading: 0,
    };
    let patches = Patches::cut(vec![pixels], options).expect("patches");
    let how = PixelOptions {
        frames,
        mean: MEAN,
        deviation: DEVIATION,
    };
    let values = ops::pixels(&context(), &patches, &how).expect("pixel values");
    let grid = [height / size, width / size].map(|side| side as i32);
    (values.to_f32().expect("values"), grid)
}

/// The reference's value for every one of `frames` equal frames, from its bytes.
fn wanted(bytes: &[u8], place_count: usize, frames: usize) -> Vec<f32> {
    let mut values = Vec::new();
    for (index, places) in bytes.chunks_exact(place_count).enumerate() {
        let channel = index % 3;
        let value = |byte: &u8| {
            let value = f64::from(*byte) / 255.0 - f64::from(MEAN[channel]);
            (value / f64::from(DEVIATION[channel])) as f32
        };
        for _ in 0..frames {
            values.extend(places.iter().map(value));
        }
    }
    values
}

#[test]
fn pixel_values_equal_those_of_the_reference() {
    let file = fs::read(folder().join("pixels.safetensors")).expect("goldens");
    let goldens = SafeTensors::deserialize(&file).expect("safetensors");
    for (checkpoint, side, merge, frames) in CUTS {
        let deployment = deploy(checkpoint);
        let images = goldens.names().into_iter().filter_map(|name| {
            let image = name.strip_prefix(checkpoint)?.strip_prefix('/')?;
            (!image.contains('/')).then_some((name, image))
        });
        let mut worst = 0.0;
        let mut count = 0;
        for (name, image_name) in images {
            let image = Image::decode(&bytes(image_name), &ImageLimits::default());
            let image = image.expect(image_name);
            let run = rendered(&deployment, image_name, image.size());
            let (found, grid) = seen(&run, &image, (side, merge, frames));
            let golden_grid = goldens.tensor(&format!("{name}/grid")).expect("a grid");
            let wanted_grid = grid.map(i32::to_le_bytes).concat();
            assert_eq!(
                golden_grid.data(),
                wanted_grid,
                "{name}: the grid is {grid:?}"
            );
            let golden = goldens.tensor(name).expect("bytes");
            let wanted = wanted(golden.data(), (side * side) as usize, frames);
            assert_eq!(found.len(), wanted.len(), "{name}");
            for (found, wanted) in found.iter().zip(&wanted) {
                worst = f32::max(worst, (found - wanted).abs());
            }
            count += 1;
        }
        println!("{checkpoint}: {count} images, max difference {worst:e}");
        assert!(count >= 9, "{checkpoint}: {count} images");
        assert!(worst <= TOLERANCE, "{checkpoint}: differs by {worst:e}");
    }
}
