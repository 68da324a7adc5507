//! The back half: batches, failures, and the way back from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenon::batch::{BatchOutput, ExecuteError, Executor, RowError};
use tenon::sandbox::{BackHalf, Sandbox};

use crate::guests;
use crate::setup::{back, batch, limits, sandbox};

fn good() -> BackHalf {
    back(&sandbox(), &guests::model(""), &guests::pooling(""))
        .unwrap()
        .0
}

fn with_model(before: &str) -> BackHalf {
    back(&sandbox(), &guests::model(before), &guests::pooling(""))
        .unwrap()
        .0
}

fn run(back: &mut BackHalf, ids: &[u32]) -> Result<BatchOutput, ExecuteError> {
    back.execute(&batch(&[(ids, None)]))
}

#[track_caller]
fn component_error(result: Result<BatchOutput, ExecuteError>, words: &str) {
    match result {
        Err(ExecuteError::Component(error)) => {
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
        other => panic!("{words:?} was wanted, not {other:?}"),
    }
}

#[test]
fn tells_what_the_components_say() {
    let (_, model, pooling) = back(&sandbox(), &guests::model(""), &guests::pooling("")).unwrap();
    assert_eq!(
        (model.hidden_size, model.max_tokens, model.vocab_size),
        (4, None, 8)
    );
    assert_eq!((pooling.dimensions, pooling.matryoshka), (4, true));
}

#[test]
fn a_batch_gives_a_vector_a_sequence() {
    let output = good()
        .execute(&batch(&[(&[1, 2], None), (&[5], None)]))
        .unwrap();
    let rows: Vec<_> = output.rows.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows, [vec![1.5; 4], vec![5.0; 4]]);
    assert!(output.sandbox <= output.forward + output.pooling);
}

#[test]
fn sequences_of_one_length_of_vector_are_pooled_together() {
    let sequences: [(&[u32], _); 4] = [
        (&[1], Some(2)),
        (&[2, 4], None),
        (&[3], Some(2)),
        (&[6], Some(1)),
    ];
    let output = good().execute(&batch(&sequences)).unwrap();
    let rows: Vec<_> = output.rows.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows, [vec![1.0; 2], vec![3.0; 4], vec![3.0; 2], vec![6.0]]);
}

#[test]
fn a_row_that_is_not_finite_is_an_error_of_its_own() {
    let output = good()
        .execute(&batch(&[(&[1], None), (&[7, 1], None), (&[2], None)]))
        .unwrap();
    assert_eq!(
        output.rows,
        [Ok(vec![1.0; 4]), Err(RowError::NotFinite), Ok(vec![2.0; 4])]
    );
}

#[test]
fn batches_leave_nothing_behind() {
    let mut back = good();
    let before = (back.handles(), back.device_bytes());
    for ids in [&[1, 2, 3][..], &[4], &[7]] {
        for _ in 0..100 {
            run(&mut back, ids).unwrap();
        }
    }
    assert_eq!((back.handles(), back.device_bytes()), before);
}

#[test]
fn an_error_of_an_operation_is_the_batchs_and_keeps_the_store() {
    let mut back = good();
    let before = back.handles();
    for _ in 0..10 {
        component_error(run(&mut back, &[8]), "id 8 of a table of 8 rows");
        run(&mut back, &[1]).unwrap();
    }
    assert_eq!(back.handles(), before);
}

#[test]
fn forward_failures_are_the_batchs_own() {
    // Each fails for a batch, of which the first is the first call in its store.
    let once =
        |code: &str| format!("(if (i32.eq (global.get $calls) (i32.const 2)) (then {code}))");
    let cases = [
        ("(loop $l (br $l))", "computed for longer than"),
        ("(unreachable)", "unreachable"),
        ("(drop (call $recurse (i32.const 0)))", "stack"),
        ("(call $drop_tensor (i32.const 999))", "handle"),
        ("(call $drop_tensor (local.get $batch))", "handle"),
        ("(call $drop_indices (global.get $table))", "handle"),
        ("(call $drop_batch (local.get $batch)) (drop (call $token_ids (local.get $batch)))", "handle"),
        ("(call $drop_tensor (global.get $table)) (call $drop_tensor (global.get $table))", "handle"),
        ("(loop $l (drop (call $token_ids (local.get $batch))) (br $l))", "index lists"),
        ("(return (i32.const 0x7ffffff0))", ""),
        ("(i32.store8 (i32.const 2048) (i32.const 0)) (i32.store (i32.const 2052) (i32.const 99))
          (call $drop_batch (local.get $batch)) (return (i32.const 2048))", "handle"),
        ("(return (i32.const 2048))", "borrow"),
    ];
    for (code, words) in cases {
        let mut back = with_model(&once(code));
        run(&mut back, &[1]).unwrap();
        println!("{code}");
        component_error(run(&mut back, &[1]), words);
        // The first replacement is immediate.
        assert_eq!(run(&mut back, &[2]).unwrap().rows, [Ok(vec![2.0; 4])]);
    }
}

#[test]
fn pool_failures_are_the_batchs_own() {
    for (code, words) in [
        ("(loop $l (br $l))", "computed for longer than"),
        ("(unreachable)", "unreachable"),
        ("(call $drop_tensor (local.get $layout))", "handle"),
    ] {
        let pooling = guests::pooling(code);
        let (mut back, ..) = back(&sandbox(), &guests::model(""), &pooling).unwrap();
        component_error(run(&mut back, &[1]), words);
    }
}

#[test]
fn hidden_states_of_another_shape_are_refused() {
    let wider = guests::model_with("", "(i32.store offset=4 (i32.const 1024) (i32.const 5))");
    let (mut back, ..) = back(&sandbox(), &wider, &guests::pooling("")).unwrap();
    component_error(run(&mut back, &[1, 2]), "shape [2, 4] where [2, 5]");
}

#[test]
fn handles_that_are_kept_run_out_and_come_back() {
    // Keeps one more index list with every batch.
    let mut back = with_model("(drop (call $token_ids (local.get $batch)))");
    let mut failures = 0;
    for _ in 0..3 * limits().max_handles {
        match run(&mut back, &[1]) {
            Ok(_) => assert!(back.handles() <= limits().max_handles),
            Err(ExecuteError::Component(_)) => failures += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..=4).contains(&failures), "{failures} failures");
}

#[test]
fn device_bytes_over_the_quota_fail_and_come_back() {
    let mut limits = limits();
    limits.device_bytes = 200;
    let sandbox = Sandbox::new(limits).unwrap();
    let (mut back, ..) = back(&sandbox, &guests::model(""), &guests::pooling("")).unwrap();
    run(&mut back, &[1]).unwrap();
    component_error(run(&mut back, &[1; 100]), "model.wasm");
    run(&mut back, &[1]).unwrap();
}

#[test]
fn a_component_that_always_traps_is_backed_off_from() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let mut back = with_model("(unreachable)").with_on_failure(Arc::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    component_error(run(&mut back, &[1]), "unreachable");
    component_error(run(&mut back, &[1]), "unreachable");
    let unavailable = run(&mut back, &[1]);
    assert!(
        matches!(unavailable, Err(ExecuteError::Unavailable(_))),
        "{unavailable:?}"
    );
    std::thread::sleep(limits().rebuild_backoff + Duration::from_millis(20));
    component_error(run(&mut back, &[1]), "unreachable");
    assert_eq!(count.load(Ordering::Relaxed), 3);
}
