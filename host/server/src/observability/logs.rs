//! Where log lines go, and which of them.

use tracing_subscriber::EnvFilter;

/// How a log line is written, to stderr either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `TENON_LOG` or `RUST_LOG` does not parse.
    #[error("reading the log filter in {variable}: {reason}")]
    Filter {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The process already has a logger.
    #[error("starting the log: {0}")]
    Start(String),
}

/// The environment variables that may hold a filter; the first one set wins.
const FILTER_VARIABLES: [&str; 2] = ["TENON_LOG", "RUST_LOG"];

/// Starts logging to stderr, filtered by `TENON_LOG`, else `RUST_LOG`, else at `info`.
pub fn init_logs(format: LogFormat) -> Result<(), LogError> {
    let filter = filter(|variable| std::env::var(variable).ok())?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| LogError::Start(error.to_string()))
}

fn filter(variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, LogError> {
    for name in FILTER_VARIABLES {
        let value = variable(name).filter(|value| !value.is_empty());
        if let Some(directives) = value {
            let parsed = EnvFilter::builder().parse(directives);
            return parsed.map_err(|error| LogError::Filter {
                variable: name,
                reason: error.to_string(),
            });
        }
    }
    Ok(EnvFilter::new("info"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_set_wins_and_nonsense_is_an_error() {
        let check = |tenon: &str, rust: &str, expected: &str| {
            let variable = |name: &str| {
                let value = if name == "TENON_LOG" { tenon } else { rust };
                Some(value.to_owned())
            };
            match filter(variable) {
                Ok(filter) => assert_eq!(filter.to_string(), expected),
                Err(error) => assert!(error.to_string().contains(expected), "{error}"),
            }
        };
        check("", "", "info");
        check("debug", "warn", "debug");
        check("", "warn", "warn");
        check("tenon=nonsense", "", "TENON_LOG");
    }
}
