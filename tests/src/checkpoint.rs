//! A tiny BERT checkpoint, written as a sentence-transformers directory, that a test can spoil.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::{Value, json};

/// Width of the hidden states, and of the vectors.
pub const HIDDEN: usize = 32;
/// The longest input in tokens.
pub const MAX_TOKENS: usize = 64;
/// The name of the word embeddings.
pub const WORD_EMBEDDINGS: &str = "embeddings.word_embeddings.weight";
const INTERMEDIATE: usize = 64;
const LAYERS: usize = 2;
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const WORDS: [&str; 16] = [
    "a", "the", "oak", "beam", "joint", "peg", "mortise", "tenon", "saw", "chisel", "wood",
    "grain", "cut", "fit", "glue", "poison",
];

/// One tensor of the checkpoint.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Element type in the file.
    pub dtype: Dtype,
    /// Dimensions in the file.
    pub shape: Vec<usize>,
    /// Little-endian values.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// An f32 tensor.
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    /// Its values, of an f32 tensor.
    pub fn values(&self) -> Vec<f32> {
        let values = self.bytes.chunks_exact(4);
        values
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }

    fn view(&self) -> TensorView<'_> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes).expect("consistent tensor")
    }
}

/// A checkpoint before it is written.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Stored>,
    /// JSON files by path inside the directory.
    pub files: BTreeMap<String, Value>,
}

/// How many tokens the vocabulary has.
pub fn vocabulary() -> usize {
    SPECIAL.len() + WORDS.len()
}

/// The id of a word of the vocabulary.
pub fn token_id(word: &str) -> usize {
    let mut tokens = SPECIAL.iter().chain(&WORDS);
    tokens
        .position(|token| *token == word)
        .expect("a word of the vocabulary")
}

impl Default for Checkpoint {
    /// A good checkpoint: two layers, mean pooling, normalised.
    fn default() -> Self {
        let files = [
            ("config.json", config()),
            ("tokenizer.json", tokenizer()),
            (
                "tokenizer_config.json",
                json!({"model_max_length": MAX_TOKENS}),
            ),
            (
                "sentence_bert_config.json",
                json!({"max_seq_length": MAX_TOKENS, "do_lower_case": false}),
            ),
            ("modules.json", modules()),
            (
                "1_Pooling/config.json",
                json!({
                    "word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": true,
                }),
            ),
        ];
        Self {
            tensors: tensors(),
            files: files.map(|(path, file)| (path.to_owned(), file)).into(),
        }
    }
}

impl Checkpoint {
    /// Writes the directory.
    pub fn write(&self, directory: &Path) {
        self.write_json(directory);
        let names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        fs::write(directory.join("model.safetensors"), self.serialized(&names)).expect("weights");
    }

    /// Writes the directory with its weights in two files and an index.
    pub fn write_sharded(&self, directory: &Path) {
        self.write_json(directory);
        let names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        let (first, second) = names.split_at(names.len() / 2);
        let mut map = HashMap::new();
        for (shard, names) in [
            ("model-00001-of-00002.safetensors", first),
            ("model-00002-of-00002.safetensors", second),
        ] {
            fs::write(directory.join(shard), self.serialized(names)).expect("shard");
            map.extend(names.iter().map(|name| (*name, shard)));
        }
        let total: usize = self.tensors.values().map(|tensor| tensor.bytes.len()).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        fs::write(
            directory.join("model.safetensors.index.json"),
            index.to_string(),
        )
        .expect("index");
    }

    /// The value at a JSON pointer of a file, to be changed.
    pub fn json(&mut self, file: &str, pointer: &str) -> &mut Value {
        let file = self.files.get_mut(file).expect("a file of the checkpoint");
        file.pointer_mut(pointer).expect("a key of the file")
    }

    fn write_json(&self, directory: &Path) {
        for (path, value) in &self.files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
            fs::write(path, value.to_string()).expect("file");
        }
    }

    fn serialized(&self, names: &[&str]) -> Vec<u8> {
        let views = names.iter().map(|name| (*name, self.tensors[*name].view()));
        serialize(views, None).expect("safetensors")
    }
}

fn config() -> Value {
    json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
        "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_attention_heads": 2,
        "num_hidden_layers": LAYERS, "layer_norm_eps": 1e-12, "type_vocab_size": 2,
        "max_position_embeddings": MAX_TOKENS, "vocab_size": vocabulary(), "pad_token_id": 0,
        "position_embedding_type": "absolute",
    })
}

fn modules() -> Value {
    let module = |idx: u32, path: &str, name: &str| {
        json!({"idx": idx, "name": idx.to_string(), "path": path,
            "type": format!("sentence_transformers.models.{name}")})
    };
    json!([
        module(0, "", "Transformer"),
        module(1, "1_Pooling", "Pooling"),
        module(2, "2_Normalize", "Normalize"),
    ])
}

fn tokenizer() -> Value {
    let tokens = SPECIAL.iter().chain(&WORDS);
    let vocabulary: HashMap<&str, usize> =
        tokens.enumerate().map(|(id, token)| (*token, id)).collect();
    let added = |id: usize| {
        json!({"id": id, "content": SPECIAL[id], "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let named = |token: &str| json!({"id": token, "ids": [token_id(token)], "tokens": [token]});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": (0..SPECIAL.len()).map(added).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("[CLS]"), sequence("A"), special("[SEP]")],
            "pair": [special("[CLS]"), sequence("A"), special("[SEP]"), sequence("B"), special("[SEP]")],
            "special_tokens": {"[CLS]": named("[CLS]"), "[SEP]": named("[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

fn tensors() -> BTreeMap<String, Stored> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut tensors = BTreeMap::new();
    let mut matrix = |name: &str, rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns).map(|_| 0.1 * noise.next()).collect();
        tensors.insert(name.to_owned(), Stored::f32(&[rows, columns], &values));
    };
    matrix(WORD_EMBEDDINGS, vocabulary(), HIDDEN);
    matrix("embeddings.position_embeddings.weight", MAX_TOKENS, HIDDEN);
    matrix("embeddings.token_type_embeddings.weight", 2, HIDDEN);
    for layer in 0..LAYERS {
        for (name, out, input) in LINEARS {
            matrix(&format!("encoder.layer.{layer}.{name}.weight"), out, input);
        }
    }
    for layer in 0..LAYERS {
        for (name, out, _) in LINEARS {
            let bias = Stored::f32(&[out], &vec![0.0; out]);
            tensors.insert(format!("encoder.layer.{layer}.{name}.bias"), bias);
        }
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            layer_norm(&mut tensors, &format!("encoder.layer.{layer}.{name}"));
        }
    }
    layer_norm(&mut tensors, "embeddings.LayerNorm");
    tensors
}

const LINEARS: [(&str, usize, usize); 6] = [
    ("attention.self.query", HIDDEN, HIDDEN),
    ("attention.self.key", HIDDEN, HIDDEN),
    ("attention.self.value", HIDDEN, HIDDEN),
    ("attention.output.dense", HIDDEN, HIDDEN),
    ("intermediate.dense", INTERMEDIATE, HIDDEN),
    ("output.dense", HIDDEN, INTERMEDIATE),
];

fn layer_norm(tensors: &mut BTreeMap<String, Stored>, name: &str) {
    tensors.insert(
        format!("{name}.weight"),
        Stored::f32(&[HIDDEN], &[1.0; HIDDEN]),
    );
    tensors.insert(
        format!("{name}.bias"),
        Stored::f32(&[HIDDEN], &[0.0; HIDDEN]),
    );
}

/// The same numbers between -1 and 1 on every run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
