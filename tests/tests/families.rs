//! Every model family is served with the vectors and token counts of sentence-transformers.

use std::sync::OnceLock;

use tenon_tests::families::{self, Family};
use tenon_tests::reference::{assert_batch_invariant, assert_equal, assert_near};
use tenon_tests::server::{Refusal, Server};

/// One server of all families, ended by a watchdog when the test process is gone.
fn server() -> &'static Server {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| {
        let families = families::all();
        start(&families, "f32").map_err(|refusal| refused(&families, &refusal))
    });
    started.as_ref().unwrap_or_else(|report| panic!("{report}"))
}

fn start<'a>(
    families: impl IntoIterator<Item = &'a Family>,
    dtype: &str,
) -> Result<Server, Refusal> {
    let mut arguments = vec!["--dtype", dtype];
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
        if let Err(Refusal { status, log }) = start([family], "f32") {
            report += &format!("\n{} is refused ({status:?}):\n{log}", family.name);
        }
    }
    report
}

#[test]
fn vectors_and_token_counts_equal_the_reference() {
    assert_equal(server(), &families::all());
}

#[test]
fn vectors_in_bf16_point_where_the_references_do() {
    let families = families::all();
    match start(&families, "bf16") {
        Ok(server) => assert_near(&server, &families),
        Err(Refusal { log, .. }) => panic!("{log}"),
    }
}

#[test]
fn vectors_are_the_same_to_the_bit_alone_and_shuffled_in_one_request() {
    for family in &families::all() {
        assert_batch_invariant(server(), family);
    }
}
