"""What transformers answers for conversations: rendered as text, tokenized as it is, embedded."""

import torch
import transformers

# Like those of Qwen: a system message of its own, ends of messages, and the end of the text.
CHAT_TEMPLATE = """\
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nYou are a carpenter.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
{{- eos_token }}
"""

SHORT = [
    [("user", "Which joint holds without nails?")],
    [("system", "Answer like a carpenter."), ("user", "Which joint holds?\nThe tenon?")],
    [("user", "  spaces <|im_end|> and a special token, 榫卯  ")],
]
LONG = [
    [("user", "A tenon?"), ("assistant", "It fits a mortise."), ("user", "Without nails?")],
    [("system", "Be short."), ("user", "a"), ("assistant", "c\n\n"), ("user", "b")],
]
INSTRUCTION = "Find the passage that answers the question."


def gme(tokenizer, messages):
    """As the code beside the GME checkpoints writes it."""
    system = "You are a helpful assistant."
    if messages[0]["role"] == "system":
        system = messages[0]["content"]
    return (
        f"<|im_start|>system\n{system}<|im_end|>\n"
        f"<|im_start|>user\n{messages[-1]['content']}<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )


def own(tokenizer, messages):
    """The checkpoint's own template."""
    return tokenizer.apply_chat_template(messages, tokenize=False)


TEMPLATES = {"jinja": (own, SHORT + LONG), "gme-qwen2-vl": (gme, SHORT)}


def requests(conversations):
    """Requests, and the messages that each stands for."""
    for conversation in conversations:
        messages = [{"role": role, "content": content} for role, content in conversation]
        yield {"messages": messages}, messages
        if len(messages) == 1:
            # The same in parts, as a text, and with an instruction.
            content = messages[0]["content"]
            parts = [{"type": "text", "text": content}]
            yield {"messages": [{"role": "user", "content": parts}]}, messages
            yield {"input": content}, messages
            system = {"role": "system", "content": INSTRUCTION}
            yield {"input": content, "instruction": INSTRUCTION}, [system, *messages]


def answers(directory):
    """A template's name, a request, its tokens and its vector: the last token's, of length 1."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModel.from_pretrained(directory, dtype=torch.float32)
    for template, (render, conversations) in TEMPLATES.items():
        for request, messages in requests(conversations):
            text = render(tokenizer, messages)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                last = model(input_ids=ids).last_hidden_state[0, -1]
            vector = torch.nn.functional.normalize(last, dim=0).numpy()
            yield {"template": template, "request": request}, ids.shape[1], vector
