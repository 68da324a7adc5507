//! A server's answers held against those of the reference.

use serde_json::{Value, json};

use crate::families::{Case, Family};
use crate::goldens::{cosine, max_abs_difference};
use crate::server::{Server, vectors};

/// The largest absolute difference to the reference in f32, as a part of the vector's length.
pub const TOLERANCE: f32 = 1e-5;

/// The least cosine to the reference where products are of bf16.
pub const LEAST_COSINE: f64 = 0.999;

/// Asks for one vector or several; the test fails unless the answer is 200.
#[track_caller]
pub fn ask(server: &Server, family: &Family, request: &Value) -> Value {
    let mut body = request.clone();
    body["model"] = family.name.as_str().into();
    body["encoding_format"] = "base64".into();
    body["truncate_prompt_tokens"] = json!(-1);
    let answer = server.embeddings(&body);
    let (status, text) = (answer.status, answer.text());
    assert_eq!(status, 200, "{}, {request}: {text}", family.name);
    answer.json()
}

/// Wants the vectors and token counts of every case; prints how far off each family is.
#[track_caller]
pub fn assert_equal(server: &Server, families: &[Family]) {
    let mut wrong = Vec::new();
    for family in families {
        let name = &family.name;
        let mut worst = 0.0;
        for case in &family.cases {
            let (difference, found) = compare(server, family, case);
            worst = f32::max(worst, difference);
            wrong.extend(found.iter().map(|found| format!("{name}: {found}")));
        }
        let cases = family.cases.len();
        println!("{name}: {cases} cases, max difference {worst:e}");
    }
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    server.assert_log_is_clean();
}

/// The difference to the reference, and what is wrong.
fn compare(server: &Server, family: &Family, case: &Case) -> (f32, Vec<String>) {
    let answer = ask(server, family, &case.request);
    let vector = vectors(&answer).remove(0);
    let label = format!("{:.60}", case.request.to_string());
    if vector.len() != case.vector.len() {
        let (found, wanted) = (vector.len(), case.vector.len());
        let wrong = format!("{label}: {found} dimensions, wanted {wanted}");
        return (f32::INFINITY, vec![wrong]);
    }
    let difference = max_abs_difference(&vector, &case.vector) / length(&case.vector);
    let mut wrong = Vec::new();
    if difference > TOLERANCE || vector.iter().any(|value| !value.is_finite()) {
        wrong.push(format!("{label}: differs by {difference:e}"));
    }
    let tokens = &answer["usage"]["prompt_tokens"];
    if *tokens != case.tokens {
        wrong.push(format!("{label}: {tokens} tokens, wanted {}", case.tokens));
    }
    (difference, wrong)
}

/// Wants every vector to point where that of the reference in f32 does; prints how near each
/// family comes.
#[track_caller]
pub fn assert_near(server: &Server, families: &[Family]) {
    let mut wrong = Vec::new();
    for family in families {
        let name = &family.name;
        let mut least = 1.0;
        // Of a few first elements little may be left but rounding.
        let whole = |case: &&Case| case.request.get("dimensions").is_none();
        for case in family.cases.iter().filter(whole) {
            let vector = vectors(&ask(server, family, &case.request)).remove(0);
            let cosine = cosine(&vector, &case.vector);
            least = f64::min(least, cosine);
            if !cosine.is_finite() || cosine < LEAST_COSINE {
                wrong.push(format!(
                    "{name}: {:.60}: {cosine}",
                    case.request.to_string()
                ));
            }
        }
        println!("{name}: least cosine {least:.6}");
    }
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    server.assert_log_is_clean();
}

/// How near two servers' vectors of a family are: the least cosine of a case, and its average.
pub fn cosines_between(one: &Server, other: &Server, family: &Family) -> (f64, f64) {
    let whole = |case: &&Case| case.request.get("dimensions").is_none();
    let cosines: Vec<f64> = family
        .cases
        .iter()
        .filter(whole)
        .map(|case| {
            let vectors = [one, other].map(|it| vectors(&ask(it, family, &case.request)).remove(0));
            cosine(&vectors[0], &vectors[1])
        })
        .collect();
    // A NaN is the least of all.
    let less = |least: f64, it: f64| match it.is_nan() || it < least {
        true => it,
        false => least,
    };
    let least = cosines.iter().copied().fold(1.0, less);
    (least, cosines.iter().sum::<f64>() / cosines.len() as f64)
}

fn length(vector: &[f32]) -> f32 {
    let squares = vector.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt() as f32
}

/// Wants an input's vector to be the same to the bit, alone and shuffled among all others.
#[track_caller]
pub fn assert_batch_invariant(server: &Server, family: &Family) {
    let mut inputs: Vec<&Value> = family.cases.iter().filter_map(Case::plain_input).collect();
    let mut order = 0;
    inputs.sort_by_cached_key(|_| {
        order += 7;
        order % 23
    });
    let together = vectors(&ask(server, family, &json!({"input": inputs})));
    assert_eq!(together.len(), inputs.len(), "{}", family.name);
    for (input, vector) in inputs.iter().zip(&together) {
        let alone = vectors(&ask(server, family, &json!({"input": [input]}))).remove(0);
        assert!(
            bits(&alone) == bits(vector),
            "{}: differs in company: {:.60}",
            family.name,
            input.to_string()
        );
    }
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|value| value.to_bits()).collect()
}
