//! What the model routes say, in the words of OpenAI and SGLang.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::respond::{self, Reply};
use super::service::ModelCard;
use crate::error::ApiError;

/// `/v1/models`.
pub(super) fn list(cards: &[ModelCard]) -> Reply {
    let data: Vec<Value> = cards.iter().map(card).collect();
    reply(&json!({"object": "list", "data": data}))
}

/// `/v1/models/{id}`, by name or alias.
pub(super) fn find(cards: &[ModelCard], id: &str) -> Result<Reply, ApiError> {
    let named = |card: &&ModelCard| card.name == id || card.aliases.iter().any(|a| a == id);
    match cards.iter().find(named) {
        Some(found) => Ok(reply(&card(found))),
        None => Err(ApiError {
            status: 404,
            ..ApiError::invalid(format!("The model {id:?} does not exist."), Some("model"))
                .with_code("model_not_found")
        }),
    }
}

/// `/model_info`: the first model at the top, as a server of one model would have it, and
/// all of them below.
pub(super) fn info(cards: &[ModelCard]) -> Result<Reply, ApiError> {
    let Some(first) = cards.first() else {
        return Err(ApiError::overloaded(503, "No model is loaded yet.", 1));
    };
    let mut info = details(first);
    info["models"] = cards.iter().map(details).collect();
    Ok(reply(&info))
}

fn card(card: &ModelCard) -> Value {
    json!({
        "id": card.name,
        "object": "model",
        "created": card.created_s,
        "owned_by": "tenon",
        "root": card.source,
        "parent": null,
        "max_model_len": card.max_tokens,
    })
}

fn details(card: &ModelCard) -> Value {
    json!({
        "model_path": card.source,
        "tokenizer_path": card.source,
        "is_generation": false,
        "served_model_name": card.name,
        "max_tokens": card.max_tokens,
        "dimensions": card.dimensions,
        "is_matryoshka": card.matryoshka,
        "dtype": card.dtype,
    })
}

fn reply(body: &Value) -> Reply {
    respond::json(StatusCode::OK, body.to_string())
}
