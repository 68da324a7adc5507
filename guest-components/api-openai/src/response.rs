//! Writing responses: straight into bytes, row by row.

use std::cell::Cell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tenon_sdk::response_encoder::{GuestEncoding, ResponseInfo, Vectors};
use tenon_sdk::types::ApiError;

use crate::ENCODE;
use crate::state::{State, VectorEncoding};

/// Bytes that a number of a vector commonly takes as text, with its comma.
const BYTES_PER_NUMBER: usize = 14;
/// Bytes that it takes in base64, rounded up.
const BYTES_PER_BASE64: usize = 6;
/// Bytes that a row takes besides its vector.
const BYTES_PER_ROW: usize = 160;

/// One answer being written.
pub struct Encoding {
    info: ResponseInfo,
    state: State,
    shape: AnswerShape,
    /// Rows written so far.
    written: Cell<usize>,
}

/// What an answer looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AnswerShape {
    /// OpenAI's object with a list `data`.
    OpenAi,
    /// SGLang's: a list of objects.
    SgLangList,
    /// SGLang's: one object.
    SgLangSingle,
}

impl GuestEncoding for Encoding {
    fn new(info: ResponseInfo) -> Self {
        let state = State::from_bytes(&info.state);
        let shape = match (info.endpoint == ENCODE, state.single) {
            (false, _) => AnswerShape::OpenAi,
            (true, false) => AnswerShape::SgLangList,
            (true, true) => AnswerShape::SgLangSingle,
        };
        Self {
            info,
            state,
            shape,
            written: Cell::new(0),
        }
    }

    fn content_type(&self) -> String {
        "application/json".to_owned()
    }

    fn write(&self, rows: Vectors) -> Vec<u8> {
        let bytes_per_value = match self.state.encoding {
            VectorEncoding::Float => BYTES_PER_NUMBER,
            VectorEncoding::Base64 => BYTES_PER_BASE64,
        };
        let dimensions = (rows.dimensions as usize).max(1);
        let vectors = rows.values.chunks_exact(dimensions);
        let row_bytes = dimensions
            .saturating_mul(bytes_per_value)
            .saturating_add(BYTES_PER_ROW);
        let mut out = Vec::with_capacity(vectors.len().saturating_mul(row_bytes));
        for vector in vectors {
            self.write_row(&mut out, vector);
        }
        out
    }

    fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.written.get() == 0 {
            out.extend_from_slice(self.opening());
        }
        match self.shape {
            AnswerShape::SgLangSingle => {}
            AnswerShape::SgLangList => out.push(b']'),
            AnswerShape::OpenAi => self.write_end(&mut out),
        }
        out
    }
}

impl Encoding {
    fn opening(&self) -> &'static [u8] {
        match self.shape {
            AnswerShape::OpenAi => br#"{"object":"list","data":["#,
            AnswerShape::SgLangList => b"[",
            AnswerShape::SgLangSingle => b"",
        }
    }

    fn write_row(&self, out: &mut Vec<u8>, vector: &[f32]) {
        let index = self.written.replace(self.written.get() + 1);
        out.extend_from_slice(if index == 0 { self.opening() } else { b"," });
        match self.shape {
            AnswerShape::OpenAi => {
                out.extend_from_slice(br#"{"object":"embedding","index":"#);
                write_json(out, &index);
                out.extend_from_slice(br#","embedding":"#);
                write_vector(out, vector, self.state.encoding);
            }
            AnswerShape::SgLangList | AnswerShape::SgLangSingle => {
                out.extend_from_slice(br#"{"embedding":"#);
                write_vector(out, vector, self.state.encoding);
                self.write_meta_info(out, index);
            }
        }
        out.push(b'}');
    }

    /// SGLang's notes on one input.
    fn write_meta_info(&self, out: &mut Vec<u8>, index: usize) {
        out.extend_from_slice(br#","meta_info":{"id":"#);
        match (self.state.ids.get(index), self.shape) {
            (Some(id), _) => write_json(out, id),
            (None, AnswerShape::SgLangSingle) => write_json(out, &self.info.request_id),
            (None, _) => write_json(out, &format!("{}_{index}", self.info.request_id)),
        }
        let tokens = self.info.prompt_tokens.get(index).copied().unwrap_or(0);
        out.extend_from_slice(br#","prompt_tokens":"#);
        write_json(out, &tokens);
        out.extend_from_slice(br#","e2e_latency":"#);
        write_json(out, &(self.info.elapsed_ms / 1000.0));
        out.push(b'}');
    }

    /// What follows OpenAI's `data`.
    fn write_end(&self, out: &mut Vec<u8>) {
        let tokens: u64 = self
            .info
            .prompt_tokens
            .iter()
            .map(|&tokens| u64::from(tokens))
            .sum();
        out.extend_from_slice(br#"],"model":"#);
        write_json(out, &self.info.model);
        out.extend_from_slice(br#","usage":{"prompt_tokens":"#);
        write_json(out, &tokens);
        out.extend_from_slice(br#","total_tokens":"#);
        write_json(out, &tokens);
        out.extend_from_slice(br#"},"id":"#);
        let id = &self.info.request_id;
        write_json(
            out,
            &format!("embd-{}", id.strip_prefix("embd-").unwrap_or(id)),
        );
        out.extend_from_slice(br#","created":"#);
        write_json(out, &self.info.created_s);
        if let Some(additional_data) = &self.state.additional_data {
            out.extend_from_slice(br#","additional_data":"#);
            out.extend_from_slice(additional_data.get().as_bytes());
        }
        out.push(b'}');
    }
}

/// Writes an error.
pub fn encode_error(error: &ApiError) -> Vec<u8> {
    let mut out = br#"{"error":{"message":"#.to_vec();
    write_json(&mut out, &error.message);
    out.extend_from_slice(br#","type":"#);
    write_json(&mut out, &error.kind);
    out.extend_from_slice(br#","param":"#);
    write_json(&mut out, &error.param);
    out.extend_from_slice(br#","code":"#);
    write_json(&mut out, &error.code);
    out.extend_from_slice(b"}}");
    out
}

fn write_vector(out: &mut Vec<u8>, vector: &[f32], encoding: VectorEncoding) {
    match encoding {
        VectorEncoding::Float => write_json(out, vector),
        VectorEncoding::Base64 => {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            out.push(b'"');
            let start = out.len();
            // Four letters a three bytes: room for all, so that nothing can be left out.
            out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
            let length = STANDARD
                .encode_slice(&bytes, &mut out[start..])
                .unwrap_or(0);
            out.truncate(start + length);
            out.push(b'"');
        }
    }
}

/// Appends plain values, which always can be written: numbers in the shortest form that
/// reads back as the same.
fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _infallible = serde_json::to_writer(out, value);
}
