//! Batch policy, with no threads and made-up times.

use super::*;

fn sequences(lengths: &[usize]) -> Vec<Sequence> {
    let sequence = |&length| Sequence {
        token_ids: vec![7; length],
        ..Sequence::default()
    };
    lengths.iter().map(sequence).collect()
}

/// A queue of requests 0, 1, ... given as (priority, lengths), pushed in this order.
fn queue(requests: &[(i32, &[usize])]) -> (Queue, Instant) {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (id, (priority, lengths)) in requests.iter().enumerate() {
        queue.push(id as u64, sequences(lengths), *priority, None, now);
    }
    (queue, now)
}

/// The next batch as (request, row) pairs.
fn take(queue: &mut Queue, now: Instant, max_tokens: usize) -> Vec<(u64, usize)> {
    let taken = queue.take(now, max_tokens);
    let picked = taken.batch.iter();
    picked.map(|picked| (picked.request, picked.row)).collect()
}

#[test]
fn packs_whole_sequences_up_to_the_budget() {
    let (mut queue, now) = queue(&[(0, &[4, 4, 4])]);
    assert_eq!(take(&mut queue, now, 10), [(0, 0), (0, 1)]);
    assert_eq!(queue.sequences(), 1);
    assert_eq!(queue.tokens(), 4);
    assert_eq!(take(&mut queue, now, 10), [(0, 2)]);
    assert_eq!(take(&mut queue, now, 10), []);
    assert!(queue.requests.is_empty() && queue.order.is_empty());
}

#[test]
fn runs_a_sequence_over_the_budget_alone() {
    let (mut queue, now) = queue(&[(0, &[30]), (0, &[2])]);
    assert_eq!(take(&mut queue, now, 10), [(0, 0)]);
    assert_eq!(take(&mut queue, now, 10), [(1, 0)]);
}

#[test]
fn a_budget_of_zero_still_makes_progress() {
    let (mut queue, now) = queue(&[(0, &[3, 3])]);
    assert_eq!(take(&mut queue, now, 0), [(0, 0)]);
    assert_eq!(take(&mut queue, now, 0), [(0, 1)]);
}

#[test]
fn fills_a_batch_from_many_requests() {
    let (mut queue, now) = queue(&[(0, &[3]), (0, &[3]), (0, &[3])]);
    assert_eq!(take(&mut queue, now, 10), [(0, 0), (1, 0), (2, 0)]);
}

#[test]
fn serves_higher_priority_first_then_arrival() {
    let (mut queue, now) = queue(&[(0, &[5]), (1, &[5]), (-1, &[5]), (1, &[5])]);
    assert_eq!(take(&mut queue, now, 10), [(1, 0), (3, 0)]);
    assert_eq!(take(&mut queue, now, 10), [(0, 0), (2, 0)]);
}

#[test]
fn a_small_request_behind_a_large_one_runs_in_the_next_batch() {
    let (mut queue, now) = queue(&[(0, &[5; 100])]);
    assert_eq!(take(&mut queue, now, 10).len(), 2);
    queue.push(1, sequences(&[5]), 0, None, now);
    assert_eq!(take(&mut queue, now, 10), [(0, 2), (1, 0)]);
}

#[test]
fn large_requests_advance_together() {
    let (mut queue, now) = queue(&[(0, &[5; 100]), (0, &[5; 100])]);
    for _ in 0..10 {
        let batch = take(&mut queue, now, 20);
        let of_first = batch.iter().filter(|(request, _)| *request == 0).count();
        assert_eq!(of_first, 2);
    }
}

#[test]
fn a_stream_of_small_requests_does_not_starve_a_large_one() {
    let (mut queue, now) = queue(&[(0, &[10; 20])]);
    let mut batches = 0;
    while queue.requests.contains_key(&0) {
        batches += 1;
        assert!(batches <= 50, "the large request is starved");
        queue.push(batches, sequences(&[5]), 0, None, now);
        take(&mut queue, now, 15);
    }
}

#[test]
fn a_sequence_that_does_not_fit_begins_the_next_batch() {
    let (mut queue, now) = queue(&[(0, &[6]), (0, &[8]), (0, &[4]), (0, &[4])]);
    assert_eq!(take(&mut queue, now, 10), [(0, 0), (2, 0)]);
    queue.push(4, sequences(&[4]), 0, None, now);
    assert_eq!(take(&mut queue, now, 10), [(1, 0)]);
    assert_eq!(take(&mut queue, now, 10), [(3, 0), (4, 0)]);
}

#[test]
fn passes_over_a_bounded_number_of_requests() {
    let mut requests: Vec<(i32, &[usize])> = vec![(0, &[6])];
    requests.extend(vec![(0, &[8][..]); MAX_PASSED_OVER]);
    requests.push((0, &[4]));
    let (mut queue, now) = queue(&requests);
    assert_eq!(take(&mut queue, now, 10), [(0, 0)]);
    assert_eq!(queue.sequences(), MAX_PASSED_OVER + 1);
}

#[test]
fn a_removed_request_is_never_taken() {
    let (mut queue, now) = queue(&[(0, &[5, 5, 5]), (0, &[5])]);
    assert_eq!(take(&mut queue, now, 5), [(0, 0)]);
    queue.remove(0);
    queue.remove(0);
    assert_eq!((queue.sequences(), queue.tokens()), (1, 5));
    assert_eq!(take(&mut queue, now, 100), [(1, 0)]);
}

#[test]
fn reports_expired_requests_instead_of_taking_them() {
    let (mut queue, now) = queue(&[]);
    let second = Duration::from_secs(1);
    queue.push(0, sequences(&[5]), 0, Some(now + second), now);
    queue.push(1, sequences(&[5]), 0, Some(now + 3 * second), now);
    let taken = queue.take(now + 2 * second, 100);
    assert_eq!(taken.expired, [0]);
    assert_eq!(taken.batch.len(), 1);
    assert_eq!(taken.waits, [2 * second]);
    assert!(queue.deadlines.is_empty());
}

#[test]
fn reports_the_wait_of_a_request_once() {
    let (mut queue, now) = queue(&[(0, &[5, 5])]);
    assert_eq!(queue.take(now, 5).waits.len(), 1);
    assert_eq!(queue.take(now, 5).waits.len(), 0);
}

/// Random arrivals, cancels and budgets: every sequence is taken once and in order, or
/// belongs to a cancelled request, and no batch breaks the budget.
#[test]
fn takes_every_sequence_exactly_once() {
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        (seed >> 33) % below
    };
    for _ in 0..200 {
        let (mut queue, now) = queue(&[]);
        let budget = 1 + random(40) as usize;
        let mut expected: HashMap<u64, (usize, usize)> = HashMap::new(); // taken, of
        let mut cancelled = std::collections::HashSet::new();
        for id in 0..30 {
            let count = 1 + random(12) as usize;
            let lengths: Vec<usize> = (0..count).map(|_| 1 + random(50) as usize).collect();
            let priority = random(3) as i32;
            queue.push(id, sequences(&lengths), priority, None, now);
            expected.insert(id, (0, count));
            if random(4) == 0 {
                let id = random(id + 1);
                queue.remove(id);
                cancelled.insert(id);
            }
            if random(2) == 0 {
                check_batch(&mut queue, now, budget, &mut expected, &cancelled);
            }
        }
        while check_batch(&mut queue, now, budget, &mut expected, &cancelled) {}
        for (id, (taken, of)) in expected {
            assert!(taken == of || cancelled.contains(&id), "request {id}");
        }
        assert_eq!((queue.sequences(), queue.tokens()), (0, 0));
        assert!(queue.requests.is_empty() && queue.order.is_empty());
    }
}

fn check_batch(
    queue: &mut Queue,
    now: Instant,
    budget: usize,
    expected: &mut HashMap<u64, (usize, usize)>,
    cancelled: &std::collections::HashSet<u64>,
) -> bool {
    let batch = queue.take(now, budget).batch;
    let tokens: usize = batch.iter().map(|p| p.sequence.token_ids.len()).sum();
    assert!(tokens <= budget || batch.len() == 1);
    for picked in &batch {
        assert!(!cancelled.contains(&picked.request));
        let (taken, _) = expected.get_mut(&picked.request).unwrap();
        assert_eq!(picked.row, *taken, "out of order");
        *taken += 1;
    }
    !batch.is_empty()
}
