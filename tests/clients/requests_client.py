"""Plain `requests`, with a session that keeps its connection."""

import requests
from common import MODEL, TEXTS, URL, report

with requests.Session() as session:
    for text in TEXTS:
        answer = session.post(f"{URL}/embeddings", json={"model": MODEL, "input": text}, timeout=60)
        answer.raise_for_status()
    answer = session.post(f"{URL}/embeddings", json={"model": MODEL, "input": TEXTS}, timeout=60)
    answer.raise_for_status()
    assert answer.headers["content-type"].startswith("application/json")
    bad = session.post(f"{URL}/embeddings", data=b"{", timeout=60)
    assert bad.status_code in (400, 415), bad.status_code
    assert set(bad.json()["error"]) == {"message", "type", "param", "code"}
    report([item["embedding"] for item in answer.json()["data"]])
