//! Prompts that hold an instruction: `Instruct: TASK` and, on the next line, `Query:`. The
//! models of E5, GTE and Qwen3 are trained with them and take any task.

const BEFORE: &str = "Instruct: ";
const AFTER: &str = "\nQuery:";

/// The prompt with another instruction in it; none where it holds none.
pub fn replaced(prompt: &str, instruction: &str) -> Option<String> {
    let (_, after) = prompt.strip_prefix(BEFORE)?.split_once(AFTER)?;
    Some(format!("{BEFORE}{instruction}{AFTER}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn keeps_what_stands_around_the_instruction() {
        let replace = |prompt| replaced(prompt, "find");
        let e5 = replace("Instruct: old task\nQuery: ");
        assert_eq!(e5.as_deref(), Some("Instruct: find\nQuery: "));
        let qwen3 = replace("Instruct: old\nQuery:");
        assert_eq!(qwen3.as_deref(), Some("Instruct: find\nQuery:"));
        assert_eq!(replace("query: "), None);
        assert_eq!(replace("Instruct: old "), None);
        assert_eq!(replace(""), None);
    }
}
