//! Every model family is served with the vectors and token counts of sentence-transformers.

use std::sync::OnceLock;

use serde_json::{Value, json};
use tenon_tests::families::{self, Case, Family};
use tenon_tests::goldens::max_abs_difference;
use tenon_tests::server::{Refusal, Server, vectors};

/// The largest absolute difference to the reference, as a part of the vector's length.
const TOLERANCE: f32 = 1e-5;

/// One server of all families, ended by a watchdog when the test process is gone.
fn server() -> &'static Server {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| {
        let families = families::all();
        start(&families).map_err(|refusal| refused(&families, &refusal))
    });
    started.as_ref().unwrap_or_else(|report| panic!("{report}"))
}

fn start<'a>(families: impl IntoIterator<Item = &'a Family>) -> Result<Server, Refusal> {
    let mut arguments = vec!["--dtype", "f32"];
    for family in families {
        let path = family.directory.to_str().expect("UTF-8 path");
        arguments.extend(["--model", path]);
    }
    Server::try_start(&arguments)
}

/// Names the families that are refused alone too.
fn refused(families: &[Family], together: &Refusal) -> String {
    let mut report = format!("the families did not start together: {}", together.log);
    for family in families {
        if let Err(Refusal { status, log }) = start([family]) {
            report += &format!("\n{} is refused ({status:?}):\n{log}", family.name);
        }
    }
    report
}

fn request(family: &Family, input: impl Into<Value>, prompt: Option<&str>) -> Value {
    let input: Value = input.into();
    let mut body = json!({
        "model": family.name, "input": input, "encoding_format": "base64",
        "truncate_prompt_tokens": -1,
    });
    if let Some(prompt) = prompt {
        body["prompt_name"] = prompt.into();
    }
    let answer = server().embeddings(&body);
    assert_eq!(
        answer.status,
        200,
        "{}, {input:?}: {}",
        family.name,
        answer.text()
    );
    answer.json()
}

/// The difference to the reference, and what is wrong.
fn compare(family: &Family, case: &Case) -> (f32, Vec<String>) {
    let answer = request(family, case.text.as_str(), case.prompt_name.as_deref());
    let vector = vectors(&answer).remove(0);
    if vector.len() != case.vector.len() {
        let (found, wanted) = (vector.len(), case.vector.len());
        return (
            f32::INFINITY,
            vec![format!("{found} dimensions, wanted {wanted}")],
        );
    }
    let difference = max_abs_difference(&vector, &case.vector) / length(&case.vector);
    let label = format!("{:.30?} (prompt {:?})", case.text, case.prompt_name);
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

fn length(vector: &[f32]) -> f32 {
    let squares = vector.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt() as f32
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn vectors_and_token_counts_equal_the_reference() {
    let mut wrong = Vec::new();
    for family in &families::all() {
        let mut worst = 0.0;
        for case in &family.cases {
            let (difference, found) = compare(family, case);
            worst = f32::max(worst, difference);
            let name = &family.name;
            wrong.extend(found.iter().map(|found| format!("{name}: {found}")));
        }
        let cases = family.cases.len();
        println!("{}: {cases} cases, max difference {worst:e}", family.name);
    }
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    server().assert_log_is_clean();
}

#[test]
fn vectors_are_the_same_to_the_bit_alone_and_shuffled_in_one_request() {
    for family in &families::all() {
        let cases = family.cases.iter();
        let plain = cases.filter(|case| case.prompt_name.is_none());
        let mut texts: Vec<&str> = plain.map(|case| case.text.as_str()).collect();
        let mut order = 0;
        texts.sort_by_cached_key(|_| {
            order += 7;
            order % 23
        });
        let together = vectors(&request(family, texts.clone(), None));
        assert_eq!(together.len(), texts.len(), "{}", family.name);
        for (text, vector) in texts.iter().zip(&together) {
            let alone = vectors(&request(family, *text, None)).remove(0);
            assert!(
                bits(&alone) == bits(vector),
                "{}: differs in company: {text:.40?}",
                family.name
            );
        }
    }
}
