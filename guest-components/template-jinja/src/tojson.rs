//! The filter `tojson` as transformers defines it: Python's `json.dumps` without escapes
//! for HTML.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

/// Spaces a level that a template may ask for.
const MAX_INDENT: usize = 16;

/// Writes a value as JSON, indented by `indent` spaces if the template says so.
pub fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    match indent {
        None => dump(&value, PythonFormatter),
        Some(indent @ ..=MAX_INDENT) => {
            dump(&value, PrettyFormatter::with_indent(&b" ".repeat(indent)))
        }
        Some(indent) => {
            let detail = format!("tojson: indent is {indent}; the limit is {MAX_INDENT}");
            Err(Error::new(ErrorKind::InvalidOperation, detail))
        }
    }
}

fn dump(value: &Value, formatter: impl Formatter) -> Result<Value, Error> {
    let mut json = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut json, formatter));
    let failed = |detail: String| Error::new(ErrorKind::BadSerialization, detail);
    written.map_err(|error| failed(error.to_string()))?;
    let json = String::from_utf8(json).map_err(|error| failed(error.to_string()))?;
    Ok(Value::from_safe_string(json))
}

/// One line, with a space after each comma and colon.
struct PythonFormatter;

impl PythonFormatter {
    fn separate<W: ?Sized + io::Write>(writer: &mut W, first: bool) -> io::Result<()> {
        match first {
            true => Ok(()),
            false => writer.write_all(b", "),
        }
    }
}

impl Formatter for PythonFormatter {
    fn begin_array_value<W>(&mut self, writer: &mut W, first: bool) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        Self::separate(writer, first)
    }

    fn begin_object_key<W>(&mut self, writer: &mut W, first: bool) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        Self::separate(writer, first)
    }

    fn begin_object_value<W>(&mut self, writer: &mut W) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        writer.write_all(b": ")
    }
}
