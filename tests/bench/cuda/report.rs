//! Tables of what was measured on a GPU, as it is measured, and their ratios at the end.

/// What a figure is; none: not measured.
pub type Figure = Option<f64>;

/// Packed batches of inputs of one length.
#[derive(Debug, Default)]
pub struct Throughput {
    /// Tokens of an input.
    pub tokens: usize,
    /// Floating-point operations a token.
    pub flop_per_token: f64,
    /// The device's limit of products in bf16, read before and after: operations a second.
    pub peak: Figure,
    /// Tokens a second on the device.
    pub device: Figure,
    /// The same over HTTP.
    pub http: Figure,
    /// The same of torch on the device.
    pub torch: Figure,
    /// The same of sentence-transformers from texts to vectors.
    pub encode: Figure,
}

/// One input alone.
#[derive(Debug, Default)]
pub struct Latency {
    /// Its tokens.
    pub tokens: usize,
    /// Milliseconds on the device, for each way to run it: as it is served comes first.
    pub device: Vec<(&'static str, Figure)>,
    /// The same over HTTP.
    pub http: Figure,
    /// The same of torch on the device.
    pub torch: Figure,
}

/// Components against the same code without a sandbox.
#[derive(Debug, Default)]
pub struct Tax {
    /// Tokens of an input.
    pub tokens: usize,
    /// Tokens a second of components, and of native code.
    pub tokens_per_s: Option<(f64, f64)>,
    /// Milliseconds of one input in components, and in native code.
    pub latency_ms: Option<(f64, f64)>,
}

/// All that was measured of one model.
#[derive(Debug, Default)]
pub struct Measured {
    /// The model.
    pub name: &'static str,
    /// Packed batches.
    pub throughput: Vec<Throughput>,
    /// Lone inputs.
    pub latency: Vec<Latency>,
    /// The sandbox.
    pub tax: Option<Tax>,
}

impl Throughput {
    /// The share of the device's limit.
    fn share(&self) -> Figure {
        ratio(self.flops(), self.peak)
    }

    /// Floating-point operations a second.
    fn flops(&self) -> Figure {
        Some(self.device? * self.flop_per_token)
    }

    /// The headline of rows.
    pub fn headline() {
        println!(
            "{:>6} {:>8} {:>8} {:>12} {:>8} {:>12} {:>7} {:>12} {:>8} {:>12} {:>8}",
            "tokens",
            "GFLOP/t",
            "of peak",
            "device tok/s",
            "TFLOP/s",
            "HTTP tok/s",
            "of dev.",
            "torch tok/s",
            "dev./t.",
            "s-t tok/s",
            "HTTP/s-t"
        );
    }

    /// One row.
    pub fn row(&self) {
        println!(
            "{:>6} {:>8.3} {:>8} {:>12} {:>8} {:>12} {:>7} {:>12} {:>8} {:>12} {:>8}",
            self.tokens,
            self.flop_per_token / 1e9,
            percent(self.share()),
            number(self.device, 0),
            format!("{}/{}", tera(self.flops()), tera(self.peak)),
            number(self.http, 0),
            percent(ratio(self.http, self.device)),
            number(self.torch, 0),
            times(ratio(self.device, self.torch)),
            number(self.encode, 0),
            times(ratio(self.http, self.encode)),
        );
    }
}

impl Latency {
    /// One row.
    pub fn row(&self) {
        print!("{:>6} tokens alone, p50 ms:", self.tokens);
        for (way, figure) in &self.device {
            let against = ratio(self.torch, *figure);
            let (figure, against) = (number(*figure, 3), times(against));
            print!("  {way} {figure} ({against} as fast as torch)");
        }
        let (http, torch) = (number(self.http, 3), number(self.torch, 3));
        println!("  HTTP {http}  torch {torch}");
    }

    /// The first way, as it is served.
    fn served(&self) -> Figure {
        self.device.first().and_then(|(_, figure)| *figure)
    }
}

impl Tax {
    /// One row.
    pub fn row(&self) {
        print!("{:>6} tokens, sandbox:", self.tokens);
        if let Some((components, native)) = self.tokens_per_s {
            print!(
                "  {components:.0} tok/s, native {native:.0}: {}",
                self.throughput()
            );
        }
        if let Some((components, native)) = self.latency_ms {
            print!(
                "  alone {components:.3} ms, native {native:.3}: {}",
                self.latency()
            );
        }
        println!();
    }

    fn throughput(&self) -> String {
        let tax = |(components, native)| format!("{:.1} %", 100.0 * (1.0 - components / native));
        self.tokens_per_s.map_or("-".to_owned(), tax)
    }

    fn latency(&self) -> String {
        let tax = |(components, native)| format!("{:+.0} us", 1e3 * (components - native));
        self.latency_ms.map_or("-".to_owned(), tax)
    }
}

/// The ratios of all models.
pub fn ratios(all: &[Measured]) {
    println!("\nratios, in the order of the lengths measured");
    for model in all {
        let rows = &model.throughput;
        let lengths: Vec<String> = rows.iter().map(|row| row.tokens.to_string()).collect();
        println!("{}, {} tokens", model.name, lengths.join("/"));
        let line =
            |what: &str, figures: Vec<String>| println!("    {what:<37}{}", figures.join(" "));
        let each = |show: fn(&Throughput) -> String| rows.iter().map(show).collect();
        line("device, of the bf16 peak", each(|it| percent(it.share())));
        line(
            "HTTP, of the device",
            each(|it| percent(ratio(it.http, it.device))),
        );
        line(
            "device, against torch",
            each(|it| times(ratio(it.device, it.torch))),
        );
        line(
            "HTTP, against sentence-transformers",
            each(|it| times(ratio(it.http, it.encode))),
        );
        let alone = model.latency.iter().map(|it| {
            let against = times(ratio(it.torch, it.served()));
            format!("{against} at {}", it.tokens)
        });
        line("alone, speed against torch", alone.collect());
        if let Some(tax) = &model.tax {
            let (batches, alone) = (tax.throughput(), tax.latency());
            line("sandbox tax", vec![batches, format!("and {alone} alone")]);
        }
    }
}

fn ratio(of: Figure, to: Figure) -> Figure {
    Some(of? / to?)
}

fn number(figure: Figure, digits: usize) -> String {
    figure.map_or("-".to_owned(), |it| format!("{it:.digits$}"))
}

fn tera(figure: Figure) -> String {
    number(figure.map(|it| it / 1e12), 0)
}

fn percent(figure: Figure) -> String {
    figure.map_or("-".to_owned(), |it| format!("{:.1}%", 100.0 * it))
}

fn times(figure: Figure) -> String {
    figure.map_or("-".to_owned(), |it| format!("{it:.2}x"))
}
