//! Orders and reports arrive as they were sent; anything else is an error.

use super::*;

fn batch() -> PackedBatch {
    PackedBatch {
        token_ids: vec![101, 7, 102, 101, 102],
        cu_seqlens: vec![0, 3, 5],
        pool: vec![
            PoolOptions {
                excluded_tokens: 1,
                dimensions: None,
            },
            PoolOptions {
                excluded_tokens: 0,
                dimensions: Some(64),
            },
        ],
        images: vec![PlacedImage {
            start: 1,
            rows: 1,
            columns: 1,
            pixels: Pixels::new(3, 2, (0..18).collect()).unwrap(),
        }],
    }
}

fn plan() -> BackPlan {
    BackPlan {
        bundle: "a bundle".into(),
        weights_dir: "/models/é".into(),
        dtype: ServedDtype::Bf16,
        checkpoint_is_bf16: true,
        checkpoint_config: "{}".into(),
        model: PlannedRole {
            component: ComponentSource::Builtin("bert".into()),
            config: "{\"a\":1}".into(),
        },
        pooling: PlannedRole {
            component: ComponentSource::File("pooling.wasm".into()),
            config: "{}".into(),
        },
    }
}

const LANE: Lane = Lane {
    deployment: 3,
    slot: 1,
};

fn orders() -> [Vec<u8>; 2] {
    [Order::load(3, &plan()), Order::execute(LANE, &batch())]
}

fn reports() -> Vec<Vec<u8>> {
    let facts = BackFacts {
        model: ModelInfo {
            hidden_size: 8,
            max_tokens: Some(512),
            vocab_size: 100,
            images: false,
            pooled: true,
        },
        pooling: PoolingInfo {
            dimensions: 8,
            matryoshka: true,
            matryoshka_dimensions: vec![4, 8],
        },
        dtype: DType::BF16,
    };
    let device = DeviceFacts {
        name: "cuda:0 (a device)".into(),
        batches_in_flight: 2,
    };
    let failure = ComponentFailure {
        bundle: "a bundle".into(),
        role: Role::Pooling,
        component: "pooling.wasm".into(),
        reason: "trap: unreachable".into(),
    };
    let output = BatchOutput {
        rows: vec![
            Ok(vec![0.5, -0.0, f32::MIN_POSITIVE]),
            Err(RowError::NotFinite),
        ],
        forward: Duration::from_nanos(7),
        pooling: Duration::from_secs(3),
        sandbox: Duration::ZERO,
    };
    let reports = [
        Report::Opened(Ok(device)),
        Report::Opened(Err("cuda: there is none".into())),
        Report::Loaded(2, Ok(facts)),
        Report::Loaded(2, Err("a tensor is missing".into())),
        Report::Failed(failure),
        Report::Ran(LANE, Ok(output)),
        Report::Ran(LANE, Err(ExecuteError::Component("a trap".into()))),
        Report::Ran(LANE, Err(ExecuteError::Unavailable("a wait".into()))),
        Report::Ran(LANE, Err(ExecuteError::Lost("the device".into()))),
    ];
    reports.iter().map(Report::encode).collect()
}

#[test]
fn orders_arrive_as_they_were_sent() {
    let [load, execute] = orders();
    assert_eq!(Order::decode(&load), Ok(Order::Load(3, Box::new(plan()))));
    assert_eq!(Order::decode(&execute), Ok(Order::Execute(LANE, batch())));
}

#[test]
fn reports_arrive_as_they_were_sent() {
    for frame in reports() {
        let report = Report::decode(&frame).unwrap();
        assert_eq!(report.encode(), frame, "{report:?}");
    }
}

#[test]
fn a_frame_cut_off_anywhere_or_with_a_byte_more_is_an_error() {
    for frame in orders() {
        for end in 0..frame.len() {
            assert!(Order::decode(&frame[..end]).is_err(), "{end}");
        }
        assert!(Order::decode(&[&frame[..], &[0]].concat()).is_err());
    }
    for frame in reports() {
        for end in 0..frame.len() {
            assert!(Report::decode(&frame[..end]).is_err(), "{end}");
        }
        assert!(Report::decode(&[&frame[..], &[0]].concat()).is_err());
    }
}

#[test]
fn a_frame_with_any_byte_changed_is_read_without_a_panic() {
    for frame in orders().into_iter().chain(reports()) {
        for at in 0..frame.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = frame.clone();
                changed[at] ^= change;
                let _ = Order::decode(&changed);
                let _ = Report::decode(&changed);
            }
        }
    }
}

#[test]
fn sequences_that_contradict_their_tokens_are_refused() {
    for cu_seqlens in [vec![], vec![1, 5], vec![0, 6], vec![0, 4], vec![0, 7, 5]] {
        let wrong = PackedBatch {
            cu_seqlens,
            ..batch()
        };
        let refused = Order::decode(&Order::execute(LANE, &wrong));
        assert!(refused.is_err(), "{wrong:?}");
    }
}
